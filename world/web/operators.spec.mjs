// The page for operators, at / of the operations listener.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { chromium, eventually, seriousFindings } from "./lib/browser.mjs";
import { dev } from "./lib/service.mjs";

const evil = `<img src=x onerror="document.title='run'">`;

/** A service with an account whose names and device a script hides in, and the page with the key typed in. */
async function opened(t, setting) {
  const service = await dev(t, { LATCHKEY_OPERATORS_PAGE: setting, LATCHKEY_EMAIL_VERIFICATION: "off" });
  const call = async (method, body) => {
    const answer = await fetch(`${service.origin}/latchkey.v1.AuthService/${method}`, {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
    });
    assert.equal(answer.status, 200);
    return answer.json();
  };
  const account = { email: "ada@example.com", password: "correct horse battery" };
  await call("SignUp", { ...account, firstName: evil, lastName: "Lovelace" });
  const { tokens } = await call("Login", { ...account, deviceName: evil });
  const page = await (await chromium(t)).newPage();
  page.on("pageerror", (error) => assert.fail(error));
  await page.goto(`http://${service.ops}/`);
  await page.getByLabel("Key of an operator").fill("not the key");
  await page.keyboard.press("Enter");
  await page.getByText("This is not the key of an operator.").waitFor();
  const key = (await readFile(join(service.dir, "admin-key"), "utf8")).trim();
  await page.getByLabel("Key of an operator").fill(key);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Ledger and replicas" }).waitFor();
  return { service, page, tokens, call };
}

test("it shows accounts, keys, events and the state, and runs nothing that people typed", async (t) => {
  const { page } = await opened(t, "read");
  await page.getByText("shows only").waitFor();
  assert.deepEqual(await seriousFindings(page), []);
  await page.getByRole("link", { name: "Accounts" }).click();
  await page.getByRole("link", { name: "ada@example.com" }).click();
  await page.getByRole("heading", { name: "Sessions" }).waitFor();
  await eventually(() => page.getByText(evil).count(), 2, "the name and the device, as text");
  assert.equal(await page.getByRole("button", { name: "Suspend" }).count(), 0);
  assert.deepEqual(await seriousFindings(page), []);
  await page.getByRole("link", { name: "Audit" }).click();
  await page.getByText("signed_up").waitFor();
  await page.getByLabel("Kinds").fill("logged_in");
  await page.getByRole("button", { name: "Show" }).click();
  await page.getByText("signed_up").waitFor({ state: "detached" });
  await page.getByText("logged_in").waitFor();
  assert.equal(await page.title(), "Latchkey for operators");
  const kept = await page.evaluate(() => [localStorage.length, sessionStorage.length, document.cookie]);
  assert.deepEqual(kept, [0, 0, ""], "the key is stored nowhere");
  await page.getByRole("button", { name: "Forget the key" }).click();
  await page.getByLabel("Key of an operator").waitFor();
});

test("it suspends an account when the setting lets it", async (t) => {
  const { page, service, tokens } = await opened(t, "change");
  await page.goto(page.url().replace(/#.*$/, "") + "#account?asked=ada%40example.com");
  page.on("dialog", (dialog) => dialog.accept());
  await page.getByRole("button", { name: "Suspend" }).click();
  await page.getByRole("button", { name: "Reactivate" }).waitFor();
  const answer = await fetch(`${service.origin}/latchkey.v1.AuthService/ValidateToken`, {
    method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ accessToken: tokens.accessToken }),
  });
  assert.equal((await answer.json()).reason, "ERROR_REASON_ACCOUNT_DISABLED");
  await page.getByText("user_suspended").waitFor();
});
