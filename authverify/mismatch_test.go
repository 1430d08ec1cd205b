package authverify_test

import (
	"bytes"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/authverify"
)

// logBuffer is a log that may be read meanwhile.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) count(part string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.text.String(), part)
}

// TestMismatchIsTold: a Verifier that is set up for another issuer or audience says so, with both values,
// once a minute. It logs nothing about a token whose signature is wrong.
func TestMismatchIsTold(t *testing.T) {
	t.Parallel()
	for claim, c := range map[string]struct {
		value any
		field string
		told  string
	}{
		"iss": {"http://127.0.0.1:8080", "Config.Issuer", `token_has=http://127.0.0.1:8080 config_has=` + issuer},
		"aud": {[]string{"billing", "reports"}, "Config.Audience", `token_has="billing reports" config_has=` + audience},
	} {
		t.Run(claim, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var log logBuffer
			v, _ := w.ready(t, func(c *authverify.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
			claims := w.claims(newPerson(t))
			wantVerdict(t, v, w.sign(t, "k1", nil, claims), nil)
			maps.Copy(claims, map[string]any{claim: c.value})
			token := w.sign(t, "k1", nil, claims)
			wantVerdict(t, v, token[:len(token)-8]+"AAAAAAAA", authverify.ErrInvalid)
			if n := log.count(c.field); n != 0 {
				t.Errorf("%d lines about tokens that are good or forged", n)
			}
			for range 5 {
				wantVerdict(t, v, token, authverify.ErrInvalid)
			}
			if log.count(c.field) != 1 || log.count(c.told) != 1 {
				t.Errorf("the log has:\n%s", log.text.String())
			}
			w.advance(time.Minute)
			wantVerdict(t, v, token, authverify.ErrInvalid)
			if n := log.count(c.field); n != 2 {
				t.Errorf("after a minute: %d lines", n)
			}
		})
	}
}

// TestMismatchIsBounded: a claim may be as long as its token.
func TestMismatchIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var log logBuffer
	v, _ := w.ready(t, func(c *authverify.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	claims := w.claims(newPerson(t))
	claims["aud"] = strings.Repeat("é", 800)
	wantVerdict(t, v, w.sign(t, "k1", nil, claims), authverify.ErrInvalid)
	if n := log.count("é"); n != 100 {
		t.Errorf("%d characters of the claim are in the log", n)
	}
}
