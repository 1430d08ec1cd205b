package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestAccountPages: the account pages are there by setting, and keep their refresh token in a cookie although
// LATCHKEY_WEB_COOKIES is off. Only calls of their own origin that say so do.
func TestAccountPages(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{AccountPages: true, WebOrigins: []string{webOrigin}})
	signUp(t, s, email)
	login := func(headers ...string) browserAnswer {
		t.Helper()
		b := newBrowser(s)
		b.headers = headers
		return b.login(t)
	}
	const version, pages = "Connect-Protocol-Version", "latchkey-pages"
	for name, headers := range map[string][]string{
		"by the host":            {"Origin", s.HTTP, version, "1", pages, "1"},
		"as the browser says":    {"Origin", "https://login.example.com", "Sec-Fetch-Site", "same-origin", version, "1", pages, "1"},
		"in letters of any case": {"Origin", strings.ToUpper(s.HTTP[:4]) + s.HTTP[4:], "Sec-Fetch-Site", "same-origin", version, "1", pages, "1"},
	} {
		if got := login(headers...); len(got.cookies) != 2 || got.Tokens.RefreshToken != "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for name, headers := range map[string][]string{
		"without the mark":        {"Origin", s.HTTP, version, "1"},
		"without the version":     {"Origin", s.HTTP, pages, "1"},
		"without an origin":       {version, "1", pages, "1"},
		"a listed page":           {"Origin", webOrigin, version, "1", pages, "1"},
		"another origin":          {"Origin", "https://evil.example", version, "1", pages, "1"},
		"null":                    {"Origin", "null", version, "1", pages, "1"},
		"the same site only":      {"Origin", s.HTTP, "Sec-Fetch-Site", "same-site", version, "1", pages, "1"},
		"the host as a prefix":    {"Origin", s.HTTP + ".evil.example", version, "1", pages, "1"},
		"the host behind a name":  {"Origin", "http://user@" + strings.TrimPrefix(s.HTTP, "http://") + ".evil.example", version, "1", pages, "1"},
		"the host behind a point": {"Origin", "http://evil." + strings.TrimPrefix(s.HTTP, "http://"), version, "1", pages, "1"},
		"another port":            {"Origin", s.HTTP + "1", version, "1", pages, "1"},
	} {
		if got := login(headers...); len(got.cookies) != 0 || got.Tokens.RefreshToken == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for target, want := range map[string]int{"/account/login": http.StatusOK, "/account/nothing": http.StatusNotFound, "/account/login?return_to=https://evil.example/": http.StatusBadRequest} {
		if got := pageStatus(t, s, http.MethodGet, target); got != want {
			t.Errorf("%s: %d", target, got)
		}
	}
	if got := pageStatus(t, s, http.MethodPost, "/account/login"); got != http.StatusMethodNotAllowed {
		t.Errorf("a form that is sent to a page: %d", got)
	}
}

// TestNoAccountPages: without them there is nothing, and no cookie for a page that says to be one.
func TestNoAccountPages(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	b := newBrowser(s)
	b.headers = []string{"Origin", s.HTTP, "Connect-Protocol-Version", "1", "latchkey-pages", "1"}
	if got := b.login(t); len(got.cookies) != 0 || got.Tokens.RefreshToken == "" {
		t.Errorf("%+v", got)
	}
	if got := pageStatus(t, s, http.MethodGet, "/account/login"); got != http.StatusNotFound {
		t.Errorf("the page: %d", got)
	}
}

func pageStatus(t *testing.T, s *testenv.Server, method, target string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.HTTP+target, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}
