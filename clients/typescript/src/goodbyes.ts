import type { Client } from "@connectrpc/connect";
import { endOf } from "./errors.ts";
import type { AuthService } from "./gen/latchkey/v1/auth_service_pb.js";
import type { Keeper } from "./keeper.ts";
import type { Goodbye } from "./record.ts";

/**
 * Tells the service of the sessions that were left here. Returns whether it knows of all. One that it cannot be told of
 * now stays in the record, and is told again at the next occasion.
 */
export async function sayGoodbyes(keeper: Keeper, auth: Client<typeof AuthService>, timeout: number): Promise<boolean> {
  const { record } = await keeper.read();
  let all = true;
  for (const goodbye of record.goodbyes) {
    // The cookie is that of the newest login: it must not be logged out for the one before.
    const skip = goodbye.refresh === "" && record.status === "signedIn";
    const said = skip || (await say(goodbye, auth, timeout));
    all &&= said;
    if (said) {
      await forget(keeper, goodbye);
    }
  }
  return all;
}

async function say(goodbye: Goodbye, auth: Client<typeof AuthService>, timeoutMs: number): Promise<boolean> {
  try {
    await auth.logout({ refreshToken: goodbye.refresh }, { timeoutMs });
    return true;
  } catch (error) {
    return endOf(error) !== ""; // there is no such session any more
  }
}

async function forget(keeper: Keeper, said: Goodbye): Promise<void> {
  await keeper.change(({ record }) => {
    const goodbyes = record.goodbyes.filter((other) => other.refresh !== said.refresh);
    return goodbyes.length === record.goodbyes.length ? undefined : { ...record, goodbyes };
  });
}
