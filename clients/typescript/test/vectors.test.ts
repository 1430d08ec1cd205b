import { readdirSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import type { File } from "./vectors/format.ts";
import { play } from "./vectors/run.ts";

const folder = new URL("../../vectors/", import.meta.url);

for (const name of readdirSync(folder).filter((file) => file.endsWith(".json"))) {
  const file: File = JSON.parse(readFileSync(new URL(name, folder), "utf8"));
  describe(name, { concurrency: 1 }, () => {
    for (const vector of file.vectors) {
      test(vector.name, () => play(vector));
    }
  });
}
