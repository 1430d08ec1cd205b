package authverify

import (
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
)

// Middleware lets requests pass to next whose header holds a good access token, as `Authorization: Bearer
// TOKEN` (RFC 6750, section 2.1; tokens in forms and URLs are not read), and puts its claims into the
// context, for ClaimsFrom. Others are answered as RFC 6750, section 3, has it: 401 with WWW-Authenticate, 400
// for more than one credential, and 503 while tokens cannot be checked.
func (v *Verifier) Middleware(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		values := r.Header.Values("Authorization")
		switch len(values) {
		case 0:
			v.challenge(w, http.StatusUnauthorized, "", "this needs an access token")
			return
		case 1:
		default:
			v.challenge(w, http.StatusBadRequest, "invalid_request", "more than one Authorization header")
			return
		}
		token, ok := bearer(values[0])
		if !ok { // another scheme: as if there were none
			v.challenge(w, http.StatusUnauthorized, "", "this needs an access token")
			return
		}
		found, err := v.check(r.Context(), token)
		if err != nil {
			v.cfg.Logger.DebugContext(r.Context(), "request refused", "error", err)
			v.refuse(w, err)
			return
		}
		next.ServeHTTP(w, r.WithContext(WithClaims(r.Context(), found.copyClaims())))
	})
}

func (v *Verifier) refuse(w http.ResponseWriter, err error) {
	code, _, message := refusal(err)
	if code == codes.Unavailable {
		w.Header().Set("Retry-After", strconv.Itoa(int(retryAfter.Seconds())))
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, message, http.StatusServiceUnavailable)
		return
	}
	v.challenge(w, http.StatusUnauthorized, "invalid_token", message)
}

// challenge answers with WWW-Authenticate. Without a credential in the request there is no error code (RFC
// 6750, section 3.1).
func (v *Verifier) challenge(w http.ResponseWriter, code int, errorCode, message string) {
	challenge := "Bearer realm=" + quoted(v.cfg.Audience)
	if errorCode != "" {
		challenge += ", error=" + quoted(errorCode) + ", error_description=" + quoted(message)
	}
	w.Header().Set("WWW-Authenticate", challenge)
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, message, code)
}

// quoted is text as a quoted-string of RFC 9110, section 5.6.4, without what it cannot hold.
func quoted(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		if r < ' ' || r > '~' {
			continue
		}
		if r == '"' || r == '\\' {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	b.WriteByte('"')
	return b.String()
}
