import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { fileStore } from "../src/file.ts";

async function folder(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "latchkey-file-"));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return join(dir, "session");
}

test("of two writers who saw the same version, one wins", async (t) => {
  const dir = await folder(t);
  const stores = Array.from({ length: 8 }, () => fileStore(dir));
  for (let version = 0; version < 40; version++) {
    const wins = await Promise.all(stores.map((store, i) => store.write(`${version} ${i}`, version)));
    const winner = wins.indexOf(true);
    assert.equal(wins.filter(Boolean).length, 1, String(version));
    assert.deepEqual(await fileStore(dir).read(), { version: version + 1, text: `${version} ${winner}` });
  }
  assert.ok((await readdir(dir)).length <= 20, "old writes and drafts are removed");
});

test("a writer that stood still while others wrote on does not win", async (t) => {
  const dir = await folder(t);
  const slow = fileStore(dir);
  await slow.write("first", 0);
  assert.equal((await slow.read()).version, 1);
  const other = fileStore(dir);
  for (let version = 1; version < 60; version++) {
    await other.read();
    assert.ok(await other.write(`other ${version}`, version));
  }
  assert.equal(await slow.write("late", 1), false, "the number 2 was free again");
  assert.deepEqual(await fileStore(dir).read(), { version: 60, text: "other 59" });
});

test("the folder and its files are the owner's alone", async (t) => {
  const dir = await folder(t);
  await fileStore(dir).write("text", 0);
  assert.equal((await stat(dir)).mode & 0o777, 0o700);
  assert.equal((await stat(join(dir, "1"))).mode & 0o777, 0o600);
});

test("processes that count together lose no step, also if some are killed", async (t) => {
  const dir = await folder(t);
  const program = new URL("./file_counter.ts", import.meta.url);
  const counters = Array.from({ length: 4 }, () => fork(program, [dir]));
  const counted = counters.map(() => 0);
  counters.forEach((counter, i) => counter.on("message", (count) => void (counted[i] = Number(count))));
  const ends = counters.map((counter) => once(counter, "exit"));
  while (counted.some((count) => count < 20)) {
    await new Promise((done) => setTimeout(done, 10));
  }
  counters[0]?.kill("SIGKILL");
  counters[1]?.kill("SIGKILL");
  await Promise.all(ends.slice(0, 2));
  for (const counter of counters.slice(2)) {
    counter.send("stop");
  }
  await Promise.all(ends);
  const total = counted.reduce((sum, count) => sum + count, 0);
  const { text } = await fileStore(dir).read();
  // A killed process may have counted once more than it said.
  assert.ok(Number(text) >= total && Number(text) <= total + 2, `${text}, and they say ${total}`);
});

test("an owner whose process has ended is gone, and one that lives is not", async (t) => {
  const { owners } = fileStore(await folder(t));
  assert.ok(owners);
  assert.equal(owners.gone(owners.name()), false);
  const child = fork(new URL("./file_counter.ts", import.meta.url), ["/nonexistent"], { stdio: "ignore" });
  const { pid } = child;
  await once(child, "exit");
  assert.equal(owners.gone(`${pid} x`), true);
  assert.equal(owners.gone("something else"), false);
});

test("watch tells of the writes of other processes", async (t) => {
  const dir = await folder(t);
  const store = fileStore(dir);
  let seen = false;
  t.after(store.watch(() => (seen = true)));
  const other = fileStore(dir);
  while (!seen) {
    await other.write("text", (await other.read()).version);
  }
});
