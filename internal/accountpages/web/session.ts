// The session of this browser. The refresh token is in a cookie that no script can read, the access token in memory.
import { post, Refused, type Answer } from "./api.ts";

/** Says that this browser may have a session, so that a page for everybody need not ask. It is no secret. */
const hint = "latchkey.session";
/** The id of a refresh that has no answer yet: a repeat with it gets the same tokens (AIP-155). */
const pending = "latchkey.refresh";
const devices = "latchkey.device.";

/** The answers to RefreshToken and Logout that say that there is no such session. No other answer does. */
const ends = ["REFRESH_TOKEN_INVALID", "REFRESH_TOKEN_REUSED", "SESSION_ENDED"];

/** Runs while no other tab does: each of these answers may set the cookie. */
const alone = <T>(task: () => Promise<T>): Promise<T> => navigator.locks.request("latchkey.refresh", task) as Promise<T>;

let token = "";
export let sessionId = "";

const tabs = new BroadcastChannel("latchkey");

/** Calls back when the session was ended in another tab. */
export function onEnd(ended: () => void): void {
  tabs.onmessage = () => ended();
}

/** Whether this browser had a session when it last looked. */
export const maybe = (): boolean => localStorage.getItem(hint) !== null;

function take(tokens: Answer): void {
  token = tokens.accountToken || tokens.accessToken;
  sessionId = tokens.sessionId;
  localStorage.setItem(hint, "1");
}

function forget(): void {
  token = sessionId = "";
  localStorage.removeItem(hint);
  localStorage.removeItem(pending);
}

/** Makes a call that may begin a session. A refresh under way would bring the cookie of the session before back. */
export const enter = (method: string, body: object): Promise<Answer> => alone(() => post(method, body));

/** Takes the answer of a login. */
export async function begin(answer: Answer): Promise<void> {
  take(answer.tokens);
  localStorage.removeItem(pending);
  if (answer.deviceToken && answer.user) localStorage.setItem(await deviceKey(answer.user.email), answer.deviceToken);
}

/** Keeps the device token of a new password. */
export async function keepDevice(email: string, deviceToken: string): Promise<void> {
  if (deviceToken) localStorage.setItem(await deviceKey(email), deviceToken);
}

/** The device token of an account, for its next login. */
export async function deviceToken(email: string): Promise<string | undefined> {
  return localStorage.getItem(await deviceKey(email)) ?? undefined;
}

// The address itself is not kept: other people may use this browser.
async function deviceKey(email: string): Promise<string> {
  const sum = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(email.trim().toLowerCase()));
  return devices + Array.from(new Uint8Array(sum).slice(0, 16), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const wait = (milliseconds: number): Promise<void> => new Promise((done) => setTimeout(done, milliseconds));

/**
 * Gets an access token by the cookie. Returns whether there is a session. One tab refreshes at a time: two at once would
 * use one refresh token twice. The id stays until there is an answer, also if this tab is closed before.
 */
export function refresh(): Promise<boolean> {
  return alone(async () => {
    let id = localStorage.getItem(pending);
    if (!id) localStorage.setItem(pending, (id = crypto.randomUUID()));
    for (let attempt = 0; ; attempt++) {
      let answer: Answer;
      try {
        answer = await post("AuthService/RefreshToken", { requestId: id });
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        if (ends.includes(error.reason)) {
          forget();
          return false;
        }
        if (!error.passing || attempt === 4) throw error;
        await wait(300 * 2 ** attempt);
        continue;
      }
      localStorage.removeItem(pending);
      if (sessionId && answer.tokens.sessionId !== sessionId) throw replaced();
      take(answer.tokens);
      return true;
    }
  });
}

/**
 * Leaves the page: the cookie is of another login in this browser, perhaps of somebody else. What the page shows, and the
 * call that waits, are of the account before.
 */
function replaced(): Refused {
  token = sessionId = "";
  dispatchEvent(new Event("latchkey-ended"));
  return new Refused("SESSION_ENDED", "unauthenticated");
}

let opening: Promise<boolean> | undefined;

/** Returns whether there is a session, and refreshes if there is no access token yet. */
export function open(): Promise<boolean> {
  if (token) return Promise.resolve(true);
  opening ??= refresh().finally(() => (opening = undefined));
  return opening;
}

const over = ["TOKEN_INVALID", "SESSION_ENDED", "USER_NOT_FOUND", "ACCOUNT_DISABLED"];

/** Calls a method with the access token, and with a newer one if that has expired. */
export async function call(method: string, body: object): Promise<Answer> {
  for (let again = false; ; again = true) {
    try {
      return await post(method, body, token);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (error.reason === "TOKEN_EXPIRED" && !again) {
        token = "";
        if (await open()) continue;
      }
      if (over.includes(error.reason) || error.reason === "TOKEN_EXPIRED") {
        forget();
        tabs.postMessage("ended");
        dispatchEvent(new Event("latchkey-ended"));
      }
      throw error;
    }
  }
}

/** Takes the access token of Reauthenticate. Older ones do not become fresh. */
export function renew(answer: Answer): void {
  token = answer.accountToken || answer.accessToken;
}

export const accessToken = (): string => token;

/** Ends the session, here and on the service. If it throws, the session goes on: the cookie is still there. */
export async function end(): Promise<void> {
  await alone(() => post("AuthService/Logout", {}).catch((error: unknown) => {
    if (!(error instanceof Refused) || !ends.includes(error.reason)) throw error;
  }));
  forget();
  tabs.postMessage("ended");
}

/** Forgets a session that the service has ended. */
export function ended(): void {
  forget();
  tabs.postMessage("ended");
}
