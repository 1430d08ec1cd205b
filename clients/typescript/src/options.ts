import { indexedDbStore } from "./indexeddb.ts";
import { type Runtime, systemRuntime } from "./runtime.ts";
import { memoryStore, type Store } from "./store.ts";

/**
 * Where a session is kept:
 *
 * - "memory" (the default): gone with the page or the process.
 * - "indexeddb": in the browser, for all tabs of the origin. Every script of the page can read it.
 * - "cookie": the refresh token is in a cookie that no script can read, and access tokens are in memory. The service
 *   needs LATCHKEY_WEB_COOKIES, and the page's origin in LATCHKEY_WEB_ORIGINS unless it is its own. What tabs must know
 *   of each other is in IndexedDB, and no token.
 * - a store, such as `fileStore(folder)` of "@latchkey-auth/client/file".
 * - `{ cookie: store }`: as "cookie", with a store for what is no token.
 */
export type Storage = "memory" | "indexeddb" | "cookie" | Store | { readonly cookie: Store };

/** Options of createSession. */
export interface SessionOptions {
  /** Where the service is, such as "https://auth.example.com". */
  readonly baseUrl: string;
  readonly storage?: Storage;
  /**
   * Origins other than the service's to which `fetch` and `interceptor` send the access token, such as
   * "https://api.example.com". A request to any other origin is refused: it would give the token away.
   */
  readonly origins?: readonly string[];
  /** The name of this device in its owner's list of sessions, at most 100 characters. */
  readonly deviceName?: string;
  /** How long one request to the service may take, in milliseconds: 10,000 unless set. */
  readonly timeout?: number;
  /** How long a refresh repeats its request before the call fails, in milliseconds: 30,000 unless set. */
  readonly patience?: number;
  /** Replaces the fetch of the platform. */
  readonly fetch?: typeof fetch;
  /** Replaces clocks, pauses and randomness, for tests. */
  readonly runtime?: Runtime;
}

/** The options with their defaults. */
export interface Settings {
  readonly baseUrl: string;
  readonly store: Store;
  readonly cookies: boolean;
  readonly origins: ReadonlySet<string>;
  readonly deviceName: string;
  readonly timeout: number;
  readonly patience: number;
  readonly fetch: typeof fetch;
  readonly runtime: Runtime;
}

/** Completes options. */
export function settingsOf(options: SessionOptions): Settings {
  const { storage = "memory" } = options;
  return {
    baseUrl: options.baseUrl.replace(/\/+$/, ""),
    ...storageOf(storage),
    origins: new Set([options.baseUrl, ...(options.origins ?? [])].map((url) => new URL(url).origin)),
    deviceName: options.deviceName ?? "",
    timeout: options.timeout ?? 10_000,
    patience: options.patience ?? 30_000,
    // Browsers want their fetch called on the global object.
    fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    runtime: options.runtime ?? systemRuntime,
  };
}

function storageOf(storage: Storage): { store: Store; cookies: boolean } {
  switch (storage) {
    case "memory":
      return { store: memoryStore(), cookies: false };
    case "indexeddb":
      return { store: indexedDbStore(), cookies: false };
    case "cookie":
      return { store: indexedDbStore({ key: "cookie" }), cookies: true };
    default:
      return "cookie" in storage ? { store: storage.cookie, cookies: true } : { store: storage, cookies: false };
  }
}
