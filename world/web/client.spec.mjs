// clients/typescript against the service, in Chromium, Node.js and Deno.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { app, tab } from "./lib/app.mjs";
import { chromium } from "./lib/browser.mjs";
import { dev } from "./lib/service.mjs";

const run = promisify(execFile);
const ada = { email: "ada@example.com", password: "correct horse battery" };

async function signUp(origin, { email, password } = ada) {
  const answer = await fetch(`${origin}/latchkey.v1.AuthService/SignUp`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ email, password, firstName: "Ada", lastName: "Lovelace" }),
  });
  assert.equal(answer.status, 200, await answer.text());
}

/** Makes the session of a tab. */
const open = (page, baseUrl, storage) =>
  page.evaluate(
    async ([url, where]) => {
      globalThis.session = client.createSession({ baseUrl: url, storage: where });
      return (await session.ready).status;
    },
    [baseUrl, storage],
  );

/** The address of the account, as an app asks for it with connect-es. */
const email = (page) =>
  page.evaluate(async () => {
    const { createClient } = await import("@connectrpc/connect");
    return (await createClient(client.AccountService, session.transport).getAccount({})).user.email;
  });

test("a session in IndexedDB: two tabs, a reload, a logout that both see", async (t) => {
  const service = await dev(t, { LATCHKEY_EMAIL_VERIFICATION: "off" });
  await signUp(service.origin);
  const origin = await app(t);
  const context = await (await chromium(t)).newContext();
  const [one, two] = [await tab(context, origin), await tab(context, origin)];
  assert.equal(await open(one, service.origin, "indexeddb"), "signedOut");
  assert.equal(await open(two, service.origin, "indexeddb"), "signedOut");
  assert.equal((await one.evaluate((who) => session.login(who), ada)).status, "signedIn");
  await two.waitForFunction(() => session.state.status === "signedIn");
  assert.equal(await email(two), ada.email);
  await one.reload();
  await one.waitForFunction(() => globalThis.client !== undefined);
  assert.equal(await open(one, service.origin, "indexeddb"), "signedIn");
  const before = await one.evaluate(() => session.token());
  await Promise.all([one.evaluate(() => session.refresh()), two.evaluate(() => session.refresh())]);
  const after = await one.evaluate(() => session.token());
  assert.notEqual(after, before);
  assert.equal(await two.evaluate(() => session.token()), after, "one refresh for both");
  assert.equal(await one.evaluate(() => session.logout()), true);
  await two.waitForFunction(() => session.state.status === "signedOut");
});

test("a session in a cookie: scripts see no refresh token, and a logout takes the cookie away", async (t) => {
  const origin = await app(t);
  const service = await dev(t, { LATCHKEY_EMAIL_VERIFICATION: "off", LATCHKEY_WEB_COOKIES: "true", LATCHKEY_WEB_ORIGINS: origin });
  await signUp(service.origin);
  const context = await (await chromium(t)).newContext();
  const one = await tab(context, origin);
  await open(one, service.origin, "cookie");
  assert.equal((await one.evaluate((who) => session.login(who), ada)).status, "signedIn");
  const cookies = async () => (await context.cookies()).map(({ name, httpOnly, secure, sameSite }) => `${name} ${httpOnly} ${secure} ${sameSite}`).sort();
  assert.deepEqual(await cookies(), ["__Host-latchkey_browser true true Strict", "__Secure-latchkey_refresh true true Strict"]);
  const stored = await one.evaluate(async () => (await client.indexedDbStore({ key: "cookie" }).read()).text);
  assert.match(stored, /"signedIn"/);
  assert.doesNotMatch(stored, /"tokens"|eyJ/);
  assert.equal(await one.evaluate(() => document.cookie), "");

  const two = await tab(context, origin);
  assert.equal(await open(two, service.origin, "cookie"), "signedIn");
  for (let i = 0; i < 5; i++) {
    await Promise.all([one.evaluate(() => session.refresh()), two.evaluate(() => session.refresh())]);
  }
  assert.equal(await email(one), ada.email);
  assert.equal(await email(two), ada.email);

  // The browser has cleared the page's storage and not the cookie.
  const three = await tab(context, origin);
  await three.evaluate(async (url) => {
    globalThis.session = client.createSession({ baseUrl: url, storage: { cookie: client.memoryStore() } });
    await session.ready;
    await session.resume();
  }, service.origin);
  assert.equal(await three.evaluate(() => session.state.status), "signedIn");
  await three.close();

  assert.equal(await one.evaluate(() => session.logout()), true);
  assert.deepEqual(await cookies(), ["__Host-latchkey_browser true true Strict"]);
  await two.waitForFunction(() => session.state.status === "signedOut");
});

test("a session in a file, in Node.js and in Deno", async (t) => {
  const service = await dev(t, { LATCHKEY_EMAIL_VERIFICATION: "off" });
  await signUp(service.origin);
  const packageFolder = fileURLToPath(new URL("../../clients/typescript/", import.meta.url));
  const deno = ["run", "--quiet", "--no-lock", "--allow-net", "--allow-read", "--allow-write", "--allow-env", "--allow-sys"];
  for (const [name, command, args] of [
    ["Node.js", process.execPath, []],
    ["Deno", join(packageFolder, "node_modules/.bin/deno"), deno],
  ]) {
    const dir = await mkdtemp(join(tmpdir(), "latchkey-client-"));
    t.after(() => rm(dir, { recursive: true, force: true }));
    const step = async (what) =>
      (await run(command, [...args, "test/command.ts", what, service.origin, join(dir, "session")], { cwd: packageFolder })).stdout.trim();
    assert.equal(await step("login"), "signedIn ada@example.com", name);
    assert.equal(await step("show"), "signedIn ada@example.com", name);
    assert.equal(await step("refresh"), "another token", name);
    assert.equal(await step("show"), "signedIn ada@example.com", name);
    assert.equal(await step("logout"), "told", name);
    assert.equal(await step("show"), "signedOut", name);
  }
});
