import { watch } from "node:fs";
import { link, mkdir, open, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import process from "node:process";
import { type Store, type Stored, turns } from "./store.ts";

/** How many writes are kept. The newest is the session; the others let a slow writer see whose write came after its own. */
const kept = 16;

/** What a file holds: the text, and the random name of its write and of the write that it replaces. */
interface Write {
  readonly id: string;
  readonly before: string;
  readonly text: string;
}

/**
 * Keeps the session in a folder, for all processes of one machine, in Node.js and Deno. The folder is made for its owner
 * alone. Each write is a file whose name is its number, made by link(2), which fails if there is one: so one of two
 * writers wins, without a lock that somebody who died could keep. The file system must have hard links.
 */
export function fileStore(folder: string): Store {
  const own = turns();
  const ids = new Map<number, string>();
  return {
    async read() {
      const { version, write } = await newest(folder);
      if (write !== undefined) {
        ids.set(version, write.id);
      }
      return { version, ...(write && { text: write.text }) } satisfies Stored;
    },
    async write(text, version) {
      const write = { id: crypto.randomUUID(), before: ids.get(version) ?? "", text };
      ids.clear();
      const written = (await create(folder, version + 1, write)) && (await isNewest(folder, version + 1, write.id));
      if (written) {
        await clean(folder, version + 1);
      }
      return written;
    },
    // Other processes are not held back, so nobody is told to be alone: the owner's lease in the record does the rest.
    exclusive: (task, signal) => own(() => task(false), signal),
    owners: { name: () => `${process.pid} ${crypto.randomUUID()}`, gone },
    watch(changed) {
      const controller = new AbortController();
      void mkdir(folder, { recursive: true, mode: 0o700 }).then(() => {
        if (!controller.signal.aborted) {
          watch(folder, { persistent: false, signal: controller.signal }, () => changed()).on("error", () => undefined);
        }
      });
      return () => controller.abort();
    },
  };
}

/** Whether the process of an owner has ended. If it cannot be told, as between containers, the lease decides. */
function gone(owner: string): boolean {
  const pid = Number(owner.split(" ")[0]);
  if (!Number.isInteger(pid) || pid <= 0) {
    return false;
  }
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "ESRCH";
  }
}

/** The numbers of the writes, newest first. */
async function versions(folder: string): Promise<number[]> {
  const names = await readdir(folder).catch((error) => {
    if (error.code === "ENOENT") {
      return [];
    }
    throw error;
  });
  return names
    .filter((name) => /^[0-9]+$/.test(name))
    .map(Number)
    .sort((a, b) => b - a);
}

async function newest(folder: string): Promise<{ version: number; write?: Write }> {
  for (;;) {
    const [version] = await versions(folder);
    if (version === undefined) {
      return { version: 0 };
    }
    const write = await contents(folder, version);
    if (write !== undefined) {
      return { version, write };
    }
    // It was replaced and removed meanwhile: look again.
  }
}

async function contents(folder: string, version: number): Promise<Write | undefined> {
  try {
    return JSON.parse(await readFile(join(folder, String(version)), "utf8"));
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") {
      return undefined;
    }
    throw error;
  }
}

/** Writes a file whole, on the disk, under a name that nobody has. */
async function create(folder: string, version: number, write: Write): Promise<boolean> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const draft = join(folder, `${write.id}.new`);
  const file = await open(draft, "wx", 0o600);
  try {
    await file.writeFile(JSON.stringify(write));
    await file.sync();
    await file.close();
    await link(draft, join(folder, String(version)));
    return true;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") {
      return false;
    }
    throw error;
  } finally {
    await rm(draft, { force: true });
  }
}

/**
 * Whether a write that was made counts. Others may have written on while this process stood still, and removed the file
 * whose number this one has taken again.
 */
async function isNewest(folder: string, version: number, id: string): Promise<boolean> {
  const [top] = await versions(folder);
  if (top === version) {
    return true;
  }
  if ((await contents(folder, version + 1))?.before === id) {
    return true; // somebody has read it and written on
  }
  await rm(join(folder, String(version)), { force: true });
  return false;
}

async function clean(folder: string, version: number): Promise<void> {
  for (const old of await versions(folder)) {
    if (old <= version - kept) {
      await rm(join(folder, String(old)), { force: true });
    }
  }
}
