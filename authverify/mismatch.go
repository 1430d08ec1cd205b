package authverify

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// mismatchEvery is the time between two log lines about one claim: where a setting is
	// wrong, every token is refused for it.
	mismatchEvery = time.Minute
	// mismatchShown bounds what is logged of a claim.
	mismatchShown = 200
)

// mismatch refuses a genuine token of another issuer or for another audience. It is an
// ErrInvalid.
type mismatch struct {
	claim     string // "iss" or "aud"
	got, want string
}

// Error implements error. Like every ErrInvalid it quotes nothing of the token.
func (m *mismatch) Error() string {
	name := "issuer"
	if m.claim == "aud" {
		name = "audience"
	}
	return ErrInvalid.Error() + ": another " + name
}

// Unwrap makes it an ErrInvalid.
func (m *mismatch) Unwrap() error { return ErrInvalid }

// mismatches logs that the Verifier refuses tokens which the issuer's own keys have signed.
// The cause is a wrong setting most of the time, and the refused client cannot see it.
type mismatches struct {
	log *slog.Logger
	// The second of the last log line about each claim. Zero: there was none.
	iss, aud atomic.Int64
}

// tell logs m, unless there was a line about its claim within mismatchEvery.
func (t *mismatches) tell(m *mismatch, now time.Time) {
	last, field := &t.iss, "Config.Issuer"
	if m.claim == "aud" {
		last, field = &t.aud, "Config.Audience"
	}
	before := last.Load()
	since := now.Unix() - before
	if before != 0 && since >= 0 && since < int64(mismatchEvery/time.Second) || !last.CompareAndSwap(before, now.Unix()) {
		return
	}
	t.log.Warn("access tokens are refused that the issuer's keys have signed: is this field what Latchkey is set to?",
		"field", field, "claim", m.claim, "token_has", m.got, "config_has", m.want)
}

// shown is what may be logged of a claim.
func shown(values []string) string {
	text := strings.Join(values, " ")
	if len(text) > mismatchShown {
		text = strings.ToValidUTF8(text[:mismatchShown], "") + "…"
	}
	return text
}
