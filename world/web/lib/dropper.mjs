// A proxy that loses answers, and notes what the service was asked: the witness of refreshes.spec.mjs.
import { createServer, request } from "node:http";
import { fromBinary } from "@bufbuild/protobuf";

/** A sequence of numbers from 0 to 1 that is the same in every run (mulberry32). */
export function sequence(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/**
 * Starts the proxy. `target()` is the HOST:PORT of the service now. Of the calls of RefreshToken it loses one in twelve
 * before the service and one in twelve after it, and answers one in fifty with a page of a proxy.
 *
 * @param {import("node:test").TestContext} t
 */
export async function dropper(t, target, { AuthService }, seed) {
  const random = sequence(seed);
  const { input, output } = AuthService.method.refreshToken;
  /** By refresh token, the request ids with which it was sent. */
  const ids = new Map();
  /** The refresh tokens that the service has answered with. */
  const successors = new Set();
  const seen = { requests: 0, lostBefore: 0, lostAfter: 0, pages: 0, unreachable: 0, refused: {} };

  const server = createServer(async (req, res) => {
    const parts = [];
    for await (const part of req) {
      parts.push(part);
    }
    const body = Buffer.concat(parts);
    const refresh = req.method === "POST" && req.url.endsWith("/RefreshToken");
    let fate = 1;
    if (refresh) {
      seen.requests++;
      const { refreshToken, requestId } = fromBinary(input, body);
      ids.set(refreshToken, (ids.get(refreshToken) ?? new Set()).add(requestId));
      fate = random();
    }
    if (fate < 1 / 12) {
      seen.lostBefore++;
      req.socket.destroy();
      return;
    }
    if (res.destroyed) {
      return; // the client has gone, as a tab that was closed
    }
    const [hostname, port] = target().split(":");
    const onward = request({ hostname, port, path: req.url, method: req.method, headers: { ...req.headers, connection: "close" } }, async (answer) => {
      const received = [];
      try {
        for await (const part of answer) {
          received.push(part);
        }
      } catch {
        seen.unreachable++;
        req.socket.destroy(); // the service was killed while it answered
        return;
      }
      const text = Buffer.concat(received);
      if (refresh) {
        note(answer.statusCode, text);
      }
      if (fate < 2 / 12) {
        seen.lostAfter++;
        req.socket.destroy();
      } else if (fate < 2 / 12 + 1 / 50) {
        seen.pages++;
        res.writeHead(502, { "content-type": "text/html", ...cors(answer.headers) }).end("<h1>Bad Gateway</h1>");
      } else {
        res.writeHead(answer.statusCode, answer.headers).end(text);
      }
    });
    onward.on("error", () => {
      seen.unreachable++;
      req.socket.destroy();
    });
    onward.end(body);
  });

  function note(status, text) {
    if (status === 200) {
      successors.add(fromBinary(output, text).tokens.refreshToken);
      return;
    }
    const { code, details = [] } = JSON.parse(text);
    const reason = details.find((detail) => detail.type === "google.rpc.ErrorInfo")?.debug?.reason ?? code;
    seen.refused[reason] = (seen.refused[reason] ?? 0) + 1;
  }

  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    origin: `http://localhost:${server.address().port}`,
    seen,
    /** How many refreshes the service has made: a repeat has the same successor. */
    refreshes: () => successors.size,
    /** Tokens that were sent with two request ids: each would be a trade of its own. */
    spentTwice: () => [...ids.values()].filter((set) => set.size > 1).length,
  };
}

function cors(headers) {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith("access-control-")));
}
