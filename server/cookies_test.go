package server_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const (
	refreshCookie = "__Secure-latchkey_refresh"
	browserCookie = "__Host-latchkey_browser"
	webOrigin     = "https://app.example.com"
)

// aBrowser calls as a script does in a browser that keeps the cookies.
type aBrowser struct {
	server  *testenv.Server
	cookies map[string]string
	headers []string // name, value, …
}

func newBrowser(s *testenv.Server) *aBrowser {
	return &aBrowser{server: s, cookies: map[string]string{}, headers: []string{"Origin", webOrigin, "Connect-Protocol-Version", "1"}}
}

// browserAnswer is what a script can read, and the lines with cookies, which it cannot.
type browserAnswer struct {
	status  int
	reason  string
	cookies []*http.Cookie
	Tokens  struct{ AccessToken, RefreshToken, SessionID string }
	Details []struct{ Debug struct{ Reason string } }
}

func (b *aBrowser) call(t *testing.T, method, body string) browserAnswer {
	t.Helper()
	headers := b.headers
	var cookies []string
	for name, value := range b.cookies {
		cookies = append(cookies, name+"="+value)
	}
	if len(cookies) > 0 {
		headers = append(slices.Clone(headers), "Cookie", strings.Join(cookies, "; "))
	}
	resp, text := post(t, b.server.HTTP+"/latchkey.v1.AuthService/"+method, "application/json", body, headers...)
	got := browserAnswer{status: resp.StatusCode, cookies: cookiesIn(resp.Header)}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatalf("%s: %d %s", method, resp.StatusCode, text)
	}
	for _, detail := range got.Details {
		got.reason += detail.Debug.Reason
	}
	for _, c := range got.cookies {
		b.cookies[c.Name] = c.Value
		if c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	return got
}

func cookiesIn(h http.Header) []*http.Cookie { return (&http.Response{Header: h}).Cookies() }

func (b *aBrowser) login(t *testing.T) browserAnswer {
	t.Helper()
	return b.call(t, "Login", `{"email":"`+email+`","password":"`+password+`"}`)
}

// A browser's refresh token is in a cookie alone, from the login to the logout.
func TestRefreshTokenInCookie(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WebOrigins: []string{webOrigin}, WebCookies: true})
	signUp(t, s, email)
	b := newBrowser(s)
	login := b.login(t)
	if login.Tokens.AccessToken == "" || login.Tokens.RefreshToken != "" || len(login.cookies) != 2 {
		t.Fatalf("%+v", login)
	}
	for _, c := range login.cookies {
		path := map[string]string{refreshCookie: "/latchkey.v1.AuthService/", browserCookie: "/"}[c.Name]
		if c.Path != path || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.Domain != "" || c.MaxAge < 6*24*3600 {
			t.Errorf("%s", c)
		}
	}
	first := b.cookies[refreshCookie]
	refreshed := b.call(t, "RefreshToken", `{"requestId":"6f1c8f1e-6b0e-4b53-a9f5-0a3f6c6f3a01"}`)
	if refreshed.Tokens.AccessToken == "" || refreshed.Tokens.RefreshToken != "" || b.cookies[refreshCookie] == first {
		t.Errorf("%+v", refreshed)
	}
	// The answer was lost: the browser still has the first, and gets the same one again.
	next := b.cookies[refreshCookie]
	b.cookies[refreshCookie] = first
	if again := b.call(t, "RefreshToken", `{"requestId":"6f1c8f1e-6b0e-4b53-a9f5-0a3f6c6f3a01"}`); again.status != http.StatusOK || b.cookies[refreshCookie] != next {
		t.Errorf("%+v", again)
	}
	if out := b.call(t, "Logout", `{}`); out.status != http.StatusOK || b.cookies[refreshCookie] != "" {
		t.Errorf("after the logout: %+v, cookies %v", out, b.cookies)
	}
	if none := b.call(t, "RefreshToken", `{}`); none.status != http.StatusUnauthorized || none.reason != "REFRESH_TOKEN_INVALID" {
		t.Errorf("without a cookie: %+v", none)
	}
	// A session that another device has ended takes the cookie with it.
	b.login(t)
	kept := b.cookies[refreshCookie]
	b.call(t, "Logout", `{}`)
	b.cookies[refreshCookie] = kept
	if ended := b.call(t, "RefreshToken", `{}`); ended.reason != "SESSION_ENDED" || b.cookies[refreshCookie] != "" {
		t.Errorf("an ended session: %+v, cookies %v", ended, b.cookies)
	}
}

// gRPC-Web's answers, also those that fail, set cookies too.
func TestRefreshTokenInCookieOverGRPCWeb(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WebOrigins: []string{webOrigin}, WebCookies: true})
	signUp(t, s, email)
	b := newBrowser(s)
	b.login(t)
	cookies := refreshCookie + "=" + b.cookies[refreshCookie] + "; " + browserCookie + "=" + b.cookies[browserCookie]
	b.call(t, "Logout", `{}`)
	for name, request := range map[string]struct{ contentType, body string }{
		"X-Grpc-Web": {"application/grpc-web+proto", "\x00\x00\x00\x00\x00"}, "Connect-Protocol-Version": {"application/proto", ""},
	} {
		resp, text := post(t, s.HTTP+"/latchkey.v1.AuthService/RefreshToken", request.contentType, request.body, "Origin", webOrigin, name, "1", "Cookie", cookies)
		if found := cookiesIn(resp.Header); len(found) != 1 || found[0].Name != refreshCookie || found[0].MaxAge >= 0 {
			t.Errorf("%s: %v %q", name, resp.Header, text)
		}
	}
}

// A tab whose request was delayed shows a token that was traded twice since: it is refused, and the browser keeps the
// newest one, which another tab has got.
func TestLateTabKeepsTheCookie(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WebOrigins: []string{webOrigin}, WebCookies: true})
	signUp(t, s, email)
	early := newBrowser(s)
	early.login(t)
	late := &aBrowser{server: s, cookies: maps.Clone(early.cookies), headers: early.headers}
	for range 2 {
		early.call(t, "RefreshToken", `{}`)
	}
	got := late.call(t, "RefreshToken", `{"requestId":"6f1c8f1e-6b0e-4b53-a9f5-0a3f6c6f3a02"}`)
	if got.reason != "REFRESH_TOKEN_INVALID" || len(got.cookies) != 0 {
		t.Errorf("the late tab: %+v", got)
	}
	if next := early.call(t, "RefreshToken", `{}`); next.status != http.StatusOK {
		t.Errorf("the tab with the next token: %+v", next)
	}
}

// A page of another site cannot use a visitor's cookie: by a form, an image, a script, nor from an origin that looks
// like a listed one.
func TestAttackForgedRequests(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WebOrigins: []string{webOrigin}, WebCookies: true})
	signUp(t, s, email)
	b := newBrowser(s)
	b.login(t)
	cookies := "Cookie\x00" + refreshCookie + "=" + b.cookies[refreshCookie] + "; " + browserCookie + "=" + b.cookies[browserCookie]
	for name, headers := range map[string]string{
		"another site":                 "Origin\x00https://evil.example\x00Connect-Protocol-Version\x001",
		"a sub-domain":                 "Origin\x00https://x.app.example.com\x00Connect-Protocol-Version\x001",
		"a sandboxed frame":            "Origin\x00null\x00Connect-Protocol-Version\x001",
		"no origin":                    "Connect-Protocol-Version\x001",
		"two origins":                  "Origin\x00" + webOrigin + "\x00Origin\x00https://evil.example\x00Connect-Protocol-Version\x001",
		"no header":                    "Origin\x00" + webOrigin,
		"another host of the site":     "Origin\x00" + s.HTTP + "\x00Sec-Fetch-Site\x00same-site\x00Connect-Protocol-Version\x001",
		"Latchkey's pages, by another": "Origin\x00https://evil.example\x00Latchkey-Pages\x001\x00Connect-Protocol-Version\x001",
	} {
		for _, contentType := range []string{"application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
			for _, method := range []string{"RefreshToken", "Logout"} {
				resp, text := post(t, s.HTTP+"/latchkey.v1.AuthService/"+method, contentType, `{}`, strings.Split(headers+"\x00"+cookies, "\x00")...)
				if resp.StatusCode < 400 || len(cookiesIn(resp.Header)) > 0 || strings.Contains(text, "accessToken") {
					t.Errorf("%s, %s of %s: %d %v %s", name, contentType, method, resp.StatusCode, resp.Header, text)
				}
			}
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.HTTP+"/latchkey.v1.AuthService/RefreshToken", http.NoBody)
	req.Header = http.Header{
		"Cookie": {strings.TrimPrefix(cookies, "Cookie\x00")}, "Origin": {webOrigin}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"},
		"Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="},
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("a WebSocket: %d", resp.StatusCode)
	}
	if still := b.call(t, "RefreshToken", `{}`); still.status != http.StatusOK {
		t.Errorf("the session did not survive the attacks: %+v", still)
	}
}

// A sub-domain can set a cookie for the whole domain, and so log its visitor in to the attacker's account (or hide the
// visitor's own token). It cannot set the cookie with the prefix __Host- to which the token is bound.
func TestAttackTossedCookie(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WebOrigins: []string{webOrigin}, WebCookies: true})
	signUp(t, s, email)
	attacker, victim := newBrowser(s), newBrowser(s)
	attacker.login(t)
	tossed := attacker.cookies[refreshCookie]

	victim.cookies[refreshCookie] = tossed
	if got := victim.call(t, "RefreshToken", `{}`); got.reason != "REFRESH_TOKEN_INVALID" {
		t.Errorf("without a second cookie: %+v", got)
	}
	own := victim.login(t)
	if victim.cookies[browserCookie] == attacker.cookies[browserCookie] {
		t.Fatal("two browsers have the same second cookie")
	}
	kept := victim.cookies[refreshCookie]
	victim.cookies[refreshCookie] = tossed
	if got := victim.call(t, "RefreshToken", `{}`); got.reason != "REFRESH_TOKEN_INVALID" {
		t.Errorf("in the place of the own: %+v", got)
	}
	for _, both := range []string{tossed + "; " + refreshCookie + "=" + kept, kept + "; " + refreshCookie + "=" + tossed} {
		victim.cookies[refreshCookie] = both
		got := victim.call(t, "RefreshToken", `{}`)
		if got.Tokens.SessionID != own.Tokens.SessionID {
			t.Errorf("beside the own: %+v", got)
		}
		kept = victim.cookies[refreshCookie]
		if _, second, ok := strings.Cut(both, tossed+"; "+refreshCookie+"="); ok && second == kept {
			t.Error("the token did not advance")
		}
	}
	// The bare token, or one with the binding of no browser, is not enough.
	token := kept[:strings.LastIndexByte(kept, '.')]
	for _, forged := range []string{token, token + ".", "." + kept, token + "." + attacker.cookies[browserCookie]} {
		victim.cookies[refreshCookie] = forged
		if got := victim.call(t, "RefreshToken", `{}`); got.reason != "REFRESH_TOKEN_INVALID" {
			t.Errorf("%q: %+v", forged, got)
		}
	}
}

// Without the setting, and for clients that are no browsers, tokens are in answers and nothing is read from cookies.
func TestNoCookiesUnlessAskedFor(t *testing.T) {
	t.Parallel()
	off := testenv.Start(t, testenv.Options{WebOrigins: []string{webOrigin}})
	signUp(t, off, email)
	if got := newBrowser(off).login(t); got.Tokens.RefreshToken == "" || len(got.cookies) > 0 {
		t.Errorf("while off: %+v", got)
	}
	on := testenv.Start(t, testenv.Options{WebOrigins: []string{webOrigin}, WebCookies: true})
	signUp(t, on, email)
	for name, headers := range map[string][]string{"curl": nil, "a service": {"Connect-Protocol-Version", "1"}} {
		b := newBrowser(on)
		b.headers = headers
		if got := b.login(t); got.Tokens.RefreshToken == "" || len(got.cookies) > 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// The service's own origin needs no listing. Browsers say so themselves, older ones by the origin.
	for _, headers := range [][]string{{"Origin", "https://behind.a.proxy", "Sec-Fetch-Site", "same-origin"}, {"Origin", on.HTTP}} {
		b := newBrowser(on)
		b.headers = append([]string{"Connect-Protocol-Version", "1"}, headers...)
		if got := b.login(t); got.Tokens.RefreshToken != "" || len(got.cookies) != 2 {
			t.Errorf("%v: %+v", headers, got)
		}
	}
}
