package authverify_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/latchkey-auth/latchkey/authverify"
)

// Each answer as RFC 6750, section 3, has it.
func TestMiddleware(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, s := w.ready(t, func(c *authverify.Config) { c.Audience = audience })
	p, gone := newPerson(t), newPerson(t)
	s.send(t, v, complete(2, sessionRow(2, gone)))
	expired := w.claims(p)
	expired["iat"], expired["exp"] = w.Now().Unix()-10, w.Now().Unix()
	good := w.token(t, p)
	handler := v.Middleware(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(rw, session(r.Context()))
	}))
	const realm = `Bearer realm="orders"`
	invalid := realm + `, error="invalid_token", error_description="the access token is not accepted: log in again"`
	for name, c := range map[string]answer{
		"good":           {[]string{"Bearer " + good}, http.StatusOK, ""},
		"other letters":  {[]string{"bearer " + good}, http.StatusOK, ""},
		"nothing":        {nil, http.StatusUnauthorized, realm},
		"another scheme": {[]string{"Basic YTpi"}, http.StatusUnauthorized, realm},
		"twice": {
			[]string{"Bearer " + good, "Bearer " + good},
			http.StatusBadRequest,
			realm + `, error="invalid_request", error_description="more than one Authorization header"`,
		},
		"no token": {[]string{"Bearer "}, http.StatusUnauthorized, invalid},
		"forged":   {[]string{"Bearer " + good + "x"}, http.StatusUnauthorized, invalid},
		"expired": {
			[]string{"Bearer " + w.sign(t, "k1", nil, expired)},
			http.StatusUnauthorized,
			realm + `, error="invalid_token", error_description="the access token has expired: refresh it"`,
		},
		"revoked": {
			[]string{"Bearer " + w.token(t, gone)},
			http.StatusUnauthorized,
			realm + `, error="invalid_token", error_description="the session has ended: log in again"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.check(t, handler, p)
		})
	}
}

func TestMiddlewareStale(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, _ := w.ready(t, nil)
	p := newPerson(t)
	w.advance(authverify.DefaultMaxStaleness + 1)
	answer{[]string{"Bearer " + w.token(t, p)}, http.StatusServiceUnavailable, ""}.check(t, v.Middleware(http.NotFoundHandler()), p)
}

// answer is what credentials are answered with.
type answer struct {
	values    []string
	code      int
	challenge string
}

func (c answer) check(t *testing.T, handler http.Handler, p person) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody)
	for _, value := range c.values {
		r.Header.Add("Authorization", value)
	}
	rec := httptest.NewRecorder()
	handler.ServeHTTP(rec, r)
	if rec.Code != c.code || rec.Header().Get("WWW-Authenticate") != c.challenge {
		t.Errorf("got %d, %q, want %d, %q", rec.Code, rec.Header().Get("WWW-Authenticate"), c.code, c.challenge)
	}
	if refused := c.code != http.StatusOK; refused != (rec.Header().Get("Cache-Control") == "no-store") {
		t.Errorf("Cache-Control %q", rec.Header().Get("Cache-Control"))
	}
	if (c.code == http.StatusServiceUnavailable) != (rec.Header().Get("Retry-After") == "1") {
		t.Errorf("Retry-After %q", rec.Header().Get("Retry-After"))
	}
	if c.code == http.StatusOK && rec.Body.String() != p.session.String() {
		t.Errorf("got %q", rec.Body.String())
	}
}

// A realm is quoted, whatever the audience is.
func TestMiddlewareRealm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, _ := w.ready(t, func(c *authverify.Config) { c.Audience = "a\"b\\c\r\nX: y\u00e9" })
	rec := httptest.NewRecorder()
	v.Middleware(http.NotFoundHandler()).ServeHTTP(rec, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", http.NoBody))
	if got := rec.Header().Get("WWW-Authenticate"); got != `Bearer realm="a\"b\\cX: y"` {
		t.Errorf("got %q", got)
	}
}
