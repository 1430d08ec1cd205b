import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { authorizedFetch, authorizing, type TokenSource } from "./authorize.ts";
import { authClient, connectTo, keptTokens } from "./calls.ts";
import { ageOf } from "./clock.ts";
import { isPassing, NoSessionError, TooOldError } from "./errors.ts";
import { AccountService, type ReauthenticateRequestSchema } from "./gen/latchkey/v1/account_service_pb.js";
import { AuthService, type SignUpRequestSchema, type VerifyEmailRequestSchema, type VerifyEmailResponse } from "./gen/latchkey/v1/auth_service_pb.js";
import type { User } from "./gen/latchkey/v1/user_pb.js";
import { sayGoodbyes } from "./goodbyes.ts";
import { Keeper } from "./keeper.ts";
import { type Answer, accountOf, type Challenge, challengeOf, type LoginAnswer, type LoginResult } from "./login.ts";
import { resume } from "./resume.ts";
import { type SessionOptions, type Settings, settingsOf } from "./options.ts";
import { deviceOf, type KeptTokens, type SessionRecord, withDevice, withoutSession } from "./record.ts";
import { Refresher } from "./refresher.ts";
import { type State, stateOf, States } from "./state.ts";

/** A token that this process got less than this many milliseconds ago is not replaced because a service refuses it. */
const young = 10_000;

/**
 * Session is the login of one person on one device. It lasts until that person logs out or the service ends it, through
 * lost answers, restarts, tabs and clocks that are wrong. docs/client-contract.md says what it does and why.
 */
export class Session {
  /** The methods that need no session, such as `forgotPassword`. To log in and out, use the methods of Session. */
  readonly auth: Client<typeof AuthService>;
  /** A transport to Latchkey with the session's token, for `AccountService` and `SessionService`. */
  readonly transport: Transport;
  /** Sends the access token with the calls of another transport. Its base URL must be of `origins`. */
  readonly interceptor: Interceptor;
  /** Fetches with the access token from `origins`. */
  readonly fetch: typeof fetch;
  /** Resolves when the store has been read, and the state is no longer "starting". */
  readonly ready: Promise<State>;

  readonly #cfg: Settings;
  readonly #keeper: Keeper;
  readonly #refresher: Refresher;
  readonly #states = new States();
  readonly #unwatch: () => void;

  constructor(options: SessionOptions) {
    const cfg = settingsOf(options);
    this.#cfg = cfg;
    const { store, runtime, cookies, timeout, patience } = cfg;
    this.#keeper = new Keeper(store, runtime, cookies, () => this.#states.show(stateOf(this.#keeper.known?.record)));
    this.auth = authClient(cfg);
    this.#refresher = new Refresher({ keeper: this.#keeper, store, runtime, auth: this.auth, cookies, timeout, patience });
    const own = this.#source((tokens) => tokens.account || tokens.access);
    this.transport = connectTo(cfg, [authorizing({ ...own, allows: () => true })]);
    const others = this.#source((tokens) => tokens.access);
    this.interceptor = authorizing(others);
    this.fetch = authorizedFetch(others, cfg.fetch);
    this.#unwatch = store.watch(() => void this.#keeper.read().catch(() => undefined));
    this.ready = this.#keeper.read().then(({ record }) => {
      if (record.goodbyes.length > 0) {
        void this.#deliver().catch(() => undefined);
      }
      return stateOf(record);
    });
    this.ready.catch(() => undefined); // whoever awaits it sees the error, and so does every call
  }

  /** The state now. Another object after each change, and the same one until then. */
  get state(): State {
    return this.#states.current;
  }

  /** Calls the listener after each change, also of other tabs, and returns a function that stops it. */
  onChange(listener: (state: State) => void): () => void {
    return this.#states.listen(listener);
  }

  /** Creates an account. It does not log in. Returns nothing while the service hides its accounts. */
  async signUp(account: MessageInitShape<typeof SignUpRequestSchema>): Promise<User | undefined> {
    return (await this.auth.signUp(account)).user;
  }

  /** Logs in with address and password. With `cancelDeletion` it keeps an account that is to be deleted. */
  async login(who: { email: string; password: string; cancelDeletion?: boolean }): Promise<LoginResult> {
    return this.#begin(who.email, ({ record }) =>
      this.auth.login({ ...who, deviceName: this.#cfg.deviceName, deviceToken: deviceOf(record, who.email) }),
    );
  }

  /** Begins a login by passkey: give `optionsJson` to the browser, and its answer to `answerChallenge`. */
  async startPasskeyLogin(): Promise<Challenge> {
    const { challengeToken, optionsJson } = await this.auth.startPasskeyLogin({});
    return { token: challengeToken, factors: [], optionsJson, email: "" };
  }

  /** Mails a code to log in with: answer the challenge with `emailCode`. */
  async sendLoginCode(email: string): Promise<Challenge> {
    const { challengeToken } = await this.auth.sendLoginCode({ email });
    return { token: challengeToken, factors: [], optionsJson: "", email };
  }

  /** Answers a challenge. After CODE_INVALID the same challenge can be answered again, five times in all. */
  async answerChallenge(challenge: Challenge, answer: Answer, more: { cancelDeletion?: boolean } = {}): Promise<LoginResult> {
    return this.#begin(challenge.email, ({ record }) =>
      this.auth.answerChallenge({
        challengeToken: challenge.token,
        answer,
        deviceName: this.#cfg.deviceName,
        deviceToken: deviceOf(record, challenge.email),
        ...more,
      }),
    );
  }

  /** Begins a session with the code that Latchkey's pages sent to the app's redirect URI. A code has one try. */
  async exchangeCode(code: { code: string; codeVerifier: string; redirectUri: string }): Promise<LoginResult> {
    return this.#begin("", async () => {
      const { tokens, user } = await this.auth.exchangeAuthorizationCode({ ...code, deviceName: this.#cfg.deviceName });
      return { result: tokens ? { case: "tokens", value: tokens } : { case: undefined }, user, deviceToken: "" };
    });
  }

  /**
   * Logs out. The session is gone from this device at once, with the network or without. Returns whether the service
   * knows of it: if so, no replica accepts its tokens. If not, the service is told when the session object is made next,
   * or at the next login.
   */
  async logout(): Promise<boolean> {
    await this.#keeper.change(({ record }) =>
      record.status !== "signedIn"
        ? undefined
        : {
            ...withoutSession(record, "signedOut"),
            goodbyes: [...record.goodbyes, { refresh: this.#cfg.cookies ? "" : (record.tokens?.refresh ?? "") }],
          },
    );
    return this.#deliver();
  }

  /**
   * Ends every session of the account. It needs the service: if it throws, the session goes on. Once it has returned, no
   * replica accepts a token of any of them.
   */
  async logoutEverywhere(): Promise<void> {
    // The newest refresh token is asked for, and a refresh whose answer was lost has spent the one that is stored.
    await this.refresh();
    const { record } = await this.#keeper.read();
    if (record.status !== "signedIn") {
      throw new NoSessionError(record.reason); // an ended session has no right to end the others
    }
    await this.auth.logout({ refreshToken: record.tokens?.refresh ?? "", allSessions: true });
    await this.#keeper.change((now) =>
      now.record.sessionId === record.sessionId ? withoutSession(now.record, "signedOut") : undefined,
    );
  }

  /**
   * Returns an access token that is good for the next request, for clients other than `fetch` and `interceptor`. Throws
   * NoSessionError if nobody is logged in.
   */
  async token(): Promise<string> {
    return (await this.#tokens()).access;
  }

  /** Gets new tokens now, whatever the age of those that are known: their claims are then new too. */
  async refresh(): Promise<void> {
    await this.#keeper.read();
    await this.#refresher.replace(await this.#access());
  }

  /**
   * In cookie mode, asks the service whether this browser has a session that this page does not know of, such as one of
   * the account pages, and takes it over. A logout that the service does not know of yet is told first, and while it
   * cannot be told, nothing is taken over.
   */
  async resume(): Promise<State> {
    const { cookies, runtime, timeout } = this.#cfg;
    if (cookies) {
      await this.#alone(async () => {
        // Until the service knows of a logout, the cookie is that of the session that was left.
        if (await sayGoodbyes(this.#keeper, this.auth, timeout)) {
          await resume({ keeper: this.#keeper, runtime, auth: this.auth, timeout });
        }
      });
    }
    return this.state;
  }

  /** Proves that the owner is present, for methods that answer FRESH_LOGIN_REQUIRED or FACTOR_REQUIRED. */
  async reauthenticate(proof: MessageInitShape<typeof ReauthenticateRequestSchema>): Promise<void> {
    const wall = this.#cfg.runtime.wall();
    const monotonic = this.#cfg.runtime.monotonic();
    const { record } = await this.#keeper.read();
    let date: string | null = null;
    const fresh = await createClient(AccountService, this.transport).reauthenticate(proof, {
      onHeader: (header) => (date = header.get("date")),
    });
    await this.#keeper.change((now) => {
      const held = now.tokens;
      if (held === undefined || now.record.sessionId !== record.sessionId) {
        return undefined;
      }
      const tokens = keptTokens(fresh, held.refresh, date, wall);
      this.#keeper.obtained(tokens, record.sessionId ?? "", monotonic);
      return { ...now.record, ...this.#keeper.stored(tokens) };
    });
  }

  /** Sets a new password. All other sessions of the account end. */
  async changePassword(currentPassword: string, newPassword: string): Promise<void> {
    const { record: asked } = await this.#keeper.read();
    const { deviceToken } = await createClient(AuthService, this.transport).changePassword({ currentPassword, newPassword });
    await this.#keeper.change(({ record }) => ({
      ...record,
      devices: withDevice(record.devices, asked.account?.email ?? "", deviceToken),
    }));
  }

  /** Proves the address. With a session the proof keeps the password; without, it is removed if a stranger may have set it. */
  async verifyEmail(proof: MessageInitShape<typeof VerifyEmailRequestSchema>): Promise<VerifyEmailResponse> {
    const { record } = await this.#keeper.read();
    return record.status === "signedIn" ? createClient(AuthService, this.transport).verifyEmail(proof) : this.auth.verifyEmail(proof);
  }

  /** Stops listening to other tabs and processes. */
  close(): void {
    this.#unwatch();
  }

  /** Sends a login, and keeps what it answers. */
  async #begin(email: string, send: (known: { record: SessionRecord }) => Promise<LoginAnswer>): Promise<LoginResult> {
    const login = async (): Promise<LoginResult> => {
      const wall = this.#cfg.runtime.wall();
      const monotonic = this.#cfg.runtime.monotonic();
      const answer = await send(await this.#keeper.read());
      switch (answer.result.case) {
        case "tokens":
          await this.#checkStorage(answer.result.value.refreshToken);
          return this.#keep(answer, keptTokens(answer.result.value, answer.result.value.refreshToken, null, wall), answer.result.value.sessionId, monotonic);
        case "challenge":
          return { status: "challenge", challenge: challengeOf(answer.result.value, email) };
        default:
          throw new TooOldError("the service answers to a login with something that this client does not know");
      }
    };
    // An answer to a refresh that is under way would put the cookie of the session before over that of the login.
    return this.#cfg.cookies ? this.#alone(login) : login();
  }

  /** A session whose refresh token nobody holds would end with its first access token: better no login at all. */
  async #checkStorage(refresh: string): Promise<void> {
    if (this.#cfg.cookies === (refresh === "")) {
      return;
    }
    if (refresh !== "") {
      await this.auth.logout({ refreshToken: refresh }).catch(() => undefined);
      throw new Error("the service set no cookie: it needs LATCHKEY_WEB_COOKIES, and this origin in LATCHKEY_WEB_ORIGINS");
    }
    throw new Error('the service keeps the refresh token in a cookie: use the storage "cookie"');
  }

  async #keep(answer: LoginAnswer, tokens: KeptTokens, sessionId: string, monotonic: number): Promise<LoginResult> {
    const account = accountOf(answer.user);
    this.#keeper.obtained(tokens, sessionId, monotonic);
    await this.#keeper.change(({ record }) => {
      // The session that was here before would stay in the list of its owner's sessions. The cookie has been replaced.
      const left = record.status === "signedIn" && record.tokens ? [{ refresh: record.tokens.refresh }] : [];
      return {
        ...withoutSession(record, "signedOut"),
        status: "signedIn",
        sessionId,
        account,
        ...this.#keeper.stored(tokens),
        goodbyes: [...record.goodbyes.filter(({ refresh }) => refresh !== ""), ...left],
        devices: withDevice(record.devices, account.email, answer.deviceToken),
      };
    });
    void this.#deliver().catch(() => undefined);
    return { status: "signedIn", account, passwordRemoved: answer.passwordRemoved ?? false };
  }

  /** Tells the service of the sessions that were left, and in cookie mode while no other tab logs in. */
  async #deliver(): Promise<boolean> {
    const say = () => sayGoodbyes(this.#keeper, this.auth, this.#cfg.timeout);
    return this.#cfg.cookies ? this.#alone(say) : say();
  }

  async #alone<T>(task: () => Promise<T>): Promise<T> {
    const giveUp = new AbortController();
    const done = new AbortController();
    void this.#cfg.runtime.sleep(this.#cfg.patience, done.signal).then(() => giveUp.abort());
    try {
      return await this.#cfg.store.exclusive(task, giveUp.signal);
    } finally {
      done.abort();
    }
  }

  /** The access token that is known, or "". Throws if nobody is logged in. */
  async #access(): Promise<string> {
    const { record, tokens } = this.#keeper.known ?? (await this.#keeper.read());
    if (record.status !== "signedIn") {
      throw new NoSessionError(record.reason);
    }
    return tokens?.access ?? "";
  }

  /** The tokens for the next request. */
  async #tokens(): Promise<KeptTokens> {
    await this.#access();
    const held = this.#keeper.known?.tokens;
    const age = (tokens: KeptTokens) => ageOf(tokens, this.#keeper.anchorOf(tokens), this.#cfg.runtime);
    if (held !== undefined && !age(held).due) {
      return held;
    }
    try {
      await this.#refresher.replace(held?.access ?? "");
    } catch (error) {
      if (held === undefined || age(held).expired || !isPassing(error)) {
        throw error;
      }
      return held; // it is good for some time yet, and the next call tries again
    }
    await this.#access();
    const fresh = this.#keeper.known?.tokens;
    if (fresh === undefined) {
      throw new NoSessionError();
    }
    return fresh;
  }

  #source(pick: (tokens: KeptTokens) => string): TokenSource {
    return {
      token: async () => pick(await this.#tokens()),
      another: async (refused, says) => {
        const { tokens: held } = await this.#keeper.read();
        if (held !== undefined && pick(held) === refused) {
          const { own, monotonic } = this.#keeper.anchorOf(held);
          if (says === "token" && own && this.#cfg.runtime.monotonic() - monotonic < young) {
            return undefined; // it is as new as can be: the service that refuses it would refuse the next one too
          }
          await this.#refresher.replace(held.access);
        }
        const token = pick(await this.#tokens());
        return token === refused ? undefined : token;
      },
      allows: (url) => this.#cfg.origins.has(new URL(url).origin),
    };
  }
}

/** Opens the session of this device: the one that the store has, or none yet. */
export function createSession(options: SessionOptions): Session {
  return new Session(options);
}
