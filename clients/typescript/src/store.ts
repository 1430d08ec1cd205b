/** What a store holds: a text, and the number of the write that put it there (0: nothing was written yet). */
export interface Stored {
  readonly version: number;
  readonly text?: string;
}

/**
 * Where a session is kept. Everybody who uses the same store (calls, tabs, processes) has the same session.
 *
 * The one promise that logins hang on is that of `write`: of two writers who saw the same version, one fails. Read and
 * write must not answer from a copy that can be older than the last write.
 */
export interface Store {
  read(): Promise<Stored>;
  /**
   * Writes the text as version + 1 if the newest version is still this one, and returns whether it did. When it has
   * returned true, the text outlives the end of the process (unless the store is memory). It may return false after a
   * write that others have already replaced.
   */
  write(text: string, version: number): Promise<boolean>;
  /**
   * Runs the task while nobody else runs one, and calls it with true. The right must end by itself when its holder dies.
   * If it cannot be had before the signal aborts, the task runs with false: the session is then as correct as before,
   * and waits longer for a refresh that its owner no longer sends.
   */
  exclusive<T>(task: (alone: boolean) => Promise<T>, signal: AbortSignal): Promise<T>;
  /** How those who use the store name themselves, if it can tell from a name that its bearer does not live any more. */
  readonly owners?: { name(): string; gone(owner: string): boolean };
  /** Calls back after writes of others, and returns a function that stops it. Calls may come late, and too often. */
  watch(changed: () => void): () => void;
}

/** Runs the tasks of one process one after the other. */
export function turns(): Store["exclusive"] {
  let before: Promise<unknown> = Promise.resolve();
  return (task, signal) => {
    const turn = before.then(() => true);
    const late = new Promise<boolean>((done) => {
      signal.addEventListener("abort", () => done(false), { once: true });
    });
    const running = Promise.race([turn, late]).then(task);
    before = Promise.allSettled([turn, running]);
    return running;
  };
}

/**
 * Keeps the session in memory: it is gone with the page or the process. Sessions that share the object share the
 * session.
 */
export function memoryStore(): Store {
  let stored: Stored = { version: 0 };
  const watchers = new Set<() => void>();
  return {
    read: async () => stored,
    async write(text, version) {
      if (version !== stored.version) {
        return false;
      }
      stored = { version: version + 1, text };
      for (const changed of watchers) {
        queueMicrotask(changed);
      }
      return true;
    },
    exclusive: turns(),
    watch(changed) {
      const own = () => changed();
      watchers.add(own);
      return () => watchers.delete(own);
    },
  };
}
