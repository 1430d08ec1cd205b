// PostgreSQL and Redis that outlive the service: for tests that kill it.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { start } from "./service.mjs";

/** A port of this machine that is free now. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** Starts an empty PostgreSQL that ends with the test, and returns its URL. */
async function postgres(t) {
  const program = process.env.LATCHKEY_WITHPOSTGRES;
  if (!program) {
    throw new Error("LATCHKEY_WITHPOSTGRES names no program: run task test:web");
  }
  // cat ends with its input, and PostgreSQL with cat.
  const child = spawn(program, ["sh", "-c", 'echo "$LATCHKEY_DATABASE_URL"; exec cat'], { stdio: ["pipe", "pipe", "inherit"] });
  t.after(async () => {
    child.stdin.end();
    await once(child, "exit");
  });
  const [url] = await once(createInterface({ input: child.stdout }), "line");
  return url;
}

/** Starts a Redis that ends with the test. */
async function redis(t) {
  const port = await freePort();
  const child = spawn("redis-server", ["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"], { stdio: "ignore" });
  const ended = once(child, "exit");
  t.after(async () => {
    child.kill();
    await ended;
  });
  const say = (command) =>
    new Promise((done, fail) => {
      const socket = connect(port, "127.0.0.1", () => socket.write(`${command}\r\n`));
      socket.once("data", (data) => (socket.end(), done(String(data))));
      socket.once("error", fail);
    });
  for (let tries = 0; ; tries++) {
    try {
      await say("PING");
      break;
    } catch (error) {
      if (tries > 600) {
        throw error;
      }
      await sleep(50);
    }
  }
  return { url: `redis://127.0.0.1:${port}/0`, flush: () => say("FLUSHALL") };
}

/**
 * Runs `latchkey serve` until the test ends. It can be killed and started again: its stores stay.
 *
 * @param {import("node:test").TestContext} t
 */
export async function serve(t, settings) {
  const [database, cache] = await Promise.all([postgres(t), redis(t)]);
  const env = {
    LATCHKEY_DATABASE_URL: database,
    LATCHKEY_REDIS_URL: cache.url,
    LATCHKEY_SECRET_KEY: randomBytes(32).toString("base64"),
    LATCHKEY_ISSUER: "https://auth.example.com",
    LATCHKEY_SMTP_URL: "smtp://127.0.0.1:9",
    LATCHKEY_MAIL_FROM: "latchkey@example.com",
    LATCHKEY_RESET_URL: "https://auth.example.com/reset",
    LATCHKEY_EMAIL_VERIFICATION: "off",
    ...settings,
  };
  let running = await start(["serve"], env);
  t.after(() => running.stop());
  return {
    /** HOST:PORT of the HTTP listener now. */
    address: () => running.http,
    flush: cache.flush,
    /** Stops it with this signal, and starts it again. */
    async restart(signal) {
      await running.stop(signal);
      running = await start(["serve"], env);
    },
  };
}
