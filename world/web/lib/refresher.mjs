// A process of refreshes.spec.mjs: it refreshes over and over. ARGUMENTS: base URL, folder of the session.
import { createSession } from "../../../clients/typescript/dist/index.js";
import { fileStore } from "../../../clients/typescript/dist/file.js";

const [baseUrl, folder] = process.argv.slice(2);
const session = createSession({ baseUrl, storage: fileStore(folder), timeout: 3000, patience: 60_000 });
session.onChange((state) => process.send({ state }));
process.on("message", async (who) => {
  // The service may have been killed meanwhile.
  await session.login(who).catch(() => process.send({ again: true }));
});
await session.ready;
process.send({ ready: true, state: session.state });
for (;;) {
  if (session.state.status === "signedIn") {
    try {
      await session.refresh();
    } catch (error) {
      process.send({ failed: String(error) });
    }
  } else {
    await new Promise((done) => setTimeout(done, 50));
  }
}
