package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// A browser keeps its refresh token in a cookie that no script can read (RFC 6265). The cookie is bound to the browser
// by a second one: a page of a sub-domain can set the first for the whole domain, and so log a visitor in to another
// account, but no page of another host can set or read a cookie with the prefix __Host-.
const (
	refreshCookie = "__Secure-latchkey_refresh"
	refreshPath   = "/latchkey.v1.AuthService/"
	browserCookie = "__Host-latchkey_browser"
	// browserBytes is the length of the random value of the second cookie.
	browserBytes = 16
	// browserAge is how long the second cookie lives: the most that Chromium keeps, 400 days.
	browserAge = 400 * 24 * time.Hour
	// noToken stands in for the refresh token of a browser without one, so that the call is counted, logged and refused
	// like one with a wrong token.
	noToken = "none"
	// pagesHeader marks the calls of Latchkey's own pages. Scripts of other origins may not send it.
	pagesHeader = "latchkey-pages"
)

// cookieJar has the cookies of a call that may use them.
type cookieJar struct {
	browser string   // the value of the second cookie, or "" if the browser has none
	refresh []string // the values of the first: a sub-domain may have added some
}

// jarKey is the key of the *cookieJar in the context of a request.
type jarKey struct{}

// withJar adds the cookies to the context of a request that may use them. A request of another site never may, although
// browsers send it: it lacks the header, which a form cannot set and a script only after a preflight, or its origin is
// not allowed.
func (s *Server) withJar(r *http.Request, allowedOrigin func(string) bool) *http.Request {
	origins := r.Header.Values("Origin")
	if len(origins) != 1 || r.Header.Get("Connect-Protocol-Version") == "" && r.Header.Get("X-Grpc-Web") == "" {
		return r
	}
	own := isOwnOrigin(r, origins[0])
	switch {
	case s.cfg.WebCookies && (own || allowedOrigin(origins[0])):
	case s.cfg.OwnPages && own && r.Header.Get(pagesHeader) != "":
	default:
		return r
	}
	jar := &cookieJar{}
	// With two of these somebody else's software is at work: then the refresh token fits neither.
	if found := r.CookiesNamed(browserCookie); len(found) == 1 {
		jar.browser = found[0].Value
	}
	for _, found := range r.CookiesNamed(refreshCookie) {
		jar.refresh = append(jar.refresh, found.Value)
	}
	return r.WithContext(context.WithValue(r.Context(), jarKey{}, jar))
}

// isOwnOrigin reports whether a page of this service sent the request. Browsers say so themselves (Fetch Metadata), also
// when a proxy has changed the host. Older ones send only the origin.
func isOwnOrigin(r *http.Request, origin string) bool {
	if site := r.Header.Values("Sec-Fetch-Site"); len(site) > 0 {
		return len(site) == 1 && site[0] == "same-origin"
	}
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// cookies is the interceptor of unary calls over HTTP. It puts a browser's refresh token into the request, and takes the
// next one out of the answer.
func (s *Server) cookies(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	jar, ok := ctx.Value(jarKey{}).(*cookieJar)
	if !ok {
		return s.aroundUnary(ctx, req, info, handler)
	}
	ends := false // an answer without tokens leaves nothing to keep
	switch req := req.(type) {
	case *latchkeyv1.RefreshTokenRequest:
		ends = jar.fill(&req.RefreshToken)
	case *latchkeyv1.LogoutRequest:
		ends = jar.fill(&req.RefreshToken)
	}
	resp, err := s.aroundUnary(ctx, req, info, handler)
	if err != nil {
		if ends && hasEnded(err) {
			setCookies(ctx, forgotten())
		}
		return nil, err
	}
	if with, ok := resp.(interface{ GetTokens() *latchkeyv1.Tokens }); ok && with.GetTokens().GetRefreshToken() != "" {
		setCookies(ctx, jar.keep(with.GetTokens(), s.cfg.Now())...)
	} else if ends {
		setCookies(ctx, forgotten())
	}
	return resp, nil
}

// hasEnded reports whether a call was refused because its session has ended. A token that is only wrong says nothing: a
// tab that comes late shows the one before, while the browser already has the next one, which must stay.
func hasEnded(err error) bool {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason() == "SESSION_ENDED" || info.GetReason() == "REFRESH_TOKEN_REUSED"
		}
	}
	return false
}

// fill sets an empty refresh token to the one of the cookie, and reports whether it was empty.
func (j *cookieJar) fill(token *string) bool {
	if *token != "" {
		return false
	}
	*token = noToken
	for _, value := range j.refresh {
		at := strings.LastIndexByte(value, '.')
		if at > 0 && j.browser != "" && subtle.ConstantTimeCompare([]byte(value[at+1:]), []byte(bindingTo(j.browser))) == 1 {
			*token = value[:at]
		}
	}
	return true
}

// keep takes the refresh token out of an answer and returns the cookies that hold it.
func (j *cookieJar) keep(tokens *latchkeyv1.Tokens, now time.Time) []*http.Cookie {
	if raw, err := base64.RawURLEncoding.DecodeString(j.browser); err != nil || len(raw) != browserBytes {
		random := make([]byte, browserBytes)
		_, _ = rand.Read(random) // never fails: it ends the program instead
		j.browser = base64.RawURLEncoding.EncodeToString(random)
	}
	refresh := refreshCookieOf(tokens.GetRefreshToken()+"."+bindingTo(j.browser), max(tokens.GetRefreshExpireTime().AsTime().Sub(now), time.Second))
	tokens.RefreshToken = ""
	return []*http.Cookie{refresh, {
		Name: browserCookie, Value: j.browser, Path: "/", MaxAge: int(browserAge.Seconds()), HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode,
	}}
}

// bindingTo is the part of the first cookie that only the browser with that second cookie can have.
func bindingTo(browser string) string {
	sum := sha256.Sum256([]byte("latchkey browser " + browser))
	return base64.RawURLEncoding.EncodeToString(sum[:browserBytes])
}

// forgotten is the cookie that takes the refresh token from the browser.
func forgotten() *http.Cookie { return refreshCookieOf("", -time.Second) }

func refreshCookieOf(value string, life time.Duration) *http.Cookie {
	return &http.Cookie{
		Name: refreshCookie, Value: value, Path: refreshPath, MaxAge: int(life.Seconds()), HttpOnly: true, Secure: true, SameSite: http.SameSiteStrictMode,
	}
}

func setCookies(ctx context.Context, cookies ...*http.Cookie) {
	for _, c := range cookies {
		_ = grpc.SetHeader(ctx, metadata.Pairs("set-cookie", c.String())) // fails only outside a call
	}
}
