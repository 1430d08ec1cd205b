// Some calls want to know that the owner is here now. The page asks in place, and calls again.
import { post, Refused, type Answer } from "./api.ts";
import { one, onForm, onPress, show, Stopped } from "./dom.ts";
import { askFactor, onFactor, waysOf, type Proof } from "./factors.ts";
import { loginFor } from "./leave.ts";
import * as session from "./session.ts";

let done: ((proved: boolean) => void) | undefined;
let challenge = "";
let email = "";

const dialog = (): HTMLDialogElement => one<HTMLDialogElement>("#fresh")!;

/** Calls a method, and once more after the owner has proved to be here. */
export async function callFresh(method: string, body: object = {}): Promise<Answer> {
  for (;;) {
    try {
      return await session.call(method, body);
    } catch (error) {
      if (!(error instanceof Refused) || !["FRESH_LOGIN_REQUIRED", "FACTOR_REQUIRED"].includes(error.reason)) throw error;
      if (!(await prove())) throw new Stopped("");
    }
  }
}

async function prove(): Promise<boolean> {
  const { factors } = await session.call("AccountService/ListFactors", {});
  const ways = waysOf(factors ?? []);
  const second = ways.totp || ways.passkey;
  show('form[data-form="fresh-password"]', ways.password && !second);
  show('[data-way="none"]', !ways.password && !second);
  askFactor({
    totp: ways.totp, recovery: second && ways.recovery,
    passkey: ways.passkey ? start : undefined,
  });
  const password = one<HTMLInputElement>("#fresh-password")!;
  password.value = "";
  one<HTMLInputElement>('#fresh [name="username"]')!.value = email;
  dialog().showModal();
  return new Promise((resolve) => (done = resolve));
}

async function start(): Promise<string> {
  const begun = await post("AuthService/StartPasskeyLogin", {});
  challenge = begun.challengeToken;
  return begun.optionsJson;
}

async function take(proof: Proof | { password: string }): Promise<void> {
  const body = "passkeyJson" in proof ? { ...proof, challengeToken: challenge } : proof;
  session.renew(await session.call("AccountService/Reauthenticate", body));
  finish(true);
}

function finish(proved: boolean): void {
  const told = done;
  done = undefined;
  dialog().close();
  told?.(proved);
}

/** Wires the dialog. page is the one to come back to if only a new login helps. */
export function wireFresh(page: string): void {
  onForm("fresh-password", ({ password }) => take({ password: password ?? "" }));
  onFactor(take);
  onPress("fresh-cancel", () => finish(false));
  dialog().addEventListener("close", () => finish(false));
  const again = one<HTMLAnchorElement>("[data-again]")!;
  again.addEventListener("click", (event) => {
    event.preventDefault();
    void session.end().finally(() => location.assign(loginFor(page)));
  });
}

/** Whose password the browser may fill in. */
export const freshFor = (address: string): void => void (email = address);
