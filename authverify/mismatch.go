package authverify

import (
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
)

// mismatchEvery is the time between two log lines about one claim: where a setting is wrong, every token is
// refused for it.
const mismatchEvery = time.Minute

// mismatches logs that the Verifier refuses tokens which the issuer's own keys have signed. The cause is a
// wrong setting most of the time, and the refused client cannot see it.
type mismatches struct {
	log *slog.Logger
	// The second of the last log line about each claim. Zero: there was none.
	iss, aud atomic.Int64
}

// tell logs m, unless there was a line about its claim within mismatchEvery.
func (t *mismatches) tell(m *accesstoken.MismatchError, now time.Time) {
	last, field := &t.iss, "Config.Issuer"
	if m.Claim == "aud" {
		last, field = &t.aud, "Config.Audience"
	}
	before := last.Load()
	since := now.Unix() - before
	if before != 0 && since >= 0 && since < int64(mismatchEvery/time.Second) || !last.CompareAndSwap(before, now.Unix()) {
		return
	}
	t.log.Warn("access tokens are refused that the issuer's keys have signed: is this field what Latchkey is set to?",
		"field", field, "claim", m.Claim, "token_has", m.Got, "config_has", m.Want)
}
