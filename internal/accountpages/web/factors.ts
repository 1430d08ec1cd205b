// The part of a page that asks for a second factor: after a password, and to prove again who is there.
import { all, digits, one, onForm, onPress, show } from "./dom.ts";
import * as passkey from "./passkey.ts";

export type Proof = { totpCode: string } | { recoveryCode: string } | { passkeyJson: string };

export interface Ways {
  totp: boolean;
  recovery: boolean;
  /** Gets the options of a ceremony, and keeps what belongs to them. Missing: no passkey. */
  passkey?: () => Promise<string>;
}

/** Shows the ways that an account has, and hands the answer on. */
export function askFactor(ways: Ways): void {
  const offered = { passkey: !!ways.passkey && passkey.possible(), totp: ways.totp, recovery: ways.recovery };
  show('[data-way="passkey"]', offered.passkey);
  show('[data-way="totp"]', offered.totp);
  const only = offered.recovery && !offered.passkey && !offered.totp;
  show('[data-way="recovery"]', only);
  show('[data-way="lost"]', offered.recovery && !only);
  current = ways;
  for (const input of all('[data-way] input')) (input as HTMLInputElement).value = "";
}

let current: Ways | undefined;

export function onFactor(take: (proof: Proof) => Promise<void>): void {
  onForm("totp", ({ code }) => take({ totpCode: digits(code) }));
  onForm("recovery", ({ code }) => take({ recoveryCode: (code ?? "").trim() }));
  onPress("factor-passkey", async () => {
    const options = await current?.passkey?.();
    if (options) await take({ passkeyJson: await passkey.use(options) });
  });
  onPress("factor-recovery", () => {
    show('[data-way="recovery"]', true);
    show('[data-way="lost"]', false);
    one("#recovery")?.focus();
  });
}

/** Which ways a list of factors has. */
export function waysOf(factors: { kind: string }[]): { totp: boolean; recovery: boolean; passkey: boolean; password: boolean } {
  const has = (kind: string): boolean => factors.some((factor) => factor.kind === "FACTOR_KIND_" + kind);
  return { totp: has("TOTP"), recovery: has("RECOVERY_CODES"), passkey: has("PASSKEY"), password: has("PASSWORD") };
}
