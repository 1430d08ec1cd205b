/** The form of clients/vectors/*.json. clients/vectors/README.md says what each step means. */
export interface File {
  readonly about: string;
  readonly vectors: readonly Vector[];
}

export interface Vector {
  readonly name: string;
  readonly why: string;
  readonly cookies?: boolean;
  readonly locks?: boolean;
  readonly steps: readonly Step[];
}

export interface Tokens {
  readonly access: string;
  readonly refresh?: string;
  /** Seconds. */
  readonly lifetime: number;
  readonly session?: string;
  readonly account?: string;
}

export type Answer =
  | { readonly lost: true }
  | { readonly http: number }
  | { readonly error: { readonly code: string; readonly reason?: string; readonly retry_after?: number } }
  | { readonly ok: { readonly tokens?: Tokens; readonly challenge?: string; readonly email?: string; readonly device_token?: string } };

export type Step =
  | { readonly open: string }
  | { readonly kill: string }
  | { readonly begin: string; readonly client: string; readonly do: string; readonly with?: Record<string, string> }
  | { readonly request: { readonly method: string; readonly from?: string; readonly [field: string]: unknown }; readonly as: string }
  | { readonly no_request: true }
  | ({ readonly answer: string } & Answer)
  | { readonly result: string; readonly is: string }
  | { readonly unfinished: string }
  | { readonly state: string; readonly is: string }
  | { readonly store: Readonly<Record<string, unknown>> }
  | { readonly advance: number }
  | { readonly asleep: number }
  | { readonly clock: number };
