import { createSession, type Session, type Store, type Stored } from "../../src/index.ts";
import { type SessionRecord, parseRecord } from "../../src/record.ts";
import { systemRuntime } from "../../src/runtime.ts";
import type { Clock } from "./clock.ts";
import type { Service } from "./service.ts";

/** Never resolves: what a client that was killed waits for. */
const never = new Promise<never>(() => undefined);

/** A device: one store, and the tabs or processes that use it. */
export class Device {
  readonly #clock: Clock;
  readonly #service: Service;
  readonly #cookies: boolean;
  readonly #locks: boolean;
  readonly #clients = new Map<string, { readonly session: Session; alive: boolean; release: () => void }>();
  #stored: Stored = { version: 0 };
  #lock: Promise<unknown> = Promise.resolve();

  constructor(clock: Clock, service: Service, { cookies, locks }: { cookies: boolean; locks: boolean }) {
    this.#clock = clock;
    this.#service = service;
    this.#cookies = cookies;
    this.#locks = locks;
  }

  /** What the store has. */
  get record(): SessionRecord {
    return parseRecord(this.#stored.text);
  }

  open(name: string): void {
    const client = { alive: true, release: () => undefined as void };
    const store = this.#store(client);
    const session = createSession({
      baseUrl: "https://auth.example.com",
      storage: this.#cookies ? { cookie: store } : store,
      deviceName: "test",
      fetch: async (input, init) => {
        const answer = await this.#service.receive(name, input, init);
        return client.alive ? answer : never;
      },
      runtime: {
        ...systemRuntime,
        wall: () => this.#clock.wall,
        monotonic: () => this.#clock.steady,
        random: () => 1,
        sleep: async (milliseconds, signal) => {
          await systemRuntime.sleep(milliseconds, signal);
          return client.alive ? undefined : never;
        },
      },
    });
    this.#clients.set(name, Object.assign(client, { session }));
  }

  /** Ends a client in the middle of what it does. */
  kill(name: string): void {
    const client = this.#client(name);
    client.alive = false;
    client.release();
    this.#clients.delete(name);
  }

  session(name: string): Session {
    return this.#client(name).session;
  }

  #client(name: string) {
    const client = this.#clients.get(name);
    if (client === undefined) {
      throw new Error(`no client ${name} is open`);
    }
    return client;
  }

  #store(client: { alive: boolean; release: () => void }): Store {
    const whileAlive = async <T>(result: T): Promise<T> => (client.alive ? result : never);
    return {
      read: () => whileAlive(this.#stored),
      write: async (text, version) => {
        if (!client.alive) {
          return never;
        }
        if (version !== this.#stored.version) {
          return false;
        }
        this.#stored = { version: version + 1, text };
        return whileAlive(true);
      },
      exclusive: (task) => {
        if (!this.#locks) {
          return task(false);
        }
        const before = this.#lock;
        const dead = new Promise<void>((done) => {
          client.release = done;
        });
        const running = before.then(() => (client.alive ? task(true) : never));
        this.#lock = Promise.race([Promise.allSettled([running]), dead]);
        return running;
      },
      watch: () => () => undefined,
    };
  }
}
