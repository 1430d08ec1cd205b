/**
 * Sessions of Latchkey in browsers, Node.js and Deno.
 *
 * @module
 */
export type { Answer, Challenge, LoginResult } from "./login.ts";
export type { Account } from "./record.ts";
export type { Runtime } from "./runtime.ts";
export type { SessionOptions, Storage } from "./options.ts";
export type { State } from "./state.ts";
export type { Store, Stored } from "./store.ts";
export { NoSessionError, reasonOf, retryDelayOf, TooOldError } from "./errors.ts";
export { indexedDbStore } from "./indexeddb.ts";
export { createSession, Session } from "./session.ts";
export { memoryStore, turns } from "./store.ts";
export { AccountService } from "./gen/latchkey/v1/account_service_pb.js";
export { AuthService } from "./gen/latchkey/v1/auth_service_pb.js";
export { ErrorReason } from "./gen/latchkey/v1/error_reason_pb.js";
export { FactorKind } from "./gen/latchkey/v1/factor_pb.js";
export { SessionService } from "./gen/latchkey/v1/session_service_pb.js";
