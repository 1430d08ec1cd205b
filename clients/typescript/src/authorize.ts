import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { NoSessionError, refusalOf } from "./errors.ts";

/** Gives out access tokens. */
export interface TokenSource {
  /** A token for the next request, refreshed if it is due. Throws NoSessionError if nobody is logged in. */
  token(): Promise<string>;
  /** Another token after this one was refused, or undefined if there is none that could do better. */
  another(refused: string, says: "token" | "session"): Promise<string | undefined>;
  /** Whether requests to this URL may carry tokens. */
  allows(url: string): boolean;
}

function checkOrigin(source: TokenSource, url: string): void {
  if (!source.allows(url)) {
    throw new TypeError(`${new URL(url).origin} is not in the session's origins, so it gets no access token`);
  }
}

/** Connect would make an unknown error of it: callers get the code that the service would answer with, and the cause. */
function unauthenticated(error: unknown): never {
  throw error instanceof NoSessionError ? new ConnectError(error.message, Code.Unauthenticated, undefined, undefined, error) : error;
}

/**
 * An interceptor that sends the access token, and repeats a unary call once with another one if it was refused. A stream
 * is not repeated: open it again, and it has the new token.
 */
export function authorizing(source: TokenSource): Interceptor {
  return (next) => async (req) => {
    checkOrigin(source, req.url);
    const token = await source.token().catch(unauthenticated);
    req.header.set("authorization", `Bearer ${token}`);
    try {
      return await next(req);
    } catch (error) {
      const says = refusalOf(error);
      const other = says === "none" ? undefined : await source.another(token, says).catch(unauthenticated);
      if (other === undefined || req.stream) {
        throw error;
      }
      req.header.set("authorization", `Bearer ${other}`);
      return await next(req);
    }
  };
}

/**
 * A fetch that sends the access token, and repeats a request once with another one after 401. A body that is a stream
 * cannot be sent twice: then the 401 is the answer, and the next request has the new token.
 */
export function authorizedFetch(source: TokenSource, send: typeof fetch): typeof fetch {
  return async (input, init) => {
    const url = input instanceof Request ? input.url : new URL(input, globalThis.location?.href).href;
    checkOrigin(source, url);
    const request = new Request(input instanceof Request ? input : url, init);
    const repeatable = !(init?.body instanceof ReadableStream);
    const again = repeatable ? request.clone() : undefined;
    const token = await source.token();
    request.headers.set("authorization", `Bearer ${token}`);
    const answer = await send(request);
    if (answer.status !== 401) {
      return answer;
    }
    const other = await source.another(token, "token");
    if (other === undefined || again === undefined) {
      return answer;
    }
    await answer.body?.cancel();
    again.headers.set("authorization", `Bearer ${other}`);
    return send(again);
  };
}
