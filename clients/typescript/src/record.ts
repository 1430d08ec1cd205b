import { TooOldError } from "./errors.ts";

/** The account of a session, as its login showed it. */
export interface Account {
  readonly id: string;
  readonly email: string;
  readonly firstName: string;
  readonly lastName: string;
}

/** The tokens of a session. In cookie mode there are none in the store. */
export interface KeptTokens {
  readonly refresh: string;
  readonly access: string;
  /** The token for Latchkey's own methods; "" if the access token is the one. */
  readonly account: string;
  /** How long the access token lives from its request on, in milliseconds, by the clock of the service alone. */
  readonly lifetime?: number;
  /** When it was requested, by the clock of this device. A hint: the clock may have been changed since. */
  readonly wall: number;
}

/** A refresh that was begun and whose answer nobody has stored yet. */
export interface Pending {
  /** The request id. Whoever completes the refresh sends this one. */
  readonly id: string;
  /** Who sends it now; "" if nobody does. */
  readonly owner: string;
  /** Counts the requests, so that others see that the owner lives. */
  readonly attempt: number;
}

/** A session that was left on this device, and of which the service does not know yet. */
export interface Goodbye {
  /** Its refresh token; "" stands for the cookie. */
  readonly refresh: string;
}

/** What a store holds, as JSON. */
export interface SessionRecord {
  readonly format: 1;
  readonly status: "signedOut" | "signedIn" | "ended";
  /** Why it ended: a reason of the contract. Only when ended. */
  readonly reason?: string;
  readonly sessionId?: string;
  readonly account?: Account;
  readonly tokens?: KeptTokens;
  readonly pending?: Pending;
  readonly goodbyes: readonly Goodbye[];
  /** Device tokens by address in lower case, newest last. They outlive sessions. */
  readonly devices: readonly (readonly [email: string, token: string])[];
}

/** The record of a store in which nothing was written yet. */
export const emptyRecord: SessionRecord = { format: 1, status: "signedOut", goodbyes: [], devices: [] };

/** How many accounts' device tokens are kept: those of a family's browser. */
const mostDevices = 8;

/** Reads a record. A text that is none counts as no record: there is nothing in it that could be saved. */
export function parseRecord(text: string | undefined): SessionRecord {
  if (text === undefined) {
    return emptyRecord;
  }
  let read: Partial<Omit<SessionRecord, "format">> & { format?: number };
  try {
    read = JSON.parse(text);
  } catch {
    return emptyRecord;
  }
  if (typeof read !== "object" || read === null) {
    return emptyRecord;
  }
  if (typeof read.format === "number" && read.format > 1) {
    // Overwriting it would log out the newer version in the other tab.
    throw new TooOldError("the stored session was written by a newer version of @latchkey-auth/client");
  }
  return { ...emptyRecord, ...read, format: 1 };
}

/** The record without a session, with what outlives it. */
export function withoutSession(record: SessionRecord, status: "signedOut" | "ended"): SessionRecord {
  return { format: 1, status, goodbyes: record.goodbyes, devices: record.devices };
}

/** The device tokens with a newer one of this account. */
export function withDevice(devices: SessionRecord["devices"], email: string, token: string): SessionRecord["devices"] {
  if (token === "") {
    return devices;
  }
  const key = email.trim().toLowerCase();
  return [...devices.filter(([other]) => other !== key), [key, token] as const].slice(-mostDevices);
}

/** The device token of an account, or "". */
export function deviceOf(record: SessionRecord, email: string): string {
  const key = email.trim().toLowerCase();
  return record.devices.find(([other]) => other === key)?.[1] ?? "";
}
