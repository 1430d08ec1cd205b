// The page of dev that shows /openapi.json.
import assert from "node:assert/strict";
import { test } from "node:test";
import { chromium, seriousFindings } from "./lib/browser.mjs";
import { dev } from "./lib/service.mjs";

test("the page of the calls with JSON has every method, and a command that works", async (t) => {
  const service = await dev(t);
  const page = await (await chromium(t)).newPage();
  await page.goto(`${service.origin}/dev/api`);
  await page.getByText(/^\d+ methods$/).waitFor();
  const described = await (await fetch(`${service.origin}/openapi.json`)).json();
  assert.equal(await page.locator("details").count(), Object.keys(described.paths).length);
  await page.getByText("SignUp", { exact: true }).click();
  const command = await page.locator("details[open] pre").textContent();
  const [, body, url] = command.match(/-d '(.*)' (http:.*)$/s);
  const answer = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
  assert.equal((await answer.json()).details[0].debug.reason, "VALIDATION_FAILED", "the sample is empty");
  assert.deepEqual(await seriousFindings(page), []);
});
