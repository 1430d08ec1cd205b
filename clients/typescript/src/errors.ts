import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";

/** Thrown by what needs a session when there is none; as the `cause` of a ConnectError by calls of a transport. */
export class NoSessionError extends Error {
  override readonly name = "NoSessionError";
  /** The reason of the contract if the session was ended, or "" if nobody is logged in. */
  readonly reason: string;

  constructor(reason = "") {
    super(reason === "" ? "nobody is logged in" : `the session has ended: ${reason}`);
    this.reason = reason;
  }
}

/** Thrown when the service answers with something that this version of the client does not know. */
export class TooOldError extends Error {
  override readonly name = "TooOldError";
}

/**
 * The reason of a refusal: the name of an ErrorReason without its prefix, such as "RATE_LIMITED", or "" if the error is
 * not one of Latchkey's refusals. Decide by it, and not by the text.
 */
export function reasonOf(error: unknown): string {
  if (!(error instanceof ConnectError)) {
    return "";
  }
  return error.findDetails(ErrorInfoSchema).find((info) => info.domain === "latchkey")?.reason ?? "";
}

/** When a refused call can succeed, in milliseconds from now, or undefined. */
export function retryDelayOf(error: unknown): number | undefined {
  if (!(error instanceof ConnectError)) {
    return undefined;
  }
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return delay && Number(delay.seconds) * 1000 + delay.nanos / 1e6;
}

/** The answers to RefreshToken after which there is no session. Nothing else ends one. */
const ends = new Set(["REFRESH_TOKEN_REUSED", "REFRESH_TOKEN_INVALID", "SESSION_ENDED"]);

/** The reason with which an answer to RefreshToken or Logout says that there is no such session, or "". */
export function endOf(error: unknown): string {
  const reason = reasonOf(error);
  return ends.has(reason) ? reason : "";
}

/** Codes after which nobody knows whether the service got the request, or with which it asks to come back. */
const passing = new Set([
  Code.Unavailable,
  Code.DeadlineExceeded,
  Code.ResourceExhausted,
  Code.Aborted,
  Code.Canceled,
  Code.Unknown, // fetch says no more when the network fails
  Code.Internal,
]);

/** Whether the same request may succeed later. */
export function isPassing(error: unknown): boolean {
  return passing.has(ConnectError.from(error).code);
}

/** The refusals of an access token: a refresh brings another token, or the word that the session has ended. */
const tokenRefusals = new Set(["", "TOKEN_INVALID", "TOKEN_EXPIRED"]);
const sessionRefusals = new Set(["SESSION_ENDED", "USER_NOT_FOUND", "ACCOUNT_DISABLED"]);

/** What a refused call says about its access token: nothing, that it is not good, or that its session is not. */
export function refusalOf(error: unknown): "none" | "token" | "session" {
  const { code } = ConnectError.from(error);
  const reason = reasonOf(error);
  if (sessionRefusals.has(reason) && (code === Code.Unauthenticated || code === Code.PermissionDenied)) {
    return "session";
  }
  return code === Code.Unauthenticated && tokenRefusals.has(reason) ? "token" : "none";
}
