import { type Store, type Stored, turns } from "./store.ts";

const objects = "sessions";

/**
 * Keeps the session in IndexedDB, for all tabs of the origin. Its transactions are what `write` needs. (localStorage is
 * not: a tab may read what was there before the write of another tab, also under a lock, and would spend a refresh token
 * twice: findings/chromium-localstorage-reads-old-values-under-a-web-lock.sh.)
 *
 * Web Locks (secure contexts only) let one tab at a time refresh, and are free when their tab dies. Without them the
 * owner's lease in the record does that, more slowly.
 */
export function indexedDbStore({ name = "latchkey", key = "session" } = {}): Store {
  const topic = `${name}:${key}`;
  const channel = typeof BroadcastChannel === "undefined" ? undefined : new BroadcastChannel(topic);
  const database = new Database(name);
  return {
    read: () => database.run("readonly", (sessions, done) => get(sessions, key, done)),
    async write(text, version) {
      const written = await database.run<boolean>("readwrite", (sessions, done) => {
        get(sessions, key, (stored) => {
          const current = stored.version === version;
          if (current) {
            sessions.put({ version: version + 1, text } satisfies Stored, key);
          }
          done(current);
        });
      });
      if (written) {
        channel?.postMessage(version + 1);
      }
      return written;
    },
    exclusive: globalThis.navigator?.locks === undefined ? withoutLocks() : (task, signal) => underLock(topic, task, signal),
    watch(changed) {
      channel?.addEventListener("message", changed);
      return () => channel?.removeEventListener("message", changed);
    },
  };
}

function get(sessions: IDBObjectStore, key: string, done: (stored: Stored) => void): void {
  const request: IDBRequest<Stored | undefined> = sessions.get(key);
  request.onsuccess = () => done(request.result ?? { version: 0 });
}

/** The calls of this tab take turns; other tabs are not held back, so nobody is ever told to be alone. */
function withoutLocks(): Store["exclusive"] {
  const own = turns();
  return (task, signal) => own(() => task(false), signal);
}

async function underLock<T>(name: string, task: (alone: boolean) => Promise<T>, signal: AbortSignal): Promise<T> {
  let begun = false;
  try {
    return await navigator.locks.request(name, { signal }, () => {
      begun = true;
      return task(true);
    });
  } catch (error) {
    if (begun || !signal.aborted) {
      throw error;
    }
    return task(false); // a tab that the browser has frozen holds the lock
  }
}

/** Database opens the database when it is first needed, and again after the browser has closed it. */
class Database {
  readonly #name: string;
  #opened: Promise<IDBDatabase> | undefined;

  constructor(name: string) {
    this.#name = name;
  }

  /** Runs steps in one transaction, and resolves with what they give to done once the transaction is on disk. */
  async run<T>(mode: IDBTransactionMode, steps: (sessions: IDBObjectStore, done: (result: T) => void) => void): Promise<T> {
    let transaction: IDBTransaction;
    try {
      transaction = await this.#begin(mode);
    } catch {
      this.#opened = undefined; // mobile browsers close databases of tabs in the background
      transaction = await this.#begin(mode);
    }
    return new Promise((resolve, reject) => {
      let result: { value: T } | undefined;
      transaction.oncomplete = () => (result ? resolve(result.value) : reject(new Error("the transaction gave no result")));
      transaction.onabort = () => reject(transaction.error ?? new Error("the browser has ended the transaction"));
      steps(transaction.objectStore(objects), (value) => (result = { value }));
    });
  }

  async #begin(mode: IDBTransactionMode): Promise<IDBTransaction> {
    this.#opened ??= this.#open();
    // "strict" waits for the disk: a request id must outlive a crash that comes right after its request.
    return (await this.#opened).transaction(objects, mode, { durability: "strict" });
  }

  #open(): Promise<IDBDatabase> {
    return new Promise((resolve, reject) => {
      const request = indexedDB.open(this.#name, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(objects);
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const database = request.result;
        const closed = () => {
          database.close();
          this.#opened = undefined;
        };
        database.onversionchange = closed;
        database.onclose = closed;
        resolve(database);
      };
    });
  }
}
