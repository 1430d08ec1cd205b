// Where a login leads.
import { config, type Return } from "./config.ts";
import { call } from "./session.ts";

/** The query of a login for an app that is not done yet, for the page that a mailed link opens in another tab. */
const waiting = "latchkey.app";
/** An app that waits longer than this is not waiting any more, and a browser may have another user by then. */
const patience = 60 * 60_000;

/** Notes that an app waits for the login on this page. */
export function noteApp(): void {
  if (config.return) localStorage.setItem(waiting, JSON.stringify({ query: location.search, until: Date.now() + patience }));
}

/** Lets the links onward lead to the login for the app that waits in this browser. The server checks the query again. */
export function pointOnward(otherwise = "/account/login"): void {
  const { query = "", until = 0 } = JSON.parse(localStorage.getItem(waiting) ?? "{}") as { query?: string; until?: number };
  const waits = query.startsWith("?") && Date.now() < until && until <= Date.now() + patience;
  for (const link of document.querySelectorAll<HTMLAnchorElement>("a[data-onward]")) {
    link.href = waits ? "/account/login" + query : otherwise;
  }
}

/** Leaves the page of a login that is done: to the app that asked for it, or to a page of the account. */
export async function leave(): Promise<void> {
  if (config.return) return handOver(config.return);
  location.assign("/account/" + config.next);
}

/** Sends the browser back to an app. The server has compared its address with the list letter by letter. */
async function handOver(to: Return): Promise<void> {
  const { code } = await call("AccountService/CreateAuthorizationCode", { redirectUri: to.url, codeChallenge: to.codeChallenge });
  const answer = new URLSearchParams({ code, iss: to.issuer });
  if (to.state) answer.set("state", to.state);
  localStorage.removeItem(waiting);
  // The address itself stays as it is listed: new URL() would write some of them in another way.
  location.assign(to.url + (to.url.includes("?") ? "&" : "?") + answer);
}

/** The host or the scheme of the app, for the person to recognise. */
export function appName(): string {
  if (!config.return) return "";
  const target = new URL(config.return.url);
  return target.host || target.protocol;
}

/** The page to come back to after a login. */
export const loginFor = (page: string): string => "/account/login?next=" + encodeURIComponent(page);
