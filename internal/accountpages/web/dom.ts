// The page: its steps, forms and messages. Everything from outside is written as text.
import { Refused } from "./api.ts";
import { text } from "./config.ts";

export const one = <E extends HTMLElement = HTMLElement>(selector: string, within: ParentNode = document): E | null => within.querySelector<E>(selector);
export const all = (selector: string, within: ParentNode = document): HTMLElement[] => [...within.querySelectorAll<HTMLElement>(selector)];

/** Shows or hides everything that a selector names. */
export function show(selector: string, visible: boolean, within: ParentNode = document): void {
  for (const element of all(selector, within)) element.hidden = !visible;
}

/** Writes text into the places with this name. */
export function write(name: string, value: string, within: ParentNode = document): void {
  for (const element of all(`[data-text="${name}"]`, within)) element.textContent = value;
}

/** Shows one step of the page and no other, and moves the focus into it, so that a screen reader begins there. */
export function step(name: string): void {
  let shown: HTMLElement | undefined;
  for (const element of all("[data-step]")) {
    element.hidden = element.dataset.step !== name;
    if (!element.hidden) shown = element;
  }
  say("");
  alarm("");
  one("h1", shown)?.focus();
}

/** Tells what has been done. Screen readers say it when they are idle. */
export function say(message: string, within: ParentNode = document): void {
  const place = one(within === document ? "#status" : ".notice", within);
  if (place) place.textContent = message;
}

/** Tells what went wrong, above the page. */
export function alarm(message: string): void {
  const place = one("#alert");
  if (place) place.textContent = message;
}

/** What a person is told about an error. Errors of our own are in the console. */
export function toldOf(error: unknown): string {
  if (error instanceof Refused) return error.told;
  if (error instanceof Stopped) return error.message;
  console.error(error);
  return text("error");
}

/** An error with a text for the person, such as that they pressed Cancel. Without a text nothing is shown. */
export class Stopped extends Error {}

function complain(within: Element, error: unknown): void {
  const place = one(".error", within);
  const told = toldOf(error);
  if (!place) return alarm(told);
  place.textContent = told;
  let first: HTMLElement | undefined;
  if (error instanceof Refused) {
    for (const name of Object.keys(error.fields)) {
      const field = one<HTMLInputElement>(`[name="${CSS.escape(name)}"]`, within);
      if (!field) continue;
      field.setAttribute("aria-invalid", "true");
      const detail = text("field_" + name);
      if (error.reason === "VALIDATION_FAILED" && detail !== "field_" + name) place.textContent = detail;
      first ??= field;
    }
  }
  first ??= one<HTMLInputElement>("input:not([readonly]):not([type=checkbox])", within) ?? undefined;
  first?.focus();
}

function busy(within: Element, is: boolean): void {
  within.setAttribute("aria-busy", String(is));
  for (const button of within.querySelectorAll<HTMLButtonElement>("button")) button.disabled = is;
}

/** Clears old errors, runs once at a time, and shows what goes wrong. */
async function attempt(within: Element, what: () => Promise<void> | void): Promise<void> {
  if (within.getAttribute("aria-busy") === "true") return;
  const place = one(".error", within);
  if (place) place.textContent = "";
  alarm("");
  for (const field of all("[aria-invalid]", within)) field.removeAttribute("aria-invalid");
  busy(within, true);
  try {
    await what();
  } catch (error) {
    busy(within, false); // only what is enabled can take the focus
    complain(within, error);
  } finally {
    busy(within, false);
  }
}

/** Handles a form of the page. Fields arrive by name. */
export function onForm(name: string, handle: (fields: Record<string, string>, form: HTMLFormElement) => Promise<void> | void): void {
  for (const form of document.querySelectorAll<HTMLFormElement>(`form[data-form="${name}"]`)) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const fields: Record<string, string> = {};
      for (const [field, value] of new FormData(form)) if (typeof value === "string") fields[field] = value;
      void attempt(form, () => handle(fields, form));
    });
  }
}

/** Handles a button of the page. What goes wrong is shown beside it. */
export function onPress(name: string, handle: () => Promise<void> | void): void {
  for (const button of all(`[data-action="${name}"]`)) press(button, handle);
}

export function press(button: HTMLElement, handle: () => Promise<void> | void): void {
  const around = button.closest("li,form,section,div,main,header,dialog") ?? document.body;
  button.addEventListener("click", () => void attempt(around.querySelector(".error") ? around : (button.closest("section,dialog") ?? document.body), handle));
}

/** A copy of a template of the page, with its fields by name. */
export function copy(id: string): { row: DocumentFragment; fields: Record<string, HTMLElement> } {
  const row = (document.getElementById(id) as HTMLTemplateElement).content.cloneNode(true) as DocumentFragment;
  const fields: Record<string, HTMLElement> = {};
  for (const element of all("[data-field]", row)) fields[element.dataset.field ?? ""] = element;
  return { row, fields };
}

/** Digits of a code as people type them, with blanks. */
export const digits = (code: string | undefined): string => (code ?? "").replace(/[\s-]/g, "");

/** Buttons that show a password. */
export function wireReveal(): void {
  for (const button of all("[data-reveal]")) {
    const input = document.getElementById(button.dataset.reveal ?? "") as HTMLInputElement;
    button.addEventListener("click", () => {
      const shown = input.type === "text";
      input.type = shown ? "password" : "text";
      button.setAttribute("aria-pressed", String(!shown));
    });
  }
}

/**
 * The secret of a mailed link, from the fragment of the address. It is taken out of the address at once, so that it is
 * in no history, bookmark or screenshot, and is kept with the entry of the history for a reload.
 */
export function fragment(): URLSearchParams {
  addEventListener("hashchange", () => location.hash.includes("token=") && location.reload()); // another link, in this tab
  const kept = (history.state as { fragment?: string } | null)?.fragment;
  const now = location.hash.slice(1);
  if (now.includes("token=")) {
    history.replaceState({ fragment: now }, "", location.pathname + location.search);
    return new URLSearchParams(now);
  }
  return new URLSearchParams(kept ?? "");
}

/** Forgets the secret of a link that was used. */
export const dropFragment = (): void => history.replaceState(null, "", location.pathname + location.search);

/** Links to other languages keep what the page knows. */
export function wireLanguages(): void {
  for (const link of all("a[data-language]")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      history.replaceState(history.state, "", link.getAttribute("href"));
      location.reload();
    });
  }
}

/** Hands text to the person as a file. */
export function save(name: string, type: string, content: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
