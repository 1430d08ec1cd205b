import type { KeptTokens } from "./record.ts";
import type { Runtime } from "./runtime.ts";

/** The longest life of an access token that a service can be set to, with room: what is longer was misread. */
const longest = 48 * 3600 * 1000;

/**
 * The life of an access token in milliseconds, or undefined if it cannot be told. Both ends are times of the service,
 * so the clock of the device does not matter: the expiry and the `Date` of the same answer, or, where scripts may not
 * read that header, `exp` and `iat` of the token.
 */
export function lifetimeOf(accessToken: string, expires: number | undefined, date: string | null): number | undefined {
  const now = date === null ? Number.NaN : Date.parse(date);
  if (expires !== undefined && !Number.isNaN(now)) {
    const left = expires - now;
    if (left > 0 && left <= longest) {
      return left;
    }
  }
  const { exp, iat } = claimsOf(accessToken);
  if (typeof exp === "number" && typeof iat === "number" && exp > iat && (exp - iat) * 1000 <= longest) {
    return (exp - iat) * 1000;
  }
  return undefined;
}

/** The id of the account that an access token is for, or "" if it cannot be told. */
export function subjectOf(accessToken: string): string {
  const { sub } = claimsOf(accessToken);
  return typeof sub === "string" ? sub : "";
}

function claimsOf(jwt: string): { exp?: unknown; iat?: unknown; sub?: unknown } {
  try {
    const payload = (jwt.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const claims: unknown = JSON.parse(atob(payload));
    return typeof claims === "object" && claims !== null ? claims : {};
  } catch {
    return {}; // not a JWT, which a service may decide one day
  }
}

/** When this process first had an access token, by the clock that does not jump. */
export interface Anchor {
  readonly access: string;
  readonly monotonic: number;
  /** Whether this process asked for the token, and so knows its age. */
  readonly own: boolean;
}

/** What is known about the age of an access token. */
export interface Age {
  /** It should be replaced before the next call. */
  readonly due: boolean;
  /** It has surely expired: a call with it would be refused. */
  readonly expired: boolean;
}

/**
 * Judges the age of a token. A clock that was set forward makes one refresh too many, and one that was set back costs a
 * refused call, which is repeated after a refresh: neither ends a session.
 */
export function ageOf(tokens: KeptTokens, anchor: Anchor, runtime: Runtime): Age {
  const { lifetime } = tokens;
  if (lifetime === undefined) {
    return { due: false, expired: false }; // a refusal will tell
  }
  const byWall = runtime.wall() - tokens.wall;
  const bySteady = runtime.monotonic() - anchor.monotonic;
  if (!anchor.own && byWall < 0) {
    // The clock was set back since another process stored the token: its age is unknown.
    return { due: true, expired: false };
  }
  // The wall clock also runs while the device sleeps, when the other one may stand still.
  const age = Math.max(bySteady, byWall);
  const margin = Math.min(60_000, lifetime / 5);
  return { due: age >= lifetime - margin, expired: (anchor.own ? bySteady : age) >= lifetime };
}
