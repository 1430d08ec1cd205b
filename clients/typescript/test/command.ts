// A program of one command whose session is in a file. Tests run it in Node.js and in Deno.
import process from "node:process";
import { createClient } from "@connectrpc/connect";
import { AccountService, createSession } from "../src/index.ts";
import { fileStore } from "../src/file.ts";

const [what = "", baseUrl = "", folder = ""] = process.argv.slice(2);
const session = createSession({ baseUrl, storage: fileStore(folder), deviceName: "a terminal" });
const { status } = await session.ready;

async function act(): Promise<string> {
  switch (what) {
    case "login": {
      const result = await session.login({ email: "ada@example.com", password: "correct horse battery" });
      return `${result.status} ${result.status === "signedIn" ? result.account.email : ""}`;
    }
    case "show": {
      if (status !== "signedIn") {
        return status;
      }
      const { user } = await createClient(AccountService, session.transport).getAccount({});
      return `${status} ${user?.email}`;
    }
    case "refresh": {
      const before = await session.token();
      await session.refresh();
      return before === (await session.token()) ? "the same token" : "another token";
    }
    case "logout":
      return (await session.logout()) ? "told" : "not told yet";
    default:
      throw new Error(`unknown command ${what}`);
  }
}

console.log(await act());
session.close();
