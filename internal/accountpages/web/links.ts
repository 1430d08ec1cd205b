// Pages that mailed links lead to. Nothing happens until a button is pressed: programs that look at mails open links.
import { post, Refused } from "./api.ts";
import { text } from "./config.ts";
import { deviceName } from "./device.ts";
import { digits, dropFragment, fragment, one, onForm, onPress, say, show, step, write } from "./dom.ts";
import { pointOnward } from "./leave.ts";
import * as session from "./session.ts";

/** Goes on to the login with this address. */
const remember = (email: string): void => sessionStorage.setItem("latchkey.email", email);

export async function verifyPage(): Promise<void> {
  const token = fragment().get("token");
  let known = session.maybe() && (await session.open().catch(() => false));
  if (known) {
    const { user } = await session.call("AccountService/GetAccount", {});
    // If this account is proved already, the link is of another one: without its password that would lose it.
    known = !user.emailVerified;
    if (known) {
      write("as", text("verify_as", { email: user.email }));
      if (!token) one<HTMLInputElement>("#email")!.value = user.email;
    }
  }
  show("[data-needs-password]", !known);
  const bearer = (): string | undefined => (known ? session.accessToken() : undefined);

  const verify = async (body: object, password?: string): Promise<void> => {
    const answer = await post("AuthService/VerifyEmail", { ...body, password: password || undefined }, bearer());
    dropFragment();
    const email: string = answer.user.email;
    pointOnward();
    if (answer.passwordRemoved) {
      one<HTMLAnchorElement>("[data-onward]")!.href = "/account/forgot";
      write("verified", text("verified_removed", { email }));
    } else if (known || (password && (await tryLogin(email, password)))) {
      pointOnward("/account/security");
      write("verified", text("verified", { email }));
    } else {
      write("verified", text("verified", { email }));
    }
    remember(email);
    step("done");
  };
  onForm("verify-link", async ({ password }) => {
    const field = one<HTMLInputElement>("#link-password")!;
    field.required = !known;
    if (!known && !password) {
      field.reportValidity();
      return;
    }
    await verify({ token }, password);
  });
  onPress("verify-without", () => verify({ token }));
  onForm("verify-code", ({ email, code, password }) => verify({ email, code: digits(code) }, password));
  onPress("verify-resend", async () => {
    const field = one<HTMLInputElement>("#email")!;
    if (!field.value) return void field.focus();
    await post("AuthService/ResendVerification", { email: field.value });
    say(text("resent"));
  });
  step(token ? "link" : "code");
}

/** Logs in after a proof, unless the account asks for more than the password. */
async function tryLogin(email: string, password: string): Promise<boolean> {
  try {
    const answer = await session.enter("AuthService/Login", { email, password, deviceName: deviceName(), deviceToken: await session.deviceToken(email) });
    if (!answer.tokens) return false;
    await session.begin(answer);
    return true;
  } catch (error) {
    if (error instanceof Refused) return false;
    throw error;
  }
}

export function forgotPage(): void {
  onForm("forgot", async ({ email = "" }) => {
    await post("AuthService/ForgotPassword", { email });
    remember(email);
    write("mailed", text("forgot_mailed", { email }));
    step("done");
  });
  const email = sessionStorage.getItem("latchkey.email");
  if (email) one<HTMLInputElement>("#email")!.value = email;
  pointOnward();
  step("start");
  one("#email")?.focus();
}

export function resetPage(): void {
  const token = fragment().get("token");
  onForm("reset", async ({ new_password }) => {
    await post("AuthService/ResetPassword", { token, newPassword: new_password });
    dropFragment();
    session.ended(); // the service has ended all sessions
    pointOnward();
    step("done");
  });
  step(token ? "start" : "none");
}

export function emailPage(): void {
  const secret = fragment();
  const token = secret.get("token");
  onForm("email-confirm", async () => {
    await post("AuthService/ConfirmEmailChange", { token });
    dropFragment();
    step("done");
  });
  onForm("email-code", async ({ email, code }) => {
    await post("AuthService/ConfirmEmailChange", { email, code: digits(code) });
    step("done");
  });
  onForm("email-undo", async () => {
    await post("AuthService/UndoEmailChange", { token });
    dropFragment();
    session.ended();
    step("undone");
  });
  step(!token ? "code" : secret.has("undo") ? "undo" : "confirm");
}
