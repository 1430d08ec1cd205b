import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { type TestContext, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { AccountService, createSession, memoryStore, NoSessionError, type State } from "../src/index.ts";

/** A server of HTTP on this machine. */
async function serve(t: TestContext, handle: (req: IncomingMessage, body: string, res: ServerResponse) => void): Promise<string> {
  const server = createServer(async (req, res) => {
    let body = "";
    for await (const part of req) {
      body += String(part);
    }
    handle(req, body, res);
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const signedIn = (access: string, refresh: string) =>
  JSON.stringify({
    format: 1,
    status: "signedIn",
    sessionId: "s",
    tokens: { refresh, access, account: "", wall: Date.now() - 60_000 },
    goodbyes: [],
    devices: [],
  });

async function storeWith(text: string) {
  const store = memoryStore();
  await store.write(text, 0);
  return store;
}

/** Answers RefreshToken as Connect with JSON would not do: the client asks for protobuf. */
const refreshed = Buffer.from([0x0a, 0x08, 0x0a, 0x02, 0x41, 0x31, 0x12, 0x02, 0x52, 0x31]); // tokens { access A1, refresh R1 }

test("fetch sends the token to the listed origins, and to no other", async (t) => {
  const seen: string[] = [];
  const api = await serve(t, (req, body, res) => {
    seen.push(`${req.headers.authorization} ${body}`);
    res.end("fine");
  });
  const other = await serve(t, (req) => assert.fail(`a request with ${req.headers.authorization}`));
  const session = createSession({ baseUrl: "https://auth.example.com", origins: [api], storage: await storeWith(signedIn("A0", "R0")) });
  assert.equal(await (await session.fetch(`${api}/things`, { method: "POST", body: "x" })).text(), "fine");
  assert.deepEqual(seen, ["Bearer A0 x"]);
  await assert.rejects(session.fetch(`${other}/things`), /not in the session's origins/);
  await assert.rejects(session.fetch(`${api}.evil.example/things`), TypeError);
  const elsewhere = createClient(AccountService, createConnectTransport({ baseUrl: other, interceptors: [session.interceptor] }));
  await assert.rejects(elsewhere.getAccount({}), /not in the session's origins/);
});

test("fetch repeats a request after 401, with its body and a new token, once", async (t) => {
  const seen: string[] = [];
  const api = await serve(t, (req, body, res) => {
    seen.push(`${req.headers.authorization} ${body}`);
    res.writeHead(401).end();
  });
  const auth = await serve(t, (req, _, res) => {
    assert.equal(req.url, "/latchkey.v1.AuthService/RefreshToken");
    res.writeHead(200, { "content-type": "application/proto" }).end(refreshed);
  });
  const session = createSession({ baseUrl: auth, origins: [api], storage: await storeWith(signedIn("A0", "R0")) });
  const answer = await session.fetch(new Request(`${api}/things`, { method: "POST", body: "x" }));
  assert.equal(answer.status, 401);
  assert.deepEqual(seen, ["Bearer A0 x", "Bearer A1 x"]);
});

test("without a session, calls say so and send nothing", async (t) => {
  const api = await serve(t, () => assert.fail("a request"));
  const session = createSession({ baseUrl: api });
  assert.deepEqual(await session.ready, { status: "signedOut" });
  await assert.rejects(session.fetch(api), NoSessionError);
  await assert.rejects(session.token(), NoSessionError);
  await assert.rejects(createClient(AccountService, session.transport).getAccount({}), (error: Error) => error.cause instanceof NoSessionError);
});

test("listeners hear of each change once, and the state is one object until then", async () => {
  const store = await storeWith(signedIn("A0", "R0"));
  const session = createSession({ baseUrl: "http://127.0.0.1:9", storage: store });
  assert.deepEqual(session.state, { status: "starting" });
  const heard: State[] = [];
  const stop = session.onChange((state) => heard.push(state));
  await session.ready;
  const { state } = session;
  assert.equal(state.status, "signedIn");
  await session.token();
  assert.equal(session.state, state);
  await store.write(JSON.stringify({ format: 1, status: "ended", reason: "SESSION_ENDED", goodbyes: [], devices: [] }), 1);
  await new Promise((done) => setImmediate(done));
  assert.deepEqual(heard, [state, { status: "ended", reason: "SESSION_ENDED", sessionId: "" }]);
  stop();
  session.close();
});

test("a login fails if nobody would hold its refresh token", async (t) => {
  const seen: string[] = [];
  let answer = Buffer.from([0x0a, 0x04, 0x0a, 0x02, 0x41, 0x31]); // tokens { access A1 }: the rest is in a cookie
  const auth = await serve(t, (req, body, res) => {
    seen.push(`${req.url?.split("/").at(-1)} ${body.includes("R1") ? "R1" : ""}`.trim());
    res.writeHead(200, { "content-type": "application/proto" }).end(req.url?.endsWith("Login") ? answer : "");
  });
  const who = { email: "ada@example.com", password: "x" };
  const without = createSession({ baseUrl: auth });
  await assert.rejects(without.login(who), /use the storage "cookie"/);
  assert.equal(without.state.status, "signedOut");
  answer = refreshed; // tokens in the answer: there is no cookie
  const withCookie = createSession({ baseUrl: auth, storage: { cookie: memoryStore() } });
  await assert.rejects(withCookie.login(who), /LATCHKEY_WEB_COOKIES/);
  assert.equal(withCookie.state.status, "signedOut");
  assert.deepEqual(seen, ["Login", "Login", "Logout R1"]);
});

test("a record of a newer version is left alone", async () => {
  const store = await storeWith(JSON.stringify({ format: 2 }));
  const session = createSession({ baseUrl: "http://127.0.0.1:9", storage: store });
  await assert.rejects(session.ready, /newer version/);
  await assert.rejects(session.token(), /newer version/);
  await assert.rejects(session.logout(), /newer version/);
  assert.equal((await store.read()).version, 1);
});
