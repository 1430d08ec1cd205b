// The script of all pages. The body says which page it is on.
import { activityPage, deletePage, sessionsPage } from "./account.ts";
import { Refused } from "./api.ts";
import { text } from "./config.ts";
import { alarm, all, onPress, show, toldOf, wireLanguages, wireReveal } from "./dom.ts";
import { wireFresh } from "./fresh.ts";
import { loginFor } from "./leave.ts";
import { emailPage, forgotPage, resetPage, verifyPage } from "./links.ts";
import { codePage, loginPage, signupPage } from "./login.ts";
import { securityPage } from "./security.ts";
import * as session from "./session.ts";

const everybody: Record<string, () => Promise<void> | void> = {
  login: loginPage, code: codePage, signup: signupPage, verify: verifyPage, forgot: forgotPage, reset: resetPage, email: emailPage,
};
const loggedIn: Record<string, () => Promise<void> | void> = {
  security: securityPage, sessions: sessionsPage, activity: activityPage, delete: deletePage,
};

async function run(): Promise<void> {
  const page = document.body.dataset.page ?? "";
  wireLanguages();
  wireReveal();
  if (!isSecureContext) return alarm(text("insecure"));
  const open = everybody[page];
  if (open) return open();
  const away = (): void => location.replace(loginFor(page));
  addEventListener("latchkey-ended", away);
  session.onEnd(away);
  onPress("logout", async () => {
    await session.end();
    location.assign("/account/login");
  });
  if (!(await session.open())) return away();
  wireFresh(page);
  await loggedIn[page]?.();
}

run().catch((error: unknown) => {
  for (const element of all('[data-step="waiting"]')) element.hidden = true;
  if (error instanceof Refused && !error.passing && error.reason !== "RATE_LIMITED") show("[data-step='start']", true);
  alarm(toldOf(error));
});
