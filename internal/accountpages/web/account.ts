// Pages for people who are logged in: sessions, activity, deletion.
import { type Answer } from "./api.ts";
import { kindText, text, time } from "./config.ts";
import { copy, one, onForm, onPress, press, save, say, show, step, write } from "./dom.ts";
import { callFresh } from "./fresh.ts";
import { loginFor } from "./leave.ts";
import * as session from "./session.ts";

/** Shows a list page by page. */
function pages(list: string, load: (pageToken: string) => Promise<{ rows: DocumentFragment[]; next: string }>): () => Promise<void> {
  let next = "";
  const more = async (fresh: boolean): Promise<void> => {
    const place = one(`[data-list="${list}"]`)!;
    const answer = await load(fresh ? "" : next);
    if (fresh) place.replaceChildren();
    place.append(...answer.rows);
    next = answer.next;
    show('[data-action="more"]', next !== "");
  };
  onPress("more", () => more(false));
  return () => more(true);
}

export async function sessionsPage(): Promise<void> {
  const load = pages("sessions", async (pageToken) => {
    const answer = await session.call("SessionService/ListSessions", { pageToken });
    return { rows: (answer.sessions ?? []).map(sessionRow), next: answer.nextPageToken ?? "" };
  });
  const sessionRow = (one: Answer): DocumentFragment => {
    const { row, fields } = copy("session");
    const name: string = one.deviceName || text("device_unnamed");
    fields.name!.textContent = name;
    fields.current!.hidden = !one.current;
    fields.used!.textContent = text("used", { time: time(one.lastUseTime) });
    fields.detail!.textContent = text("session_detail", { address: one.address || "–", time: time(one.createTime) });
    fields.end!.setAttribute("aria-label", text("end_name", { name }));
    press(fields.end!, async () => {
      await session.call("SessionService/RevokeSession", { sessionId: one.id });
      if (one.current) {
        session.ended();
        return location.assign(loginFor("sessions"));
      }
      await load();
      say(text("session_ended", { name }));
      document.querySelector("h1")?.focus();
    });
    return row;
  };
  onPress("end-others", async () => {
    await session.call("SessionService/RevokeOtherSessions", {});
    await load();
    say(text("others_ended"));
  });
  await load();
  step("start");
}

export async function activityPage(): Promise<void> {
  const load = pages("events", async (pageToken) => {
    const answer = await session.call("AccountService/ListActivity", { pageToken });
    return { rows: (answer.events ?? []).map(eventRow), next: answer.nextPageToken ?? "" };
  });
  await load();
  step("start");
}

function eventRow(event: Answer): DocumentFragment {
  const { row, fields } = copy("event");
  const times: number = event.times ?? 1;
  fields.what!.textContent = kindText(event.kind) + (times > 1 ? " (" + text("times", { times }) + ")" : "");
  const from = event.actor ? text("by_operator") : event.address;
  fields.detail!.textContent = [time(event.time), from].filter(Boolean).join(" · ");
  return row;
}

/** The button that hands people their data. */
export function wireExport(): void {
  onPress("export", async () => {
    const { accountJson } = await callFresh("AccountService/ExportAccount");
    save("account.json", "application/json", accountJson);
    say(text("exported"));
  });
}

export async function deletePage(): Promise<void> {
  const { user } = await session.call("AccountService/GetAccount", {});
  write("sure", text("sure", { email: user.email }));
  wireExport();
  onForm("delete", async () => {
    const { deleteTime } = await callFresh("AccountService/DeleteAccount");
    session.ended();
    const later = new Date(deleteTime).getTime() > Date.now() + 60_000;
    write("deleted", later ? text("deleted_later", { time: time(deleteTime) }) : text("deleted"));
    show("nav", false, document.querySelector("header")!);
    step("done");
  });
  step("start");
}
