// The promise of clients/typescript: nobody is logged out whom nobody logged out. Three tabs of one browser and two
// processes of Node.js refresh as fast as they can, through a proxy that loses answers; tabs and processes are killed in
// the middle, the service is killed and restarted, and Redis is emptied once, which ends both sessions and is counted.
//
// LATCHKEY_REFRESHES=10000 for a long run.
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { AuthService, createSession } from "../../clients/typescript/dist/index.js";
import { app, tab } from "./lib/app.mjs";
import { chromium } from "./lib/browser.mjs";
import { dropper } from "./lib/dropper.mjs";
import { serve } from "./lib/stores.mjs";

const wanted = Number(process.env.LATCHKEY_REFRESHES ?? 600);
const password = "correct horse battery";

/**
 * Group is one session and those that share it. It counts ends: those of the flush, and those that nobody asked for. A
 * session that has ended is one end, however many of its members see it.
 */
class Group {
  ends = [];
  failures = 0;
  #flushed;
  #known = new Set();

  constructor(email, flushed) {
    this.who = { email, password };
    this.#flushed = flushed;
  }

  /** Takes what a member says of its state. */
  heard(state) {
    if (state.status === "ended" && !this.#known.has(state.sessionId)) {
      this.#known.add(state.sessionId);
      this.ends.push({ reason: state.reason, flush: this.#flushed() });
      this.relogin = true;
    }
  }
}

test(`${wanted} refreshes: nobody is logged out, no token is spent twice`, async (t) => {
  let flushed = false;
  const origin = await app(t);
  const service = await serve(t, { LATCHKEY_WEB_ORIGINS: origin, LATCHKEY_ADDRESS_RATE_LIMIT: "false" });
  const proxy = await dropper(t, service.address, { AuthService }, 1);
  const folder = await mkdtemp(join(tmpdir(), "latchkey-refreshes-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const tabs = new Group("tabs@example.com", () => flushed);
  const processes = new Group("processes@example.com", () => flushed);
  const direct = createSession({ baseUrl: `http://${service.address()}` });
  for (const { who } of [tabs, processes]) {
    await direct.signUp({ ...who, firstName: "Ada", lastName: "Lovelace" });
  }

  // The tabs.
  const context = await (await chromium(t)).newContext();
  await context.exposeFunction("heard", (state) => tabs.heard(state));
  await context.exposeFunction("failed", () => void tabs.failures++);
  const openTab = async () => {
    const page = await tab(context, origin);
    await page.evaluate(async (baseUrl) => {
      globalThis.session = client.createSession({ baseUrl, storage: "indexeddb", timeout: 3000, patience: 60_000 });
      session.onChange(heard);
      heard(await session.ready);
      globalThis.loop = (async () => {
        for (;;) {
          if (session.state.status === "signedIn") {
            await session.refresh().catch((error) => failed(String(error)));
          } else {
            await new Promise((done) => setTimeout(done, 50));
          }
        }
      })();
    }, proxy.origin);
    return page;
  };
  const pages = [await openTab(), await openTab(), await openTab()];

  // The processes.
  const children = [];
  t.after(() => children.forEach((child) => child.kill("SIGKILL")));
  const openProcess = async () => {
    const child = fork(new URL("./lib/refresher.mjs", import.meta.url), [proxy.origin, join(folder, "session")]);
    const ready = new Promise((done) => {
      child.on("message", (message) => {
        message.state && processes.heard(message.state);
        message.failed && processes.failures++;
        message.again && (processes.relogin = true);
        message.ready && done();
      });
    });
    await ready;
    return child;
  };
  children.push(await openProcess(), await openProcess());

  const login = async () => {
    if (tabs.relogin) {
      tabs.relogin = false;
      const begun = await pages.at(-1).evaluate((who) => session.login(who).then(() => true, () => false), tabs.who);
      tabs.relogin ||= !begun;
    }
    if (processes.relogin) {
      processes.relogin = false;
      children.at(-1).send(processes.who);
    }
  };
  tabs.relogin = true;
  processes.relogin = true;
  await login();

  const killTab = async () => {
    const [page] = pages.splice(0, 1);
    await page.close();
    pages.push(await openTab());
  };
  const crashTabs = async () => {
    // Their processes end in the middle of what they do. The command has no answer then.
    for (const page of pages.splice(0)) {
      const debug = await context.newCDPSession(page);
      const crashed = page.waitForEvent("crash");
      debug.send("Page.crash").catch(() => undefined);
      await crashed;
    }
    pages.push(await openTab(), await openTab(), await openTab());
  };
  const killProcess = async () => {
    const [child] = children.splice(0, 1);
    child.kill("SIGKILL");
    await once(child, "exit");
    children.push(await openProcess());
  };
  const flush = async () => {
    flushed = true;
    await service.flush();
  };
  const killService = () => service.restart("SIGKILL");
  const restartService = () => service.restart("SIGTERM");
  const faults = [
    killTab, killProcess, killService, killTab, killProcess, crashTabs, restartService, killProcess, killTab,
    flush, killTab, killProcess, killService, crashTabs, killProcess, killTab, killService, killProcess,
  ];

  const began = performance.now();
  let done = 0;
  for (let last = -1; proxy.refreshes() < wanted || done < faults.length; await sleep(20)) {
    const now = proxy.refreshes();
    if (now > last) {
      last = now;
      t.lastProgress = performance.now();
    }
    assert.ok(performance.now() - t.lastProgress < 120_000, `no refresh for two minutes after ${now}`);
    await login();
    if (now >= ((done + 1) * wanted) / (faults.length + 1) && done < faults.length) {
      await faults[done++]();
    }
  }
  const seconds = (performance.now() - began) / 1000;

  const unasked = [tabs, processes].flatMap((group) => group.ends.filter((end, i) => !end.flush || i > 0));
  t.diagnostic(
    `${proxy.refreshes()} refreshes in ${seconds.toFixed(0)} s with ${done} faults; ${JSON.stringify(proxy.seen)}; ` +
      `calls that failed and were made again: ${tabs.failures + processes.failures}; ` +
      `sessions ended by the flush: ${tabs.ends.length + processes.ends.length - unasked.length}; ` +
      `by nobody's wish: ${unasked.length}; tokens spent twice: ${proxy.spentTwice()}`,
  );
  assert.equal(done, faults.length);
  assert.deepEqual(unasked, []);
  assert.equal(proxy.spentTwice(), 0);
  assert.equal(proxy.seen.refused.REFRESH_TOKEN_REUSED ?? 0, 0);
  assert.equal(tabs.ends.length + processes.ends.length, 2, "the flush ends both sessions");
});
