import { create, type DescMessage, type DescService, fromBinary, toBinary, toJson } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { ErrorInfoSchema, RetryInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { AccountService } from "../../src/gen/latchkey/v1/account_service_pb.js";
import { AuthService } from "../../src/gen/latchkey/v1/auth_service_pb.js";
import { TokensSchema } from "../../src/gen/latchkey/v1/user_pb.js";
import type { Clock } from "./clock.ts";
import type { Answer, Tokens } from "./format.ts";

const services: DescService[] = [AuthService, AccountService];

/** A request that a client has sent, and that the vector has not answered yet. */
export interface Seen {
  readonly from: string;
  readonly method: string;
  /** The fields, in JSON's names of the proto file, and `access_token` of the authorization. */
  readonly fields: Record<string, unknown>;
  readonly answer: (answer: Answer) => void;
}

/** The service, as a vector plays it. */
export class Service {
  readonly #clock: Clock;
  readonly #unread: Seen[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The oldest request that was not taken yet. */
  next(): Seen | undefined {
    return this.#unread.shift();
  }

  /** Takes a request, and resolves with the answer of the vector. */
  receive(from: string, input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    const [service, name] = new URL(String(input)).pathname.split("/").slice(1);
    const method = services.find(({ typeName }) => typeName === service)?.methods.find((m) => m.name === name);
    if (method === undefined) {
      throw new Error(`unknown method ${String(input)}`);
    }
    const message = fromBinary(method.input, init?.body as Uint8Array);
    const fields = toJson(method.input, message, { useProtoFieldName: true }) as Record<string, unknown>;
    const bearer = new Headers(init?.headers).get("authorization")?.replace("Bearer ", "");
    if (bearer !== undefined) {
      fields["access_token"] = nameOf(bearer);
    }
    return new Promise((resolve, reject) => {
      init?.signal?.addEventListener("abort", () => reject(init.signal?.reason));
      const answer = (given: Answer) => {
        if ("lost" in given) {
          reject(new TypeError("fetch failed"));
        } else {
          resolve(this.#response(given, method.output));
        }
      };
      this.#unread.push({ from, method: method.name, fields, answer });
    });
  }

  #response(answer: Exclude<Answer, { lost: true }>, output: DescMessage): Response {
    if ("http" in answer) {
      return new Response("<html>a proxy</html>", { status: answer.http, headers: { "content-type": "text/html" } });
    }
    if ("error" in answer) {
      const { code, reason, retry_after } = answer.error;
      const details = [];
      if (reason !== undefined) {
        details.push(detail("google.rpc.ErrorInfo", toBinary(ErrorInfoSchema, create(ErrorInfoSchema, { reason, domain: "latchkey" }))));
      }
      if (retry_after !== undefined) {
        const retryDelay = { seconds: BigInt(retry_after), nanos: 0 };
        details.push(detail("google.rpc.RetryInfo", toBinary(RetryInfoSchema, create(RetryInfoSchema, { retryDelay }))));
      }
      const status = { unauthenticated: 401, unavailable: 503, resource_exhausted: 429 }[code] ?? 400;
      return new Response(JSON.stringify({ code, message: "refused", details }), { status, headers: { "content-type": "application/json" } });
    }
    const body = toBinary(output, create(output, this.#message(answer, output)));
    return new Response(Uint8Array.from(body), { headers: { "content-type": "application/proto" } });
  }

  #message(answer: Extract<Answer, { ok: unknown }>, output: DescMessage): Record<string, unknown> {
    const { tokens, challenge, email, device_token } = answer.ok;
    switch (output.name) {
      case "RefreshTokenResponse":
      case "ExchangeAuthorizationCodeResponse":
        return { tokens: tokens && this.#tokens(tokens), ...(email && { user: { id: "u", email } }) };
      case "ReauthenticateResponse": {
        const { accessToken, accessExpireTime } = this.#tokens(tokens ?? { access: "", lifetime: 0 });
        return { accessToken, accessExpireTime };
      }
    }
    const result = tokens
      ? { case: "tokens", value: this.#tokens(tokens) }
      : challenge && { case: "challenge", value: { challengeToken: challenge, factors: [{ kind: 2 }] } };
    return { ...(result && { result }), ...(email && { user: { id: "u", email } }), ...(device_token && { deviceToken: device_token }) };
  }

  #tokens({ access, refresh, lifetime, session = "s", account = "u" }: Tokens) {
    return create(TokensSchema, {
      accessToken: jwt(access, account, Math.floor(this.#clock.service / 1000), lifetime),
      refreshToken: refresh ?? "",
      sessionId: session,
      accessExpireTime: timestampFromMs(this.#clock.service + lifetime * 1000),
    });
  }
}

function detail(type: string, value: Uint8Array) {
  return { type, value: Buffer.from(value).toString("base64") };
}

/** An access token of an account with this name, as the service dates it. */
function jwt(name: string, account: string, iat: number, lifetime: number): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ typ: "at+jwt" })}.${part({ jti: name, sub: account, iat, exp: iat + lifetime })}.x`;
}

/** The name of an access token. */
export function nameOf(accessToken: string): string {
  return JSON.parse(Buffer.from(accessToken.split(".")[1] ?? "", "base64url").toString()).jti;
}
