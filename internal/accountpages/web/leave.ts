// Where a login leads.
import { config, type Return } from "./config.ts";
import { call } from "./session.ts";

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
