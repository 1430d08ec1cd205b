// The service under test: `latchkey dev` on free ports, with stores of its own.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

/** How long a start, an end or a mail may take on two busy cores. */
const patience = 90_000;

/** Starts a program of latchkey, and waits for its ready line. */
export async function start(args, env) {
  const program = process.env.LATCHKEY_BIN;
  if (!program) {
    throw new Error("LATCHKEY_BIN names no program: run task test:web");
  }
  const child = spawn(program, args, {
    env: {
      PATH: process.env.PATH,
      HOME: process.env.HOME,
      LATCHKEY_GRPC_ADDR: "127.0.0.1:0",
      LATCHKEY_HTTP_ADDR: "127.0.0.1:0",
      LATCHKEY_OPS_ADDR: "127.0.0.1:0",
      ...env,
    },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const log = [];
  child.stderr.on("data", (data) => {
    log.push(String(data));
    if (log.length > 1000) {
      log.shift();
    }
  });
  const ended = once(child, "exit");
  const lines = createInterface({ input: child.stdout });
  const ready = new Promise((done, fail) => {
    const late = setTimeout(() => fail(new Error(`latchkey is not ready:\n${log.join("")}`)), patience);
    lines.on("line", (line) => {
      if (line.startsWith("ready ")) {
        clearTimeout(late);
        done(line);
      }
    });
    ended.then(([code]) => {
      clearTimeout(late);
      fail(new Error(`latchkey ended with ${code}:\n${log.join("")}`));
    });
  });
  const addresses = Object.fromEntries((await ready).split(" ").slice(1).map((part) => part.split("=")));
  return {
    ...addresses,
    log: () => log.join(""),
    /** Stops it with this signal, and waits for its end. */
    async stop(signal = "SIGTERM") {
      child.kill(signal);
      const late = setTimeout(() => child.kill("SIGKILL"), patience);
      const [code] = await ended;
      clearTimeout(late);
      return code;
    },
  };
}

/**
 * Runs `latchkey dev` until the test ends.
 *
 * @param {import("node:test").TestContext} t
 * @param {Record<string, string>} settings
 */
export async function dev(t, settings = {}) {
  const dir = await mkdtemp(join(tmpdir(), "latchkey-web-"));
  await chmod(dir, 0o755); // as root, PostgreSQL runs as another user
  const running = await start(["dev"], { LATCHKEY_DEV_DIR: join(dir, "dev"), ...settings });
  t.after(async () => {
    const code = await running.stop();
    await rm(dir, { recursive: true, force: true });
    if (code !== 0) {
      throw new Error(`latchkey dev ended with ${code}:\n${running.log()}`);
    }
  });
  const origin = `http://localhost:${running.http.split(":").at(-1)}`;
  const mails = async () => (await fetch(`${origin}/dev/mailbox.json`)).json();
  return {
    ...running,
    origin,
    /** LATCHKEY_DEV_DIR: the keys of operators and services are in it. */
    dir: join(dir, "dev"),
    mails,
    /** Waits for the newest mail to an address whose subject matches. */
    async mail(to, subject) {
      for (const end = Date.now() + patience; Date.now() < end; await sleep(50)) {
        const found = (await mails()).find((mail) => mail.to === to && subject.test(mail.subject));
        if (found) {
          return found;
        }
      }
      throw new Error(`no mail to ${to} with the subject ${subject}`);
    },
  };
}
