// Debian's Chromium, driven by playwright-core, and axe-core's findings.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { chromium as driver } from "playwright-core";

/** The program that is tested with. */
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";

/**
 * Starts a Chromium that ends with the test. `newPage()` and `newContext()` are playwright's. A context is a person with
 * cookies and storage of their own.
 *
 * @param {import("node:test").TestContext} t
 * @returns {Promise<import("playwright-core").Browser>}
 */
export async function chromium(t) {
  const browser = await driver.launch({
    executablePath,
    // As root it has no sandbox. It opens only pages of this machine. /dev/shm is small in containers.
    // Every name under .example is this machine too, for origins that are not the machine's own.
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--disable-background-networking",
      "--disable-component-update",
      "--host-resolver-rules=MAP *.example 127.0.0.1",
      // Tabs that are not in front run as fast as the one that is.
      "--disable-background-timer-throttling",
      "--disable-backgrounding-occluded-windows",
      "--disable-renderer-backgrounding",
    ],
  });
  t.after(() => browser.close());
  return browser;
}

/**
 * Reads until what is read equals `expected`, for 10 seconds at most, and fails with the last difference. For everything
 * that a page does after a click: the click has returned before the page has drawn.
 *
 * @template T
 * @param {() => Promise<T> | T} read
 * @param {T} expected
 * @param {string} [what]
 */
export async function eventually(read, expected, what) {
  const until = performance.now() + 10_000;
  for (;;) {
    try {
      return assert.deepEqual(await read(), expected, what);
    } catch (difference) {
      if (!(difference instanceof assert.AssertionError) || performance.now() > until) throw difference;
      await sleep(20);
    }
  }
}

/**
 * Runs axe-core in the page and returns its serious and critical findings, as lines that say what and where.
 *
 * @param {import("playwright-core").Page} page
 * @returns {Promise<string[]>}
 */
export async function seriousFindings(page) {
  const source = await readFile(fileURLToPath(import.meta.resolve("axe-core/axe.min.js")), "utf8");
  // Evaluated by the debugger, and so also where the page's Content-Security-Policy allows no script of others.
  await page.evaluate(source);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  return violations
    .filter((found) => found.impact === "serious" || found.impact === "critical")
    .flatMap((found) => found.nodes.map((node) => `${found.id}: ${found.help}: ${node.html}`));
}
