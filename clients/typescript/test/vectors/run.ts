import assert from "node:assert/strict";
import { ConnectError, createClient, Code } from "@connectrpc/connect";
import { AccountService, type Answer as ChallengeAnswer, type Challenge, NoSessionError, reasonOf, type Session, TooOldError } from "../../src/index.ts";
import type { SessionRecord } from "../../src/record.ts";
import { Clock, settle } from "./clock.ts";
import { Device } from "./device.ts";
import type { Step, Vector } from "./format.ts";
import { nameOf, type Seen, Service } from "./service.ts";

/** Plays one vector against the client. */
export async function play(vector: Vector): Promise<void> {
  const clock = new Clock();
  const uninstall = clock.install();
  try {
    const run = new Run(vector, clock);
    for (const [i, step] of vector.steps.entries()) {
      try {
        await run.step(step);
      } catch (error) {
        throw new Error(`step ${i + 1} ${JSON.stringify(step)}: ${error instanceof Error ? error.message : error}`, { cause: error });
      }
    }
    run.nothingLeft();
  } finally {
    uninstall();
  }
}

class Run {
  readonly #clock: Clock;
  readonly #service: Service;
  readonly #device: Device;
  readonly #requests = new Map<string, Seen>();
  readonly #results = new Map<string, string>();
  readonly #challenges = new Map<string, Challenge>();
  /** The values of $names. */
  readonly #bound = new Map<string, unknown>();

  constructor({ cookies = false, locks = true }: Vector, clock: Clock) {
    this.#clock = clock;
    this.#service = new Service(clock);
    this.#device = new Device(clock, this.#service, { cookies, locks });
  }

  async step(step: Step): Promise<void> {
    if ("open" in step) {
      this.#device.open(step.open);
    } else if ("kill" in step) {
      this.#device.kill(step.kill);
    } else if ("begin" in step) {
      this.#begin(step.begin, this.#device.session(step.client), step.client, step.do, step.with ?? {});
    } else if ("request" in step) {
      this.#request(step.request, step.as);
    } else if ("no_request" in step) {
      this.nothingLeft();
    } else if ("answer" in step) {
      const seen = this.#requests.get(step.answer);
      assert.ok(seen, `no request ${step.answer}`);
      seen.answer(step);
    } else if ("result" in step) {
      assert.equal(this.#results.get(step.result) ?? "unfinished", step.is);
    } else if ("unfinished" in step) {
      assert.equal(this.#results.get(step.unfinished), undefined);
    } else if ("state" in step) {
      const { state } = this.#device.session(step.state);
      assert.equal([state.status, ...("reason" in state ? [state.reason] : [])].join(" "), step.is);
    } else if ("store" in step) {
      this.#match(view(this.#device.record), step.store);
    } else if ("advance" in step) {
      await this.#clock.advance(step.advance * 1000);
    } else if ("asleep" in step) {
      this.#clock.wall += step.asleep * 1000; // the steady clock stands still
    } else {
      this.#clock.wall += step.clock * 1000;
    }
    await settle();
  }

  /** Fails if the client sent something that the vector does not tell of. */
  nothingLeft(): void {
    const more = this.#service.next();
    assert.equal(more && `${more.from} ${more.method} ${JSON.stringify(more.fields)}`, undefined);
  }

  #begin(name: string, session: Session, client: string, action: string, given: Record<string, string>): void {
    void this.#act(session, client, action, given).then(
      (result) => this.#results.set(name, result),
      (error: unknown) => this.#results.set(name, outcome(error)),
    );
  }

  async #act(session: Session, client: string, action: string, given: Record<string, string>): Promise<string> {
    switch (action) {
      case "login": {
        const result = await session.login({ email: given["email"] ?? "", password: given["password"] ?? "" });
        return this.#loggedIn(client, result);
      }
      case "answer": {
        const challenge = this.#challenges.get(client);
        assert.ok(challenge, "nothing was asked");
        const answer: ChallengeAnswer = { case: "totpCode", value: given["totp_code"] ?? "" };
        return this.#loggedIn(client, await session.answerChallenge(challenge, answer));
      }
      case "exchange": {
        const code = { code: given["code"] ?? "", codeVerifier: given["code_verifier"] ?? "", redirectUri: given["redirect_uri"] ?? "" };
        return this.#loggedIn(client, await session.exchangeCode(code));
      }
      case "reauthenticate":
        await session.reauthenticate({ proof: { case: "password", value: given["password"] ?? "" } });
        return "ok";
      case "change_password":
        await session.changePassword(given["password"] ?? "", given["new_password"] ?? "");
        return "ok";
      case "call":
        await createClient(AccountService, session.transport).getAccount({});
        return "ok";
      case "token":
        return nameOf(await session.token());
      case "refresh":
        await session.refresh();
        return "ok";
      case "logout":
        return (await session.logout()) ? "told" : "not told yet";
      case "logout_everywhere":
        await session.logoutEverywhere();
        return "ok";
      case "resume":
        return (await session.resume()).status;
      default:
        throw new Error(`unknown action ${action}`);
    }
  }

  #loggedIn(client: string, result: Awaited<ReturnType<Session["login"]>>): string {
    if (result.status === "challenge") {
      this.#challenges.set(client, result.challenge);
    }
    return result.status;
  }

  #request(wanted: Readonly<Record<string, unknown>>, as: string): void {
    const seen = this.#service.next();
    assert.ok(seen, "no request");
    this.#requests.set(as, seen);
    this.#match({ ...seen.fields, from: seen.from, method: seen.method }, wanted);
  }

  /** Compares the wanted fields. "$x" is any text, the same one each time and another one than "$y". */
  #match(got: Record<string, unknown>, wanted: Readonly<Record<string, unknown>>): void {
    for (const [field, want] of Object.entries(wanted)) {
      const have = got[field] ?? null;
      if (typeof want !== "string" || !want.startsWith("$")) {
        assert.deepEqual(have, want, field);
        continue;
      }
      assert.ok(typeof have === "string" && have !== "", `${field} is missing`);
      for (const [name, value] of this.#bound) {
        assert.equal(have === value, name === want, `${field} is ${have}, and ${name} is ${String(value)}`);
      }
      this.#bound.set(want, have);
    }
  }
}

function outcome(thrown: unknown): string {
  const error = thrown instanceof ConnectError && thrown.cause instanceof NoSessionError ? thrown.cause : thrown;
  if (error instanceof TooOldError) {
    return "error too old";
  }
  if (error instanceof NoSessionError) {
    return `no session ${error.reason}`.trim();
  }
  if (error instanceof ConnectError) {
    return `error ${reasonOf(error) || Code[error.code]}`;
  }
  return String(error);
}

/** What a record says, in words that every language's store can be asked for. */
function view(record: SessionRecord): Record<string, unknown> {
  return {
    status: record.status,
    reason: record.reason ?? null,
    session: record.sessionId ?? null,
    refresh: record.tokens?.refresh ?? null,
    access: record.tokens ? nameOf(record.tokens.access) : null,
    pending: record.pending?.id ?? null,
    goodbyes: record.goodbyes.map((goodbye) => goodbye.refresh),
    devices: Object.fromEntries(record.devices),
  };
}
