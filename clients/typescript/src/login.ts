import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import type { AnswerChallengeRequestSchema, AnswerChallengeResponse, Challenge as ChallengeMessage, LoginResponse } from "./gen/latchkey/v1/auth_service_pb.js";
import { FactorKind } from "./gen/latchkey/v1/factor_pb.js";
import type { User } from "./gen/latchkey/v1/user_pb.js";
import type { Account } from "./record.ts";

/** A question that must be answered before the session begins. Keep it in memory, and give it to `answerChallenge`. */
export interface Challenge {
  /** A secret of the client that has shown the first factor. */
  readonly token: string;
  /** What it can be answered with. */
  readonly factors: readonly FactorKind[];
  /** For a passkey: what PublicKeyCredential.parseRequestOptionsFromJSON() takes; "" if there is none. */
  readonly optionsJson: string;
  /** When it ends, by the clock of the service. */
  readonly expireTime?: Date;
  /** The address that was typed, if one was. */
  readonly email: string;
}

/** What a login leads to: a session, or a question. */
export type LoginResult =
  | { readonly status: "signedIn"; readonly account: Account; readonly passwordRemoved: boolean }
  | { readonly status: "challenge"; readonly challenge: Challenge };

/** An answer to a challenge: one of `totpCode`, `recoveryCode`, `passkeyJson` and `emailCode`. */
export type Answer = Exclude<MessageInitShape<typeof AnswerChallengeRequestSchema>["answer"], undefined | { case: undefined }>;

/** What Login and AnswerChallenge answer alike, and a code from Latchkey's pages in part. */
export type LoginAnswer = Pick<LoginResponse, "result" | "user" | "deviceToken"> & Partial<Pick<AnswerChallengeResponse, "passwordRemoved">>;

/** A challenge of the contract, for the address that was typed. */
export function challengeOf(challenge: ChallengeMessage, email: string): Challenge {
  return {
    token: challenge.challengeToken,
    factors: challenge.factors.map((factor) => factor.kind),
    optionsJson: challenge.optionsJson,
    ...(challenge.expireTime && { expireTime: timestampDate(challenge.expireTime) }),
    email,
  };
}

/** What is kept of an account. */
export function accountOf(user: User | undefined): Account {
  return { id: user?.id ?? "", email: user?.email ?? "", firstName: user?.firstName ?? "", lastName: user?.lastName ?? "" };
}
