// What people do on the account pages, as steps of tests.
import { createHmac, randomBytes } from "node:crypto";
import { after } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

export const password = "correct horse battery";

/** A new address. */
export const someone = (name = "ada") => `${name}-${randomBytes(5).toString("hex")}@example.com`;

/** What takes the place of a test for things that end with the file: a service and a browser for all its tests. */
export function wholeFile() {
  const ends = [];
  after(async () => {
    for (const end of ends.reverse()) await end();
  });
  return { after: (end) => void ends.push(end) };
}

/** A browser of a person: with an authenticator for passkeys, and an error of the page fails the test. */
export async function person(t, browser, options = {}) {
  const context = await browser.newContext({ locale: "en-GB", ...options });
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(`error: ${error.message}`));
  page.on("console", (message) => {
    // Chromium writes a line for each answer that is an error, such as a wrong password.
    if (message.type() === "error" && !message.text().startsWith("Failed to load resource")) wrong.push(`console: ${message.text()}`);
  });
  page.on("dialog", (dialog) => {
    wrong.push(`a dialog opened: ${dialog.message()}`);
    void dialog.dismiss();
  });
  t.after(() => {
    if (wrong.length > 0) throw new Error(wrong.join("\n"));
  });
  return page;
}

/** Gives a page an authenticator that has a resident key and verifies its user. */
export async function authenticator(page) {
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("WebAuthn.enable");
  const { authenticatorId } = await devtools.send("WebAuthn.addVirtualAuthenticator", {
    options: {
      protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true,
      automaticPresenceSimulation: true,
    },
  });
  return { devtools, authenticatorId };
}

/** The address of the only link in a mail. */
export const linkOf = (mail) => mail.text.match(/https?:\/\/\S+/)[0];
export const codeOf = (mail) => mail.text.match(/\b\d{6}\b/)[0];

/** The field with this label on the step that is shown. */
export const field = (page, label) => page.getByLabel(label, { exact: true }).filter({ visible: true });

export async function signUp(page, service, email, names = ["Ada", "Lovelace"]) {
  await page.goto(`${service.origin}/account/signup`);
  await page.getByLabel("First name").fill(names[0]);
  await page.getByLabel("Last name").fill(names[1]);
  await page.getByLabel("Email address").fill(email);
  await page.getByLabel("New password").fill(password);
  await page.getByRole("button", { name: "Create an account" }).click();
  await page.getByRole("heading", { name: "Confirm your address" }).waitFor();
}

/** Signs up and proves the address by the code of the mail. */
export async function signUpWhole(page, service, email, names) {
  await signUp(page, service, email, names);
  await page.getByLabel("Code from the mail").fill(codeOf(await service.mail(email, /./)));
  await page.getByRole("button", { name: "Confirm", exact: true }).click();
  await page.getByRole("heading", { name: "Security" }).waitFor();
}

export async function logIn(page, service, email, secret = password) {
  await page.goto(`${service.origin}/account/login`);
  await page.getByLabel("Email address").fill(email);
  await page.getByLabel("Password", { exact: true }).fill(secret);
  await page.getByRole("button", { name: "Log in", exact: true }).click();
}

/** The code of an authenticator app (RFC 6238) at a time in seconds. */
export function totp(secret, seconds = Date.now() / 1000) {
  const bits = [...secret.replaceAll(" ", "")].map((c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(seconds / 30)));
  const sum = createHmac("sha1", key).update(step).digest();
  return String((sum.readUInt32BE(sum[19] & 15) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

/** The secret that the dialog for a new authenticator app shows, once it is there. */
export async function shownSecret(page) {
  const code = page.locator("#totp-dialog code").filter({ hasText: /[A-Z2-7]{4}/ });
  return code.textContent();
}

/** A code that was not used yet: the next one, if the present one was. The service takes the one after now, too. */
export function codes(secret) {
  let last = 0;
  return async () => {
    for (;;) {
      const now = Math.floor(Date.now() / 30_000);
      const step = Math.max(now, last + 1);
      if (step <= now + 1) {
        last = step;
        return totp(secret, step * 30);
      }
      await sleep(500);
    }
  };
}
