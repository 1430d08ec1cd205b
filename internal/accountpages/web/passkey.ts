// Passkeys (WebAuthn, level 3). The service makes the options and judges the answers; the browser turns JSON into both.
import { Stopped } from "./dom.ts";
import { config, text } from "./config.ts";

interface Static {
  parseCreationOptionsFromJSON?(json: unknown): PublicKeyCredentialCreationOptions;
  parseRequestOptionsFromJSON?(json: unknown): PublicKeyCredentialRequestOptions;
  isConditionalMediationAvailable?(): Promise<boolean>;
  signalAllAcceptedCredentials?(options: unknown): Promise<void>;
}

const api = (): Static | undefined => (window as unknown as { PublicKeyCredential?: Static }).PublicKeyCredential;

/** Whether this service and this browser have passkeys. */
export const possible = (): boolean => config.passkeys && !!api()?.parseRequestOptionsFromJSON && !!api()?.parseCreationOptionsFromJSON;

function explain(error: unknown): never {
  const name = error instanceof Error ? error.name : "";
  if (name === "AbortError") throw new Stopped("");
  if (name === "NotAllowedError") throw new Stopped(text("passkey_stopped"));
  if (name === "InvalidStateError") throw new Stopped(text("passkey_known"));
  if (name === "SecurityError") throw new Stopped(text("passkey_host"));
  throw error;
}

const answerOf = (credential: Credential | null): string => {
  if (!credential) throw new Stopped(text("passkey_stopped"));
  return JSON.stringify((credential as PublicKeyCredential & { toJSON(): unknown }).toJSON());
};

/** Asks the authenticator for a new passkey. */
export async function make(options: string): Promise<string> {
  try {
    return answerOf(await navigator.credentials.create({ publicKey: api()!.parseCreationOptionsFromJSON!(JSON.parse(options)) }));
  } catch (error) {
    return explain(error);
  }
}

let waiting: AbortController | undefined;

/** Ends the offer in the list of the address field. A browser allows one request at a time. */
export function stopOffer(): void {
  waiting?.abort();
  waiting = undefined;
}

/** Asks the authenticator for an answer. */
export async function use(options: string): Promise<string> {
  stopOffer();
  try {
    return answerOf(await navigator.credentials.get({ publicKey: api()!.parseRequestOptionsFromJSON!(JSON.parse(options)) }));
  } catch (error) {
    return explain(error);
  }
}

/** Offers passkeys in the list that the browser shows at the address field, until one is chosen. */
export async function offer(options: string): Promise<string> {
  stopOffer();
  const mine = (waiting = new AbortController());
  try {
    return answerOf(await navigator.credentials.get({
      publicKey: api()!.parseRequestOptionsFromJSON!(JSON.parse(options)), mediation: "conditional", signal: mine.signal,
    }));
  } catch (error) {
    return explain(error);
  }
}

export const canOffer = async (): Promise<boolean> => possible() && !!(await api()?.isConditionalMediationAvailable?.());

/** Tells the browser which passkeys the account has, so that it stops offering others (Signal API). */
export async function signalAccepted(json: string | undefined): Promise<void> {
  if (json) await api()?.signalAllAcceptedCredentials?.(JSON.parse(json)).catch(() => undefined);
}
