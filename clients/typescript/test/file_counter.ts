// Counts up in the store of a folder until it is told to stop: a process of file.test.ts.
import process from "node:process";
import { fileStore } from "../src/file.ts";

const [folder = ""] = process.argv.slice(2);
if (folder === "/nonexistent") {
  process.exit(0);
}
const store = fileStore(folder);
let go = true;
process.on("message", () => {
  go = false;
});
for (let own = 0; go; ) {
  const { version, text } = await store.read();
  if (await store.write(String(Number(text ?? 0) + 1), version)) {
    process.send?.(++own);
  }
}
process.disconnect?.();
