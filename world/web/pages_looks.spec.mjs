// Whether everybody can use the account pages: screen readers, keyboards, phones, the dark, slow lines, two languages.
// With SCREENSHOTS=docs/pages it also writes the pictures of docs/pages.md.
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { before, test } from "node:test";
import { chromium, eventually, seriousFindings } from "./lib/browser.mjs";
import { authenticator, codes, field, password, person, signUp, signUpWhole, someone, shownSecret, wholeFile } from "./lib/people.mjs";
import { dev } from "./lib/service.mjs";

let service;
let browser;
const file = wholeFile();
before(async () => {
  service = await dev(file, { LATCHKEY_PRODUCT_NAME: "Acme", LATCHKEY_LOGIN_BY_CODE: "true", LATCHKEY_PAGES_COLOR: "#5b3fd6" });
  browser = await chromium(file);
});

const forEverybody = ["login", "code", "signup", "verify", "forgot", "reset", "email"];
const loggedIn = ["security", "sessions", "activity", "delete"];

/** Writes a picture of the page. */
async function picture(page, name) {
  const folder = resolve(process.env.SCREENSHOTS);
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), animations: "disabled", caret: "hide" });
}

/** A page is done when it shows a step and waits for nothing. */
const settled = (page) => page.waitForFunction(() => document.querySelector("main [data-step]:not([hidden]):not(.waiting)") !== null);

for (const colorScheme of ["light", "dark"]) {
  test(`axe-core has no serious finding, and nothing is wider than 320 pixels: ${colorScheme}`, async (t) => {
    const page = await person(t, browser, { colorScheme, viewport: { width: 320, height: 640 } });
    const look = async (what) => {
      await settled(page);
      assert.deepEqual(await seriousFindings(page), [], what);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      assert.ok(wide <= 320, `${what} is ${wide} pixels wide`);
    };
    for (const name of forEverybody) {
      for (const language of ["en", "de"]) {
        await page.goto(`${service.origin}/account/${name}?lang=${language}`);
        await look(`${name} in ${language}`);
      }
    }
    await page.goto(`${service.origin}/account/reset?lang=en#token=x`);
    await look("reset with a link");
    await field(page, "New password").fill("a second good password");
    await page.getByRole("button", { name: "Set the password" }).click();
    await page.getByText("This link was used already or has expired.").waitFor();
    await look("reset with a refusal");
    for (const link of ["verify#token=x", "email#token=x", "email#undo=1&token=x"]) {
      await page.goto("about:blank");
      await page.goto(`${service.origin}/account/${link}`);
      await look(link);
    }

    await signUp(page, service, someone());
    await look("the step that asks for a code");
    await page.getByRole("button", { name: "Later" }).click();
    await page.getByRole("heading", { name: "Security", level: 1 }).waitFor();
    await authenticator(page);
    await field(page, "Name of the passkey").fill("a passkey with a long name ".repeat(3).trim());
    await page.getByRole("button", { name: "Add a passkey" }).click();
    await page.getByRole("heading", { name: "Your recovery codes" }).waitFor();
    await look("recovery codes");
    await page.getByRole("button", { name: "I have saved them" }).click();
    await page.getByRole("button", { name: "Set up an app" }).click();
    await page.getByRole("dialog", { name: "Set up an app" }).waitFor();
    await look("an authenticator app");
    await page.getByRole("button", { name: "Cancel" }).click();
    for (const name of loggedIn) {
      for (const language of ["de", "en"]) {
        await page.goto(`${service.origin}/account/${name}?lang=${language}`);
        await look(`${name} in ${language}`);
      }
    }
  });
}

test("the dialog for a fresh proof has no serious finding", async (t) => {
  const short = await dev(t, { LATCHKEY_FRESH_WITHIN: "10s" });
  for (const colorScheme of ["light", "dark"]) {
    const page = await person(t, browser, { colorScheme });
    await signUpWhole(page, short, someone());
    await page.waitForTimeout(11_000); // the service compares with its clock
    await page.getByRole("button", { name: "Set up an app" }).click();
    await page.getByRole("dialog", { name: "Please confirm that it is you" }).waitFor();
    assert.deepEqual(await seriousFindings(page), []);
  }
});

test("a first visit loads less than 60 KB", async (t) => {
  const page = await person(t, browser);
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Network.enable");
  let bytes = 0;
  let requests = 0;
  devtools.on("Network.loadingFinished", ({ encodedDataLength }) => {
    bytes += encodedDataLength;
    requests++;
  });
  await page.goto(`${service.origin}/account/login`, { waitUntil: "networkidle" });
  assert.ok(bytes > 1000 && bytes < 60_000, `${bytes} bytes in ${requests} requests`);
  t.diagnostic(`${bytes} bytes in ${requests} requests`);
});

test("the keyboard alone logs in, and the focus moves to what is next", async (t) => {
  const page = await person(t, browser);
  const email = someone();
  await signUpWhole(page, service, email);
  await page.getByRole("button", { name: "Set up an app" }).click();
  const next = codes(await shownSecret(page));
  await field(page, "Code of your authenticator app").fill(await next());
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "I have saved them" }).click();
  await page.getByRole("button", { name: "Log out" }).click();
  await page.waitForURL("**/account/login");
  await settled(page);

  const keyboard = await person(t, browser);
  await keyboard.goto(`${service.origin}/account/login`);
  await settled(keyboard);
  await keyboard.keyboard.type(email); // the focus is there already
  await keyboard.keyboard.press("Tab");
  await keyboard.keyboard.type("wrong wrong wrong");
  await keyboard.keyboard.press("Enter");
  await keyboard.getByRole("alert").filter({ hasText: "The address or the password is wrong." }).waitFor();
  await keyboard.waitForFunction(() => document.activeElement?.id === "email");
  await keyboard.keyboard.press("Tab");
  await keyboard.keyboard.press("Control+A");
  await keyboard.keyboard.type(password);
  await keyboard.keyboard.press("Tab");
  await eventually(() => keyboard.evaluate(() => document.activeElement.textContent), "Show");
  await keyboard.keyboard.press("Enter");
  await eventually(() => keyboard.locator("#password").getAttribute("type"), "text");
  await keyboard.keyboard.press("Tab");
  await keyboard.keyboard.press("Enter");
  await keyboard.getByRole("heading", { name: "One more step" }).waitFor();
  await keyboard.waitForFunction(() => document.activeElement?.id === "totp");
  await keyboard.keyboard.type(await next());
  await keyboard.keyboard.press("Enter");
  await keyboard.getByRole("heading", { name: "Security", level: 1 }).waitFor();
  await eventually(() => keyboard.evaluate(() => document.activeElement.textContent), "Security");
});

test("German by the browser's wish and by the switch, which keeps a link's token", async (t) => {
  const page = await person(t, browser, { locale: "de-AT" });
  await page.goto(`${service.origin}/account/reset#token=x`);
  await page.getByRole("heading", { name: "Neues Passwort setzen" }).waitFor();
  await page.getByRole("link", { name: "English" }).click();
  await page.getByRole("heading", { name: "Set a new password" }).waitFor();
  await field(page, "New password").waitFor(); // the page still has the token
  await page.goto(`${service.origin}/account/login`);
  await page.getByRole("heading", { name: "Log in to Acme" }).waitFor();
});

test("refreshes that are lost log nobody out", async (t) => {
  const page = await person(t, browser);
  const email = someone();
  await signUpWhole(page, service, email);
  let lost = 0;
  const ids = new Set();
  await page.route("**/latchkey.v1.AuthService/RefreshToken", async (route) => {
    ids.add(route.request().postDataJSON().requestId);
    if (lost++ < 2) {
      await route.fetch(); // the service has answered, and nobody hears it
      return route.abort();
    }
    return route.continue();
  });
  await page.reload();
  await page.getByRole("heading", { name: "Security", level: 1 }).waitFor();
  assert.equal(ids.size, 1, "a repeat has the same id");
  assert.ok(lost >= 3);
  // Tabs that start at once take turns.
  const tabs = await Promise.all([1, 2, 3, 4].map(() => page.context().newPage()));
  await Promise.all(tabs.map((tab) => tab.goto(`${service.origin}/account/sessions`)));
  for (const tab of tabs) await tab.getByRole("heading", { name: "Devices" }).waitFor();
});

/** Pictures for people, of what the tests above have looked at. */
async function pictures(t) {
  const light = await person(t, browser, { viewport: { width: 480, height: 760 } });
  await light.goto(`${service.origin}/account/login`);
  await settled(light);
  await light.evaluate(() => document.activeElement?.blur());
  await picture(light, "login");
  const dark = await person(t, browser, { colorScheme: "dark", viewport: { width: 760, height: 900 } });
  await authenticator(dark);
  await signUpWhole(dark, service, `ada-${Date.now()}@example.com`);
  await field(dark, "Name of the passkey").fill("My laptop");
  await dark.getByRole("button", { name: "Add a passkey" }).click();
  await dark.getByRole("button", { name: "I have saved them" }).click();
  await dark.getByRole("heading", { name: "Passkeys" }).scrollIntoViewIfNeeded();
  await dark.evaluate(() => document.querySelector("#totp-title").scrollIntoView());
  await picture(dark, "security-dark");
  const phone = await person(t, browser, { viewport: { width: 360, height: 640 }, locale: "de-DE" });
  await phone.goto(`${service.origin}/account/signup`);
  await settled(phone);
  await phone.evaluate(() => document.activeElement?.blur());
  await picture(phone, "signup-phone-german");
}
if (process.env.SCREENSHOTS) test("pictures", pictures);
