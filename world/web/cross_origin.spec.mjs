// What a page of another origin can do, in a browser and not only by headers: the server's own tests send those.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";
import { chromium } from "./lib/browser.mjs";
import { dev } from "./lib/service.mjs";

/** An origin with an empty page. */
async function emptyPage(t, host) {
  const server = createServer((_, res) => res.setHeader("content-type", "text/html").end("<!doctype html><title>app</title>"));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => server.close());
  return `http://${host}:${server.address().port}`;
}

/** Calls the service from the page, and returns the status, or the error that scripts see. */
function call(page, url, body) {
  return page.evaluate(
    async ([to, text]) => {
      try {
        const answer = await fetch(to, { method: "POST", headers: { "content-type": "application/json" }, body: text });
        return `${answer.status} ${(await answer.json()).details?.[0]?.debug?.reason ?? ""}`.trim();
      } catch (err) {
        return err.name;
      }
    },
    [url, JSON.stringify(body)],
  );
}

test("scripts of a listed origin read refusals with their reasons, and no other page reads anything", async (t) => {
  const listed = await emptyPage(t, "localhost");
  const other = await emptyPage(t, "evil.example");
  const service = await dev(t, { LATCHKEY_WEB_ORIGINS: listed });
  const browser = await chromium(t);
  const login = `${service.origin}/latchkey.v1.AuthService/Login`;
  const wrong = { email: "nobody@example.com", password: "not this one" };

  const page = await browser.newPage();
  await page.goto(listed);
  assert.equal(await call(page, login, wrong), "401 INVALID_CREDENTIALS");
  await page.goto(other);
  assert.equal(await call(page, login, wrong), "TypeError");
  await page.goto(listed);
  await page.setContent("<iframe sandbox='allow-scripts' srcdoc='<!doctype html>'></iframe>");
  const sandboxed = page.frames().at(-1);
  assert.equal(await call(sandboxed, login, wrong), "TypeError", "the origin null is never allowed");
});
