package backend

import (
	"context"
	"fmt"
	"time"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/legacy"
)

// issueMargin is how much later than a revocation a token of an older backend must have been issued to be good. Its "iat"
// is that backend's clock, in whole seconds, and the revocation has PostgreSQL's. Within the minute fit a clock that is
// ahead and a login that had read the password or the status from before: a token of such a login must stay refused.
const issueMargin = time.Minute

// positionOf returns the ledger's position that a token is worth: revocations of its account up to there are older than
// the token by more than issueMargin, so they do not refuse it; later ones do. It is 0, which all refuse, for a token that
// does not say when it was issued, and for one from the future: its backend's clock is ahead by more than the margin.
//
// So a token from before a revocation is never accepted while that clock is ahead by less than the margin, less the time
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
