import type { Anchor } from "./clock.ts";
import { type KeptTokens, parseRecord, type SessionRecord } from "./record.ts";
import type { Runtime } from "./runtime.ts";
import type { Store } from "./store.ts";

/** What is known of the session here. */
export interface Known {
  readonly record: SessionRecord;
  /** The tokens to use now: those of the record, or in cookie mode those that this process holds. */
  readonly tokens?: KeptTokens;
}

/**
 * Keeper reads and writes the record of a store, and holds what this process knows of it. In cookie mode it keeps the
 * access token in memory, and the record has no tokens.
 */
export class Keeper {
  readonly #store: Store;
  readonly #runtime: Runtime;
  readonly #cookies: boolean;
  readonly #changed: () => void;
  #version = -1;
  #record: SessionRecord | undefined;
  /** The tokens of cookie mode, and the session that they are of. */
  #held: { readonly sessionId: string; readonly tokens: KeptTokens } | undefined;
  #anchor: Anchor | undefined;

  constructor(store: Store, runtime: Runtime, cookies: boolean, changed: () => void) {
    this.#store = store;
    this.#runtime = runtime;
    this.#cookies = cookies;
    this.#changed = changed;
  }

  /** What was known last, or undefined before the first read. */
  get known(): Known | undefined {
    const record = this.#record;
    if (record === undefined) {
      return undefined;
    }
    const held = this.#held?.sessionId === record.sessionId ? this.#held?.tokens : undefined;
    const tokens = record.status !== "signedIn" ? undefined : this.#cookies ? held : record.tokens;
    return { record, ...(tokens && { tokens }) };
  }

  /** How old the tokens are that are known. */
  anchorOf(tokens: KeptTokens): Anchor {
    if (this.#anchor?.access !== tokens.access) {
      this.#anchor = { access: tokens.access, monotonic: this.#runtime.monotonic(), own: false };
    }
    return this.#anchor;
  }

  /** Reads the store. */
  async read(): Promise<Known> {
    const { version, text } = await this.#store.read();
    this.#adopt(parseRecord(text), version);
    return this.known ?? { record: parseRecord(text) };
  }

  /**
   * Changes the record: edit gets what the store has, and returns what to write, or undefined to leave it. It is called
   * again if somebody else wrote meanwhile. Returns whether it was written, and what is known then.
   */
  async change(edit: (now: Known) => SessionRecord | undefined): Promise<{ written: boolean; known: Known }> {
    for (;;) {
      const { version, text } = await this.#store.read();
      this.#adopt(parseRecord(text), version);
      const now = this.known ?? { record: parseRecord(text) };
      const next = edit(now);
      if (next === undefined) {
        return { written: false, known: now };
      }
      if (await this.#store.write(JSON.stringify(next), version)) {
        this.#adopt(next, version + 1);
        return { written: true, known: this.known ?? { record: next } };
      }
    }
  }

  /** Notes that this process has asked for these tokens, at this time of the steady clock. */
  obtained(tokens: KeptTokens, sessionId: string, monotonic: number): void {
    this.#anchor = { access: tokens.access, monotonic, own: true };
    if (this.#cookies) {
      this.#held = { sessionId, tokens };
    }
  }

  /** The form of tokens that the record may have. */
  stored(tokens: KeptTokens): { tokens?: KeptTokens } {
    return this.#cookies ? {} : { tokens };
  }

  /** Takes a record over, unless a newer one is known: answers of a store may overtake each other. */
  #adopt(record: SessionRecord, version: number): void {
    if (version < this.#version) {
      return;
    }
    this.#version = version;
    if (this.#record?.status === "signedIn" && record.status !== "signedIn") {
      this.#held = undefined; // no token outlives its session in memory
    }
    this.#record = record;
    this.#changed();
  }
}
