import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { lifetimeOf } from "./clock.ts";
import { AuthService } from "./gen/latchkey/v1/auth_service_pb.js";
import type { Tokens } from "./gen/latchkey/v1/user_pb.js";
import type { KeptTokens } from "./record.ts";

/** How the service is reached. */
export interface Connection {
  /** Where the service is, such as "https://auth.example.com". */
  readonly baseUrl: string;
  /** Whether the browser may add and take cookies. */
  readonly cookies: boolean;
  /** How long one request may take, in milliseconds. */
  readonly timeout: number;
  /** Replaces the fetch of the platform. */
  readonly fetch?: typeof fetch | undefined;
}

/** A transport to the service, over Connect with protobuf. */
export function connectTo(connection: Connection, interceptors: Interceptor[] = []): Transport {
  const credentials = connection.cookies ? "include" : "omit";
  return createConnectTransport({
    baseUrl: connection.baseUrl,
    useBinaryFormat: true,
    defaultTimeoutMs: connection.timeout,
    interceptors,
    fetch: (input, init) => (connection.fetch ?? globalThis.fetch)(input, { ...init, credentials, cache: "no-store" }),
  });
}

/** The client of the methods that need no session. */
export function authClient(connection: Connection): Client<typeof AuthService> {
  return createClient(AuthService, connectTo(connection));
}

/** What answers have beside a refresh token, or without one. */
type AccessTokens = Pick<Tokens, "accessToken" | "accountToken" | "accessExpireTime">;

/** The tokens of an answer as they are kept. `wall` is the time of the request by the clock of this device. */
export function keptTokens(tokens: AccessTokens, refresh: string, date: string | null, wall: number): KeptTokens {
  const expires = tokens.accessExpireTime && timestampMs(tokens.accessExpireTime);
  const lifetime = lifetimeOf(tokens.accessToken, expires, date);
  return {
    refresh,
    access: tokens.accessToken,
    account: tokens.accountToken,
    ...(lifetime === undefined ? {} : { lifetime }),
    wall,
  };
}
