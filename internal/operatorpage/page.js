// The page for operators. It writes text only, never markup, and keeps the key in this variable alone.
"use strict";

let key = "";
let changes = false; // whether the listener takes calls that change something
const view = document.getElementById("view");
const login = document.getElementById("login");

const make = (name, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children.filter(child => child !== undefined && child !== null));
  return element;
};
const say = text => { document.getElementById("message").textContent = text; };
const at = time => time ? new Date(time).toLocaleString() : "–";
const link = (text, hash) => make("a", { href: "#" + hash }, text);

async function answered(response) {
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  const reason = body.details?.find(detail => detail.debug?.reason)?.debug.reason;
  throw Object.assign(new Error(body.message ?? `the answer is ${response.status}`), { reason, status: response.status });
}

const call = async (method, request = {}) => answered(await fetch("/latchkey.v1.AdminService/" + method, {
  method: "POST", body: JSON.stringify(request),
  headers: { "content-type": "application/json", authorization: "Bearer " + key },
}));

const status = async () => answered(await fetch("/operators/status.json", { headers: { authorization: "Bearer " + key } }));

function table(caption, heads, rows) {
  if (rows.length === 0) return make("p", {}, "None.");
  return make("div", { className: "table" }, make("table", {},
    make("caption", { hidden: true }, caption),
    make("thead", {}, make("tr", {}, ...heads.map(head => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows.map(cells => make("tr", {}, ...cells.map(cell => make("td", {}, cell ?? "")))))));
}

const facts = pairs => make("dl", {}, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value ?? "–")]));
const bad = (wrong, text) => wrong ? make("span", { className: "bad" }, text) : text;

// A button that asks before it does what cannot be taken back.
const action = (text, question, method, request) => make("button", {
  type: "button",
  onclick: async () => {
    if (!confirm(question)) return;
    try {
      await call(method, request);
      say("");
      await show();
    } catch (error) {
      say(error.message);
    }
  },
}, text);

const views = {
  async state(parameters, now) {
    const behind = now.replicas.filter(replica => replica.behind > 0 && !replica.leaving).length;
    return [
      make("h2", {}, "State"),
      facts([
        ["Version", now.version],
        ["Takes calls", bad(!now.ready, now.ready ? "yes" : "no")],
        ["PostgreSQL", bad(now.postgres !== "ok", now.postgres)],
        ["Redis", bad(now.redis !== "ok", now.redis)],
        ["This page", now.changes ? "shows and changes" : "shows only (LATCHKEY_OPERATORS_PAGE=change lets it change)"],
      ]),
      ...[...(now.problems ?? []), ...(now.warnings ?? [])].map(text => make("p", { className: "bad" }, text)),
      make("h2", {}, "Ledger and replicas"),
      facts([
        ["Newest position", String(now.ledger.head)],
        ["This replica", `${now.ledger.applied}, ${now.ledger.rows} rows in memory, answers from ${now.ledger.trusted ? "memory" : "PostgreSQL"}`],
        ["Behind", bad(behind > 0, `${behind} of ${now.replicas.length} replicas`)],
      ]),
      table("Replicas", ["Replica", "Positions behind", "Lease", ""], now.replicas.map(replica =>
        [replica.id, bad(replica.behind > 0, String(replica.behind)), `${replica.leaseMs} ms`, replica.leaving ? "leaving" : ""])),
      make("h2", {}, "Mails"),
      facts([
        ["Wait", `${now.mails.pending}, the oldest for ${Math.round(now.mails.oldestSeconds)} s`],
        ["Failed before", bad(now.mails.failing > 0, String(now.mails.failing))],
        ["Given up in a day", bad(now.mails.givenUp > 0, String(now.mails.givenUp))],
      ]),
      make("h2", {}, "Signing keys"),
      table("Signing keys", ["Key", "Algorithm", "State", "Made", "Signs since", "Ended"], now.keys.map(one =>
        [one.kid, one.algorithm, one.state, at(one.created), at(one.activated), at(one.retired)])),
      make("p", {}, "latchkey keys rotate and latchkey keys revoke change them."),
    ];
  },

  async accounts(parameters) {
    const page = await call("ListUsers", {
      pageSize: 50, pageToken: parameters.get("page") ?? "", factor: parameters.get("factor") || undefined,
    });
    const search = make("form", {
      onsubmit: event => {
        event.preventDefault();
        const asked = event.target.elements.asked.value.trim();
        if (asked) location.hash = "account?" + new URLSearchParams({ asked });
        else location.hash = "accounts?" + new URLSearchParams({ factor: event.target.elements.factor.value });
      },
    }, make("label", {}, "Address or id ", make("input", { name: "asked", type: "search", autocomplete: "off" })),
    make("label", {}, "Factor ", make("select", { name: "factor" },
      ...[["", "all accounts"], ["FACTOR_KIND_TOTP", "authenticator app"], ["FACTOR_KIND_PASSKEY", "passkey"], ["FACTOR_KIND_RECOVERY_CODES", "recovery codes"]]
        .map(([value, text]) => make("option", { value, selected: value === (parameters.get("factor") ?? "") }, text)))),
    make("button", {}, "Search"));
    return [make("h2", {}, "Accounts"), search,
      table("Accounts", ["Address", "Name", "Made", "Last login", "State"], (page.accounts ?? []).map(account => [
        link(account.user.email, "account?" + new URLSearchParams({ asked: account.user.id })),
        `${account.user.firstName ?? ""} ${account.user.lastName ?? ""}`, at(account.user.createTime), at(account.lastLoginTime),
        bad(account.suspended, account.deleteTime ? "to be deleted" : account.suspended ? "suspended" : account.user.emailVerified ? "proved" : "not proved"),
      ])),
      page.nextPageToken ? make("p", {}, link("Older accounts",
        "accounts?" + new URLSearchParams({ factor: parameters.get("factor") ?? "", page: page.nextPageToken }))) : null];
  },

  async account(parameters) {
    const asked = parameters.get("asked") ?? "";
    const { account } = await call("GetUser", asked.includes("@") ? { email: asked } : { userId: asked });
    const userId = account.user.id;
    const [sessions, factors, events] = await Promise.all([
      call("ListUserSessions", { userId }), call("ListUserFactors", { userId }), call("ListAuditEvents", { userId, pageSize: 50 }),
    ]);
    const email = account.user.email;
    return [
      make("h2", {}, email),
      facts([
        ["Id", userId], ["Name", `${account.user.firstName ?? ""} ${account.user.lastName ?? ""}`],
        ["Address", account.user.emailVerified ? "proved" : "not proved"], ["Made", at(account.user.createTime)], ["Last login", at(account.lastLoginTime)],
        ["State", bad(account.suspended, account.deleteTime ? `to be deleted ${at(account.deleteTime)}` : account.suspended ? "suspended" : "in use")],
      ]),
      changes ? make("div", { className: "actions" },
        account.suspended
          ? action("Reactivate", `Let ${email} be used again?`, "ReactivateUser", { userId })
          : action("Suspend", `Suspend ${email} and end all its sessions?`, "SuspendUser", { userId }),
        action("End all sessions", `End all sessions of ${email}?`, "RevokeUserSessions", { userId }),
        account.user.emailVerified ? null : action("Mark the address as proved", `Mark ${email} as proved?`, "VerifyUserEmail", { userId }),
        action("Remove second factors", `Remove all second factors of ${email} and end its sessions? Make sure that the owner asks for it.`, "RemoveUserFactors", { userId }),
      ) : null,
      make("h2", {}, "Sessions"),
      table("Sessions", ["Device", "Address", "Began", "Last use", ""], (sessions.sessions ?? []).map(session => [
        session.deviceName, session.address, at(session.createTime), at(session.lastUseTime),
        changes ? action("End", `End this session of ${email}?`, "RevokeUserSession", { userId, sessionId: session.id }) : "",
      ])),
      make("h2", {}, "Ways to log in"),
      table("Factors", ["Kind", "Name", "Added", "Last use", "Left"], (factors.factors ?? []).map(factor => [
        factor.kind.replace("FACTOR_KIND_", "").toLowerCase().replace("_", " "), factor.name, at(factor.createTime), at(factor.lastUseTime), factor.remaining ? String(factor.remaining) : "",
      ])),
      make("h2", {}, "Newest events"), eventTable(events.events ?? []),
    ];
  },

  async audit(parameters) {
    const kinds = (parameters.get("kinds") ?? "").split(/[\s,]+/).filter(Boolean);
    const page = await call("ListAuditEvents", {
      pageSize: 100, kinds, userId: parameters.get("user") || undefined, pageToken: parameters.get("page") ?? "",
    });
    const filters = make("form", {
      onsubmit: event => {
        event.preventDefault();
        const { kinds, user } = event.target.elements;
        location.hash = "audit?" + new URLSearchParams({ kinds: kinds.value, user: user.value.trim() });
      },
    }, make("label", {}, "Kinds ", make("input", { name: "kinds", value: parameters.get("kinds") ?? "", placeholder: "login_failed, logged_in" })),
    make("label", {}, "Account's id ", make("input", { name: "user", value: parameters.get("user") ?? "" })), make("button", {}, "Show"));
    return [make("h2", {}, "Audit"), filters, eventTable(page.events ?? []),
      page.nextPageToken ? make("p", {}, link("Older events", "audit?" + new URLSearchParams({
        kinds: parameters.get("kinds") ?? "", user: parameters.get("user") ?? "", page: page.nextPageToken,
      }))) : null];
  },
};

const eventTable = events => table("Events", ["Time", "Kind", "Account", "From", "By", "Trace"], events.map(event => [
  at(event.time), event.times > 1 ? `${event.kind} (${event.times} times)` : event.kind,
  event.userId ? link(event.userId.slice(0, 8), "account?" + new URLSearchParams({ asked: event.userId })) : "", event.address, event.actor, event.traceId,
]));

// Answers that come after another view was asked for are dropped.
let turn = 0;
async function show() {
  if (!key) return;
  const mine = ++turn;
  const [name, query] = location.hash.slice(1).split(/\?(.*)/s);
  const chosen = Object.hasOwn(views, name) ? name : "state";
  try {
    const now = await status();
    changes = now.changes;
    const parts = await views[chosen](new URLSearchParams(query ?? ""), now);
    if (mine !== turn) return;
    document.getElementById("nav").hidden = false;
    for (const a of document.querySelectorAll("nav a")) {
      if (a.hash === "#" + chosen) a.setAttribute("aria-current", "page");
      else a.removeAttribute("aria-current");
    }
    say("");
    view.replaceChildren(...parts.filter(Boolean));
    view.focus();
  } catch (error) {
    if (mine !== turn) return;
    if (error.status === 401) forget();
    say(error.status === 401 ? "This is not the key of an operator." : error.message);
  }
}

function forget() {
  key = "";
  turn++;
  document.getElementById("nav").hidden = true;
  login.reset();
  view.replaceChildren(login);
  document.getElementById("key").focus();
}

login.addEventListener("submit", event => {
  event.preventDefault();
  key = document.getElementById("key").value.trim();
  show();
});
document.getElementById("leave").addEventListener("click", () => { forget(); say(""); });
addEventListener("hashchange", show);
