// An app of its own origin that uses clients/typescript, without a bundler: the page has an import map.
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { createServer } from "node:http";
import { join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const packageFolder = fileURLToPath(new URL("../../../clients/typescript/", import.meta.url));

/** Where each package that the client imports has its modules for browsers: what a bundler reads from package.json. */
async function importMap() {
  const imports = { "@latchkey-auth/client": "/dist/index.js" };
  for (const name of ["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-web"]) {
    const { exports } = JSON.parse(await readFile(join(packageFolder, "node_modules", name, "package.json"), "utf8"));
    for (const [path, { import: target }] of Object.entries(exports).filter(([, to]) => to.import)) {
      const file = typeof target === "string" ? target : target.default;
      imports[name + path.slice(1)] = `/node_modules/${name}${file.slice(1)}`;
    }
  }
  return JSON.stringify({ imports });
}

/**
 * Serves the app until the test ends, and returns its origin. Its page has the client as `globalThis.client` when
 * `globalThis.client` is set.
 *
 * @param {import("node:test").TestContext} t
 */
export async function app(t, host = "localhost") {
  const page = `<!doctype html><html lang="en"><title>app</title><script type="importmap">${await importMap()}</script>
<script type="module">globalThis.client = await import("@latchkey-auth/client");</script>`;
  const server = createServer(async (req, res) => {
    const { pathname } = new URL(req.url, "http://app");
    const file = join(packageFolder, normalize(pathname));
    if (!/^\/(dist|node_modules)\/.*\.js$/.test(pathname) || !(await stat(file).catch(() => undefined))) {
      res.setHeader("content-type", "text/html").end(page);
      return;
    }
    res.setHeader("content-type", "text/javascript").setHeader("cache-control", "max-age=3600");
    createReadStream(file).pipe(res);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => server.close());
  return `http://${host}:${server.address().port}`;
}

/** Opens a tab of the app in which the client is loaded. */
export async function tab(context, origin) {
  const page = await context.newPage();
  await page.goto(origin);
  await page.waitForFunction(() => globalThis.client !== undefined);
  return page;
}
