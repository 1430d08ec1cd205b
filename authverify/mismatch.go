package authverify

import (
	"log/slog"
	"strings"
	"sync/atomic"
	"time"
)

const (
	// mismatchEvery is how often a wrong party is told of: each token of a service that
	// is set up for another issuer meets it.
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

// mismatches tells an operator that tokens signed by the issuer's own keys are refused,
// which is most often a setting: whoever is refused cannot see why.
type mismatches struct {
	log *slog.Logger
	// last is the second in which a claim was told of last, zero: never.
	iss, aud atomic.Int64
}

// tell logs m unless its claim was told of within mismatchEvery.
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
