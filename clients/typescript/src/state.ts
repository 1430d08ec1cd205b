import type { Account, SessionRecord } from "./record.ts";

/**
 * What an app shows:
 *
 * - starting: the store is not read yet.
 * - signedOut: nobody is logged in.
 * - signedIn: there is a session. `account` is what its login showed; it is missing if the session was taken over by
 *   `resume`.
 * - ended: the service has ended the session. `reason` is SESSION_ENDED (logged out, revoked, run out),
 *   REFRESH_TOKEN_REUSED (somebody else may hold a copy of a token; the owner has got a mail) or REFRESH_TOKEN_INVALID
 *   (the service does not know the session). The app asks for a login.
 *
 * No other failure changes the state: a service that cannot be reached logs nobody out.
 */
export type State =
  | { readonly status: "starting" }
  | { readonly status: "signedOut" }
  | { readonly status: "signedIn"; readonly sessionId: string; readonly account?: Account }
  | { readonly status: "ended"; readonly reason: string; readonly sessionId: string };

/** The state that a record means. */
export function stateOf(record: SessionRecord | undefined): State {
  if (record === undefined) {
    return { status: "starting" };
  }
  switch (record.status) {
    case "signedIn":
      return { status: "signedIn", sessionId: record.sessionId ?? "", ...(record.account && { account: record.account }) };
    case "ended":
      return { status: "ended", reason: record.reason ?? "", sessionId: record.sessionId ?? "" };
    default:
      return { status: "signedOut" };
  }
}

/** States fixes one object for each state, so that renderers see by identity whether something changed. */
export class States {
  readonly #listeners = new Set<(state: State) => void>();
  #current: State = { status: "starting" };

  get current(): State {
    return this.#current;
  }

  /** Calls the listener after each change, and returns a function that stops it. */
  listen(listener: (state: State) => void): () => void {
    const own = (state: State) => listener(state);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  /** Takes the next state, and tells the listeners if it is another one. */
  show(next: State): void {
    if (JSON.stringify(next) === JSON.stringify(this.#current)) {
      return;
    }
    this.#current = next;
    for (const listener of this.#listeners) {
      try {
        listener(next);
      } catch (error) {
        // As with events: a mistake in a listener is reported, and disturbs neither the others nor the session.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
