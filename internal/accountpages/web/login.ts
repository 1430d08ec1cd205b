// Logging in: by password, passkey or mailed code, with a second factor where the account has one.
import { post, Refused, type Answer } from "./api.ts";
import { config, text, time } from "./config.ts";
import { deviceName } from "./device.ts";
import { digits, one, onForm, onPress, say, show, step, Stopped, toldOf, write, alarm } from "./dom.ts";
import { askFactor, onFactor, waysOf } from "./factors.ts";
import { appName, leave, noteApp } from "./leave.ts";
import * as passkey from "./passkey.ts";
import * as session from "./session.ts";

/** Whether the owner wants to keep an account that is to be deleted. */
let keep = false;
/** What to do again once they do. */
let again: (() => Promise<void>) | undefined;
let challenge = "";
let removed = false;

/** Goes on after a method that may answer with tokens or with a challenge. */
async function follow(answer: Answer): Promise<void> {
  if (answer.challenge) {
    const ways = waysOf(answer.challenge.factors ?? []);
    const options: string = answer.challenge.optionsJson ?? "";
    challenge = answer.challenge.challengeToken;
    askFactor({ totp: ways.totp, recovery: ways.recovery, passkey: options ? async () => options : undefined });
    step("factor");
    one('[data-step="factor"] form:not([hidden]) input')?.focus();
    return;
  }
  removed = !!answer.passwordRemoved;
  await session.begin(answer);
  await arrived(answer);
}

let arrived = async (_: Answer): Promise<void> => (removed ? step("removed") : leave());

/** Lets a page do something else with a login that is done. */
export const onArrival = (handle: (answer: Answer) => Promise<void>): void => void (arrived = handle);

/** Runs a login, and asks first if it would keep an account that is to be deleted. */
async function guarded(what: () => Promise<void>): Promise<void> {
  try {
    await what();
  } catch (error) {
    if (!(error instanceof Refused) || error.reason !== "ACCOUNT_DISABLED" || !error.metadata.delete_time) throw error;
    again = what;
    write("deletion", text("deletion", { time: time(error.metadata.delete_time) }));
    step("deletion");
  }
}

/** Logs in with a password. */
export const logIn = (email: string, password: string): Promise<void> =>
  guarded(async () => follow(await session.enter("AuthService/Login", {
    email, password, deviceName: deviceName(), deviceToken: await session.deviceToken(email), cancelDeletion: keep,
  })));

const answerPasskey = (challengeToken: string, passkeyJson: string): Promise<void> =>
  guarded(async () => follow(await session.enter("AuthService/AnswerChallenge", { challengeToken, passkeyJson, deviceName: deviceName(), cancelDeletion: keep })));

async function logInByPasskey(): Promise<void> {
  const begun = await post("AuthService/StartPasskeyLogin", {});
  await answerPasskey(begun.challengeToken, await passkey.use(begun.optionsJson));
}

/** How long the options of a passkey login are offered: the service takes them for five minutes. */
const offerTime = 4 * 60_000;

async function offerPasskeys(): Promise<void> {
  if (!(await passkey.canOffer())) return;
  for (;;) {
    let renewed = false;
    try {
      const begun = await post("AuthService/StartPasskeyLogin", {});
      const timer = setTimeout(() => {
        renewed = true;
        passkey.stopOffer();
      }, offerTime);
      const answer = await passkey.offer(begun.optionsJson).finally(() => clearTimeout(timer));
      await answerPasskey(begun.challengeToken, answer);
      return;
    } catch (error) {
      if (renewed) continue;
      if (!(error instanceof Stopped)) alarm(toldOf(error));
      return;
    }
  }
}

/** What pages that end in a login share. */
export function wireChallenge(): void {
  onFactor((proof) => guarded(async () => follow(await session.enter("AuthService/AnswerChallenge", {
    challengeToken: challenge, ...proof, deviceName: deviceName(), cancelDeletion: keep,
  }))));
  onPress("keep", async () => {
    keep = true;
    await again?.();
  });
  onPress("continue", async () => {
    try {
      await leave();
    } catch (error) {
      // An app gets a code only after a recent proof, and only with the second factor of an account that has one.
      if (!(error instanceof Refused) || !["FRESH_LOGIN_REQUIRED", "FACTOR_REQUIRED"].includes(error.reason)) throw error;
      await session.end();
      begin();
      say(text("SESSION_ENDED"));
    }
  });
  onPress("other", async () => {
    await session.end();
    begin();
  });
}

/** Shows the first step, unless there is a session already. */
export async function greet(): Promise<void> {
  noteApp();
  if (session.maybe() && (await session.open().catch(() => false))) {
    const { user } = await session.call("AccountService/GetAccount", {});
    write("continue", config.return ? text("continue_app", { email: user.email, app: appName() }) : text("continue_as", { email: user.email }));
    return step("continue");
  }
  begin();
}

function begin(): void {
  if (config.return) write("to", text("to", { app: appName() }));
  step("start");
  one('[data-step="start"] input')?.focus();
}

let proving = { email: "", password: "" };

/** Asks for the code that was mailed to an address. known: somebody is logged in, and may do it later. */
export function prove(email: string, password: string, known: boolean): void {
  proving = { email, password };
  write("prove", text("prove", { email }));
  show('[data-action="later"]', known);
  step("prove");
  one("#prove-code")?.focus();
}

export function wireProve(): void {
  onForm("prove", async ({ code }) => {
    const { email, password } = proving;
    await post("AuthService/VerifyEmail", { email, code: digits(code), password });
    if (session.accessToken()) return leave();
    await logIn(email, password);
  });
  onPress("resend", async () => {
    await post("AuthService/ResendVerification", { email: proving.email });
    say(text("resent"));
  });
  onPress("later", leave);
}

export async function loginPage(): Promise<void> {
  wireChallenge();
  wireProve();
  onForm("login", async ({ email = "", password = "" }) => {
    passkey.stopOffer();
    try {
      await logIn(email, password);
    } catch (error) {
      if (!(error instanceof Refused) || error.reason !== "EMAIL_NOT_VERIFIED") throw error;
      prove(email, password, false);
    }
  });
  onPress("passkey", logInByPasskey);
  show("[data-passkeys]", passkey.possible());
  const email = sessionStorage.getItem("latchkey.email");
  if (email) (one<HTMLInputElement>("#email")!).value = email;
  await greet();
  if (!one('[data-step="start"]')?.hidden) await offerPasskeys();
}

export async function codePage(): Promise<void> {
  wireChallenge();
  let token = "";
  let address = "";
  onForm("send-code", async ({ email = "" }) => {
    token = (await post("AuthService/SendLoginCode", { email })).challengeToken;
    address = email;
    write("mailed", text("code_mailed", { email }));
    step("mailed");
    one("#mailed-code")?.focus();
  });
  onForm("mailed-code", async ({ code }) => {
    await follow(await session.enter("AuthService/AnswerChallenge", {
      challengeToken: token, emailCode: digits(code), deviceName: deviceName(), deviceToken: await session.deviceToken(address),
    }));
  });
  onPress("removed", leave);
  await greet();
}

export async function signupPage(): Promise<void> {
  wireChallenge();
  wireProve();
  onForm("signup", async ({ email = "", password = "", first_name, last_name }) => {
    const { user } = await post("AuthService/SignUp", { email, password, firstName: first_name, lastName: last_name });
    if (!user) return prove(email, password, false); // the service hides its accounts
    onArrival(async (answer) => (answer.user.emailVerified || !config.verification ? leave() : prove(email, password, true)));
    try {
      await logIn(email, password);
    } catch (error) {
      if (!(error instanceof Refused) || error.reason !== "EMAIL_NOT_VERIFIED") throw error;
      onArrival(leave);
      prove(email, password, false);
    }
  });
  await greet();
}
