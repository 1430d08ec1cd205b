// Calls of the service's RPCs: JSON over Connect, on the origin of the page.
import { text } from "./config.ts";

/** Why a call was refused. reason is one of latchkey.v1.ErrorReason, or UNREACHABLE. */
export class Refused extends Error {
  constructor(
    readonly reason: string,
    readonly code: string,
    readonly fields: Record<string, string> = {},
    readonly metadata: Record<string, string> = {},
    readonly retrySeconds = 0,
  ) {
    super(reason);
  }

  /** Whether the same call may succeed a moment later, and may have happened. */
  get passing(): boolean {
    return this.reason === "UNREACHABLE" || this.code === "unavailable" || this.code === "deadline_exceeded" || this.reason === "OVERLOADED";
  }

  /** What a person is told. */
  get told(): string {
    const told = text(this.reason, { minutes: Math.max(1, Math.ceil(this.retrySeconds / 60)) });
    return told === this.reason ? text("error") : told;
  }
}

// eslint-disable-next-line -- answers are JSON of the contract's messages
export type Answer = any;

interface Detail {
  type: string;
  debug?: {
    reason?: string;
    metadata?: Record<string, string>;
    retryDelay?: string;
    fieldViolations?: { field: string; description?: string; reason?: string }[];
  };
}

/** Time for one call. The service answers or refuses well before. */
const patience = 30_000;

// fetch() sends Origin with its usual mode, cors, in spite of the page's Referrer-Policy. The service wants to see it
// before it takes or sets a cookie.
export async function post(method: string, body: object, token?: string): Promise<Answer> {
  const headers: Record<string, string> = {
    "content-type": "application/json",
    "connect-protocol-version": "1",
    "latchkey-pages": "1",
  };
  if (token) headers.authorization = "Bearer " + token;
  let response: Response;
  let answer: Answer;
  try {
    response = await fetch("/latchkey.v1." + method, {
      method: "POST", headers, body: JSON.stringify(body), credentials: "same-origin", redirect: "error", signal: AbortSignal.timeout(patience),
    });
    answer = await response.json();
  } catch {
    throw new Refused("UNREACHABLE", "unavailable");
  }
  if (response.ok) return answer;
  let reason = "";
  let metadata: Record<string, string> = {};
  let retry = 0;
  const fields: Record<string, string> = {};
  for (const { type, debug } of (answer.details ?? []) as Detail[]) {
    if (type === "google.rpc.ErrorInfo") {
      reason = debug?.reason ?? "";
      metadata = debug?.metadata ?? {};
    }
    if (type === "google.rpc.RetryInfo") retry = parseFloat(debug?.retryDelay ?? "0");
    for (const violation of debug?.fieldViolations ?? []) fields[violation.field] = violation.reason ?? "";
  }
  throw new Refused(reason || "UNKNOWN", answer.code ?? "", fields, metadata, retry);
}
