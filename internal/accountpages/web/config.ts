// What the server wrote into the page: texts, and where a login leads. It checked all of it.

export interface Return {
  url: string;
  state?: string;
  codeChallenge: string;
  issuer: string;
}

interface Config {
  texts: Record<string, string>;
  return?: Return;
  next: string;
  passkeys: boolean;
  verification: boolean;
}

export const config = JSON.parse(document.getElementById("config")?.textContent ?? "{}") as Config;

/** The text with this name, with its {marks} filled in. */
export function text(name: string, marks: Record<string, string | number> = {}): string {
  return (config.texts["s_" + name] ?? name).replace(/\{(\w+)\}/g, (all, mark: string) => String(marks[mark] ?? all));
}

/** What an event is called, or its kind if a later version of the service has one that these pages do not know. */
export const kindText = (kind: string): string => config.texts["k_" + kind] ?? kind;

const language = document.documentElement.lang;

export const time = (value: string | undefined): string =>
  value ? new Date(value).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" }) : "";
