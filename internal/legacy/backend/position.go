package backend

import (
	"context"
	"fmt"
	"time"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/legacy"
)

// issueMargin is how much later than a revocation a token of an older backend must have been issued to be accepted. Its
// "iat" is from that backend's clock, in whole seconds; the time of the revocation is from PostgreSQL's. The minute
// covers a clock that is ahead, and a login that read the password or the status before the revocation: a token of such
// a login must stay refused.
const issueMargin = time.Minute

// positionOf returns the position of the ledger that a token gets. Revocations of its account up to that position are
// older than the token by more than issueMargin, so they do not refuse it; later ones do. The position is 0, which
// every revocation refuses, for a token without a time of issue, and for one from the future: the clock of its backend
// is ahead by more than the margin.
//
// So a token from before a revocation is never accepted, if that clock is ahead by less than the margin minus the time
// that a login takes there.
func positionOf(ctx context.Context, on db.DBTX, found *legacy.Token) (int64, error) {
	if found.IssuedAt.IsZero() {
		return 0, nil
	}
	read, err := db.New().PositionOfOlderToken(ctx, on, db.PositionOfOlderTokenParams{
		UserID: found.UserID, SurelyLaterThan: found.IssuedAt.Add(-issueMargin),
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("ask what was revoked since a token was issued: %w", err)
	case found.IssuedAt.After(read.DatabaseTime.Add(issueMargin)):
		return 0, nil
	}
	return read.Position, nil
}
