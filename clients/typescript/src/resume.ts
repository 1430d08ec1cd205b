import { keptTokens } from "./calls.ts";
import { endOf } from "./errors.ts";
import type { RefresherConfig } from "./refresher.ts";
import type { SessionRecord } from "./record.ts";

/**
 * Asks the service, in cookie mode, for the session of the browser's cookie, if the store knows of none. The request id
 * is stored first, as for every refresh: the cookie's token is spent by it.
 */
export async function resume(cfg: Pick<RefresherConfig, "keeper" | "runtime" | "auth" | "timeout">): Promise<void> {
  const { keeper, runtime, auth, timeout } = cfg;
  let id = "";
  const { written } = await keeper.change(({ record }) => {
    if (record.status === "signedIn") {
      return undefined;
    }
    const attempt = (record.pending?.attempt ?? 0) + 1;
    id = record.pending?.id ?? runtime.uuid();
    return { ...record, pending: { id, owner: "", attempt } };
  });
  if (!written) {
    return;
  }
  const settle = (edit: (record: SessionRecord) => SessionRecord) =>
    keeper.change(({ record }) => (record.pending?.id === id ? edit(record) : undefined));
  const wall = runtime.wall();
  const monotonic = runtime.monotonic();
  try {
    const { tokens } = await auth.refreshToken({ requestId: id }, { timeoutMs: timeout });
    if (tokens !== undefined) {
      keeper.obtained(keptTokens(tokens, "", null, wall), tokens.sessionId, monotonic);
      await settle(({ goodbyes, devices }) => ({ format: 1, status: "signedIn", sessionId: tokens.sessionId, goodbyes, devices }));
    }
  } catch (error) {
    if (endOf(error) === "") {
      throw error;
    }
    await settle(({ pending: _, ...record }) => record);
  }
}
