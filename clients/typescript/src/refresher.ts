import { ConnectError } from "@connectrpc/connect";
import type { Client } from "@connectrpc/connect";
import { keptTokens } from "./calls.ts";
import { subjectOf } from "./clock.ts";
import { endOf, isPassing, retryDelayOf } from "./errors.ts";
import type { AuthService } from "./gen/latchkey/v1/auth_service_pb.js";
import type { Tokens } from "./gen/latchkey/v1/user_pb.js";
import type { Keeper, Known } from "./keeper.ts";
import { type Pending, type SessionRecord, withoutSession } from "./record.ts";
import type { Runtime } from "./runtime.ts";
import type { Store } from "./store.ts";

/** What a Refresher needs. */
export interface RefresherConfig {
  readonly keeper: Keeper;
  readonly store: Store;
  readonly runtime: Runtime;
  readonly auth: Client<typeof AuthService>;
  readonly cookies: boolean;
  /** How long one refresh may try, in milliseconds. */
  readonly patience: number;
  /** How long one request may take, in milliseconds. */
  readonly timeout: number;
}

/** The shortest and the longest pause before a request is repeated, in milliseconds. */
const firstPause = 200;
const longestPause = 5000;
/** How often somebody looks whether the owner of a pending refresh still lives. */
const lookAgain = 250;

/** What the owner of a refresh sends. */
interface Claim {
  readonly pending: Pending;
  readonly refresh: string;
}

/** Refresher trades refresh tokens, one trade at a time, and each token with one request id only. */
export class Refresher {
  readonly #cfg: RefresherConfig;
  #running: Promise<void> | undefined;

  constructor(cfg: RefresherConfig) {
    this.#cfg = cfg;
  }

  /**
   * Sees to it that the session's access token is not this one any more ("": it has none). Returns when it has another
   * one, or no session is left. Throws what the service or the network said if neither came about in time: the session
   * goes on, and the next try sends the same request.
   */
  async replace(access: string): Promise<void> {
    let mine = false;
    while (!mine && this.#needed(await this.#cfg.keeper.read(), access)) {
      // Calls that find a refresh under way wait for it, and look then.
      mine = this.#running === undefined;
      this.#running ??= this.#trade(access).finally(() => {
        this.#running = undefined;
      });
      await this.#running;
    }
  }

  #needed({ record, tokens }: Known, access: string): boolean {
    return record.status === "signedIn" && (tokens?.access ?? "") === access;
  }

  async #trade(access: string): Promise<void> {
    const { store, runtime, patience } = this.#cfg;
    const until = runtime.monotonic() + patience;
    const giveUp = new AbortController();
    const done = new AbortController();
    void runtime.sleep(patience, done.signal).then(() => giveUp.abort());
    try {
      await store.exclusive(async (alone) => this.#own(access, alone, until), giveUp.signal);
    } finally {
      done.abort();
    }
  }

  /** Claims the refresh, sends it until an answer settles it, and stores the answer. */
  async #own(access: string, alone: boolean, until: number): Promise<void> {
    const { runtime, store } = this.#cfg;
    const owner = store.owners?.name() ?? runtime.uuid();
    let pause = firstPause;
    for (;;) {
      const claim = await this.#claim(access, owner, alone, until);
      if (claim === undefined) {
        return; // somebody else has done it
      }
      const failure = await this.#send(claim);
      if (failure === undefined) {
        return;
      }
      const delay = Math.max(pause * (0.5 + runtime.random() / 2), retryDelayOf(failure) ?? 0);
      if (!isPassing(failure) || runtime.monotonic() + delay > until) {
        await this.#disown(owner);
        throw failure;
      }
      await runtime.sleep(delay);
      pause = Math.min(pause * 2, longestPause);
    }
  }

  /**
   * Stores the request id before anything is sent: if the answer is lost, with this process or without it, the next
   * request has the same id, and the service answers it with the same tokens. Waits while another owner seems to live.
   */
  async #claim(access: string, owner: string, alone: boolean, until: number): Promise<Claim | undefined> {
    const { keeper, runtime, store, timeout } = this.#cfg;
    // An owner writes before each request. Who has not written for as long as a request and its pause may take is gone.
    const lease = timeout + longestPause;
    let seen = "";
    let since = runtime.monotonic();
    for (;;) {
      let claim: Claim | undefined;
      let other: string | undefined;
      await keeper.change((known) => {
        claim = undefined;
        other = undefined;
        if (!this.#needed(known, access)) {
          return undefined;
        }
        const { pending } = known.record;
        const state = pending === undefined ? "" : `${pending.owner} ${pending.attempt}`;
        const free = alone || pending === undefined || pending.owner === "" || pending.owner === owner;
        if (!free && !store.owners?.gone(pending.owner) && !(seen === state && runtime.monotonic() - since >= lease)) {
          other = state;
          return undefined;
        }
        const next = { id: pending?.id ?? runtime.uuid(), owner, attempt: (pending?.attempt ?? 0) + 1 };
        claim = { pending: next, refresh: known.record.tokens?.refresh ?? "" };
        return { ...known.record, pending: next };
      });
      if (other === undefined) {
        return claim;
      }
      if (other !== seen) {
        seen = other;
        since = runtime.monotonic();
      } else if (runtime.monotonic() > until + lease) {
        throw new ConnectError("another process does not complete its refresh");
      }
      await runtime.sleep(lookAgain);
    }
  }

  /** Sends the request once. Returns undefined when it is settled, or the failure. */
  async #send({ pending, refresh }: Claim): Promise<unknown> {
    const { auth, cookies, keeper, runtime, timeout } = this.#cfg;
    const wall = runtime.wall();
    const monotonic = runtime.monotonic();
    let date: string | null = null;
    try {
      const { tokens } = await auth.refreshToken(
        { refreshToken: refresh, requestId: pending.id },
        { timeoutMs: timeout, onHeader: (header) => (date = header.get("date")) },
      );
      if (tokens === undefined) {
        return new ConnectError("the answer has no tokens");
      }
      const kept = keptTokens(tokens, tokens.refreshToken, date, wall);
      await this.#settle(pending.id, (record) => {
        if (cookies && isAnothers(record, tokens)) {
          return ended(record, "SESSION_ENDED");
        }
        keeper.obtained(kept, tokens.sessionId, monotonic);
        const { pending: _, ...rest } = record;
        return { ...rest, sessionId: tokens.sessionId, ...keeper.stored(kept) };
      });
      return undefined;
    } catch (failure) {
      const reason = endOf(failure);
      if (reason === "") {
        return failure;
      }
      await this.#settle(pending.id, (record) => ended(record, reason));
      return undefined;
    }
  }

  /**
   * Stores what the answer to a request makes of the record, unless the request is not what the record waits for any
   * more: then somebody else has completed it, or has logged in or out, and the answer is too late to mean anything.
   */
  async #settle(id: string, edit: (record: SessionRecord) => SessionRecord): Promise<void> {
    await this.#cfg.keeper.change(({ record }) => (record.pending?.id === id ? edit(record) : undefined));
  }

  /** Leaves the refresh to anybody. What fails here only makes others wait longer. */
  async #disown(owner: string): Promise<void> {
    const free = ({ record }: Known) =>
      record.pending?.owner === owner ? { ...record, pending: { ...record.pending, owner: "" } } : undefined;
    await this.#cfg.keeper.change(free).catch(() => undefined);
  }
}

/**
 * Whether the tokens are of another person's login than the record. The account pages and all apps of a browser have one
 * cookie, so it may have been replaced meanwhile. What this page shows, and the calls that wait, are of the account before.
 */
function isAnothers(record: SessionRecord, tokens: Tokens): boolean {
  return record.sessionId !== tokens.sessionId && (record.account === undefined || record.account.id !== subjectOf(tokens.accessToken));
}

function ended(record: SessionRecord, reason: string): SessionRecord {
  const { sessionId } = record;
  return { ...withoutSession(record, "ended"), reason, ...(sessionId && { sessionId }) };
}
