// The life of an account on the pages under /account/, in a real browser.
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { chromium, eventually } from "./lib/browser.mjs";
import { authenticator, codeOf, codes, field, linkOf, logIn, password, person, signUp, signUpWhole, someone, shownSecret, wholeFile } from "./lib/people.mjs";
import { dev } from "./lib/service.mjs";

let service;
let browser;
const file = wholeFile();
before(async () => {
  service = await dev(file, { LATCHKEY_PRODUCT_NAME: "Acme", LATCHKEY_LOGIN_BY_CODE: "true" });
  browser = await chromium(file);
});

const security = (page) => page.getByRole("heading", { name: "Security", level: 1 }).waitFor();

/** Proves in the dialog to be here. */
async function confirmPassword(page) {
  const dialog = page.getByRole("dialog", { name: "Please confirm that it is you" });
  await dialog.getByLabel("Password").fill(password);
  await dialog.getByRole("button", { name: "Confirm" }).click();
}

test("sign up, and prove the address by the mailed link", async (t) => {
  const page = await person(t, browser);
  const email = someone();
  await signUp(page, service, email);
  const link = linkOf(await service.mail(email, /./));
  assert.match(link, /^http:\/\/localhost:\d+\/account\/verify#token=/, "no server sees the token");

  // A program that looks at mails opens the link. Nothing is used up by that.
  const scanner = await person(t, browser);
  await scanner.goto(link);
  await scanner.getByRole("button", { name: "Confirm my address" }).waitFor();

  await page.goto(link);
  await page.getByText(`You are logged in as ${email}.`).waitFor();
  await eventually(() => field(page, "Password").isVisible(), false, "a session is proof enough");
  await eventually(() => new URL(page.url()).hash, "", "the token is not left in the address");
  await page.reload();
  await page.getByRole("button", { name: "Confirm my address" }).click();
  await page.getByRole("heading", { name: "Your address is confirmed" }).waitFor();
  await page.getByRole("link", { name: "Continue" }).click();
  await security(page);
  await page.getByText("Confirmed", { exact: true }).waitFor();
});

test("the mailed link on another device keeps the password that is typed, and takes one that is not", async (t) => {
  const page = await person(t, browser);
  const [kept, taken] = [someone("kept"), someone("taken")];
  for (const email of [kept, taken]) {
    await signUp(page, service, email);
    await page.context().clearCookies();
    await page.evaluate(() => localStorage.clear());
  }
  const phone = await person(t, browser, { viewport: { width: 360, height: 700 } });
  await phone.goto(linkOf(await service.mail(kept, /./)));
  await field(phone, "Password").fill("not this one at all");
  await phone.getByRole("button", { name: "Confirm my address" }).click();
  await phone.getByText("The address or the password is wrong.").waitFor();
  await field(phone, "Password").fill(password);
  await phone.getByRole("button", { name: "Confirm my address" }).click();
  await phone.getByRole("link", { name: "Continue" }).click();
  await security(phone);

  const other = await person(t, browser);
  await other.goto(linkOf(await service.mail(taken, /./)));
  await other.getByRole("button", { name: "Confirm without the password" }).click();
  await other.getByText("Now set a password.").waitFor();
  await logIn(page, service, taken);
  await page.getByText("The address or the password is wrong.").waitFor();
});

test("a passkey: made, renamed, used from the list at the address field and by the button, removed", async (t) => {
  const page = await person(t, browser);
  await authenticator(page);
  const email = someone();
  await signUpWhole(page, service, email);
  await field(page, "Name of the passkey").fill("my laptop");
  await page.getByRole("button", { name: "Add a passkey" }).click();
  await page.getByRole("heading", { name: "Your recovery codes" }).waitFor();
  await eventually(() => page.getByRole("dialog").getByRole("listitem").count(), 10);
  await page.getByRole("button", { name: "I have saved them" }).click();
  await eventually(() => page.locator(".codes li").count(), 0, "they are shown once");
  await page.getByRole("heading", { name: "my laptop" }).waitFor();
  await page.getByRole("button", { name: "Rename: my laptop" }).click();
  await page.getByRole("dialog").getByLabel("Name of the passkey").fill("my old laptop");
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();
  await page.getByRole("heading", { name: "my old laptop" }).waitFor();

  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL("**/account/login");
  // The authenticator answers what the list at the address field asks for by itself.
  await security(page);
  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL("**/account/login");
  await security(page);

  await page.getByRole("button", { name: "Remove: my old laptop" }).click();
  await page.getByText("The passkey “my old laptop” is removed.").waitFor();
});

test("a passkey after the password, and by the button", async (t) => {
  const page = await person(t, browser);
  await page.addInitScript(() => {
    PublicKeyCredential.isConditionalMediationAvailable = async () => false;
  });
  await authenticator(page);
  const email = someone();
  await signUpWhole(page, service, email);
  await page.getByRole("button", { name: "Add a passkey" }).click();
  await page.getByRole("button", { name: "I have saved them" }).click();
  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL("**/account/login");
  await page.getByRole("button", { name: "Log in with a passkey" }).click();
  await security(page);
  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL("**/account/login");
  await logIn(page, service, email);
  await page.getByRole("heading", { name: "One more step" }).waitFor();
  await page.getByRole("button", { name: "Use a passkey" }).click();
  await security(page);
});

test("an authenticator app: set up, asked for, a code counts once, a recovery code helps, removed", async (t) => {
  const page = await person(t, browser);
  const email = someone();
  await signUpWhole(page, service, email);
  await page.getByRole("button", { name: "Set up an app" }).click();
  const dialog = page.getByRole("dialog", { name: "Set up an app" });
  await dialog.getByText("You cannot scan it?").click();
  const next = codes(await shownSecret(page));
  await eventually(() => dialog.getByRole("img").evaluate((image) => image.naturalWidth > 0), true, "the QR code is shown");
  await dialog.getByLabel("Code of your authenticator app").fill("000000");
  await dialog.getByRole("button", { name: "Confirm" }).click();
  await dialog.getByText("The code is wrong or has expired.").waitFor();
  const first = await next();
  await dialog.getByLabel("Code of your authenticator app").fill(first);
  await dialog.getByRole("button", { name: "Confirm" }).click();
  const shown = page.getByRole("dialog", { name: "Your recovery codes" });
  await eventually(() => shown.getByRole("listitem").count(), 10);
  const recovery = await shown.getByRole("listitem").allTextContents();
  await page.getByRole("button", { name: "I have saved them" }).click();

  const other = await person(t, browser);
  await logIn(other, service, email);
  await other.getByLabel("Code of your authenticator app").fill(first);
  await other.getByRole("button", { name: "Confirm" }).click();
  await other.getByText("The code is wrong or has expired.").waitFor();
  await other.getByLabel("Code of your authenticator app").fill(await next());
  await other.getByRole("button", { name: "Confirm" }).click();
  await security(other);

  const third = await person(t, browser);
  await logIn(third, service, email);
  await third.getByRole("button", { name: "Use a recovery code" }).click();
  await third.getByLabel("Recovery code").fill(recovery[0]);
  await third.locator('form[data-form="recovery"]').getByRole("button", { name: "Confirm" }).click();
  await security(third);
  await third.getByText("9 of ten codes are left.").waitFor();
  await third.getByRole("button", { name: "Remove", exact: true }).click();
  await third.getByText("The authenticator app is removed.").waitFor();
});

test("a forgotten password: the link sets a new one, once, and ends the sessions", async (t) => {
  const page = await person(t, browser);
  const email = someone();
  await signUpWhole(page, service, email);
  const other = await person(t, browser);
  await other.goto(`${service.origin}/account/forgot`);
  await other.getByLabel("Email address").fill(email);
  await other.getByRole("button", { name: "Send the link" }).click();
  await other.getByRole("heading", { name: "Look into your mails" }).waitFor();
  const link = linkOf(await service.mail(email, /[Rr]eset/));
  assert.match(link, /\/account\/reset#token=/);
  await other.goto(link);
  await other.getByLabel("New password").fill("a second good password");
  await other.getByRole("button", { name: "Set the password" }).click();
  await other.getByRole("heading", { name: "Your new password is set" }).waitFor();

  await page.goto(`${service.origin}/account/sessions`);
  await page.getByRole("heading", { name: "Log in to Acme" }).waitFor();
  await logIn(page, service, email);
  await page.getByText("The address or the password is wrong.").waitFor();
  await page.getByLabel("Password", { exact: true }).fill("a second good password");
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await security(page);

  await other.goto(link);
  await other.getByLabel("New password").fill("a third good password");
  await other.getByRole("button", { name: "Set the password" }).click();
  await other.getByText("This link was used already or has expired.").waitFor();
});

test("a change of address: proved at the new one, undone at the old one", async (t) => {
  const page = await person(t, browser);
  const [before, later] = [someone(), someone("later")];
  await signUpWhole(page, service, before);
  await page.getByLabel("New email address").fill(later);
  await page.getByRole("button", { name: "Change the address" }).click();
  await page.getByText(`We have sent a mail to ${later}.`).waitFor();
  await page.goto(linkOf(await service.mail(later, /./)));
  await page.getByRole("button", { name: "Change my address" }).click();
  await page.getByRole("heading", { name: "Your address is changed" }).waitFor();
  await page.getByRole("link", { name: "Continue" }).click();
  await page.getByText(later).waitFor();

  const told = await service.mail(before, /changed/);
  await page.goto(told.text.match(/https?:\/\/\S+undo=1\S+/)[0]);
  await page.getByRole("button", { name: "Undo the change" }).click();
  await page.getByRole("heading", { name: "The change is undone" }).waitFor();
  await logIn(page, service, before);
  await security(page);
  await page.getByText(before).waitFor();
});

test("a change of address by the mailed code", async (t) => {
  const page = await person(t, browser);
  const later = someone("later");
  await signUpWhole(page, service, someone());
  await page.getByLabel("New email address").fill(later);
  await page.getByRole("button", { name: "Change the address" }).click();
  const code = codeOf(await service.mail(later, /./));
  await page.goto(`${service.origin}/account/email`);
  await page.getByLabel("New email address").fill(later);
  await page.getByLabel("Code from the mail").fill(code);
  await page.getByRole("button", { name: "Change my address" }).click();
  await page.getByRole("heading", { name: "Your address is changed" }).waitFor();
});

test("sessions that another browser ends are over at once, also in other tabs", async (t) => {
  const page = await person(t, browser);
  const email = someone();
  await signUpWhole(page, service, email);
  const other = await person(t, browser);
  await logIn(other, service, email);
  await security(other);
  const tab = await other.context().newPage();
  await tab.goto(`${service.origin}/account/activity`);
  await tab.getByText("Logged in", { exact: true }).first().waitFor();

  await page.getByRole("link", { name: "Devices" }).click();
  await page.getByText("This device").filter({ visible: true }).waitFor();
  await eventually(() => page.getByRole("listitem").count(), 2);
  await page.getByRole("button", { name: /^Log out: / }).first().click();
  await page.getByText(/is logged out\./).waitFor();
  await eventually(() => page.getByRole("listitem").count(), 1);

  await other.getByRole("button", { name: "Save" }).first().click();
  await other.getByRole("heading", { name: "Log in to Acme" }).waitFor();
  await tab.getByRole("heading", { name: "Log in to Acme" }).waitFor();

  await logIn(other, service, email);
  await security(other);
  await page.getByRole("button", { name: "Log out all other devices" }).click();
  await page.getByText("All other devices are logged out.").waitFor();
  await other.goto(`${service.origin}/account/sessions`);
  await other.getByRole("heading", { name: "Log in to Acme" }).waitFor();
});

test("a login by mailed code", async (t) => {
  const page = await person(t, browser);
  const email = someone();
  await signUpWhole(page, service, email);
  const other = await person(t, browser);
  await other.goto(`${service.origin}/account/login`);
  await other.getByRole("link", { name: "Log in with a mailed code" }).click();
  await other.getByLabel("Email address").fill(email);
  await other.getByRole("button", { name: "Send the code" }).click();
  await other.getByRole("heading", { name: "Log in with a mailed code" }).waitFor();
  const mail = await service.mail(email, /log|code/i);
  await other.getByLabel("Code from the mail").fill(codeOf(mail));
  await other.getByRole("button", { name: "Log in" }).click();
  await security(other);
});

test("the password is changed, and the other browser logged out", async (t) => {
  const page = await person(t, browser);
  const email = someone();
  await signUpWhole(page, service, email);
  const other = await person(t, browser);
  await logIn(other, service, email);
  await security(other);
  await page.getByLabel("Current password").fill("wrong wrong wrong");
  await page.getByLabel("New password").fill("a second good password");
  const form = page.locator('form[data-form="password"]');
  await form.getByRole("button", { name: "Save" }).click();
  await form.getByText("The address or the password is wrong.").waitFor();
  await page.getByLabel("Current password").fill(password);
  await form.getByRole("button", { name: "Save" }).click();
  await page.getByText("Your password is changed").waitFor();
  await other.reload();
  await other.getByRole("heading", { name: "Log in to Acme" }).waitFor();
});

test("what is sensitive asks for a proof in place, and goes on", async (t) => {
  const fresh = await dev(t, { LATCHKEY_FRESH_WITHIN: "10s" });
  const page = await person(t, browser);
  const email = someone();
  await signUpWhole(page, fresh, email);
  await page.waitForTimeout(11_000); // the service compares with its clock
  await page.getByLabel("New email address").fill(someone("later"));
  await page.getByRole("button", { name: "Change the address" }).click();
  const dialog = page.getByRole("dialog", { name: "Please confirm that it is you" });
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await eventually(() => page.locator("#status").textContent(), "");
  await page.getByRole("button", { name: "Change the address" }).click();
  await confirmPassword(page);
  await page.getByText(/We have sent a mail to later/).waitFor();
});

test("data is exported, and the account deleted; within the grace it can be kept", async (t) => {
  const page = await person(t, browser);
  const email = someone();
  await signUpWhole(page, service, email);
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Get my data" }).click()]);
  const data = JSON.parse(await (await import("node:fs/promises")).readFile(await download.path(), "utf8"));
  assert.equal(data.schema, "latchkey-personal-data/1");
  await page.getByRole("link", { name: "Delete my account" }).click();
  await page.getByLabel(`Yes, delete the account ${email}`).check();
  await page.getByRole("button", { name: "Delete my account" }).click();
  await page.getByRole("heading", { name: "Your account is deleted" }).waitFor();
  await logIn(page, service, email);
  await page.getByText("The address or the password is wrong.").waitFor();

  const gentle = await dev(t, { LATCHKEY_DELETION_GRACE: "24h" });
  await signUpWhole(page, gentle, email);
  await page.getByRole("link", { name: "Delete my account" }).click();
  await page.getByLabel(/Yes, delete/).check();
  await page.getByRole("button", { name: "Delete my account" }).click();
  await page.getByText(/It can be kept until/).waitFor();
  await logIn(page, gentle, email);
  await page.getByRole("button", { name: "Keep my account" }).click();
  await security(page);
});

test("an address must be proved where the service requires it", async (t) => {
  const strict = await dev(t, { LATCHKEY_EMAIL_VERIFICATION: "required" });
  const page = await person(t, browser);
  const email = someone();
  await signUpWhole(page, strict, email); // its login waits for the code
  const hidden = someone("hidden");
  const other = await person(t, browser);
  await signUp(other, strict, hidden);
  await logIn(other, strict, hidden);
  await other.getByLabel("Code from the mail").fill(codeOf(await strict.mail(hidden, /./)));
  await other.getByRole("button", { name: "Confirm", exact: true }).click();
  await security(other);
});
