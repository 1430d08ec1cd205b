package revoke

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
)

// What one account can make the service keep is bounded, whoever holds it, and whether or
// not addresses are counted: rows of the ledger stay for the life of a session, those of
// the audit trail for LATCHKEY_AUDIT_RETENTION. Each session leaves a row when it begins
// and two when it is ended, which must never be refused, so it is the beginning that is
// bounded (internal/login). A call that would end nothing adds nothing.
const (
	unknownScope = "RevokeUnknownSession"
	othersScope  = "RevokeOtherSessions of an account"
)

// unknownRate is for identifiers of which nobody knows whether they are of a session.
func unknownRate() ratelimit.Rate { return ratelimit.Rate{PerMinute: 10, Burst: 100} }

// othersRate is how often other sessions are ended without a look at whether there are any.
func othersRate() ratelimit.Rate { return ratelimit.Rate{PerMinute: 2, Burst: 10} }

// boundUnknown limits the rows for sessions that an account has never had: anybody can
// invent identifiers. Redis knows the sessions that there are. What it has lost, and all
// of them while it does not answer, are counted, and over the bound the audit trail is
// asked, so that a session which once began can always be ended. The exception are
// access tokens of an older backend, which leave no trace before they are ended.
func (r *Revoker) boundUnknown(ctx context.Context, userID, id uuid.UUID) error {
	err := r.cfg.Redis.Ask(ctx, func(ctx context.Context) error {
		_, err := r.cfg.Sessions.Get(ctx, userID, id)
		return err
	})
	if err == nil {
		return nil
	}
	limited := r.cfg.Redis.Allow(ctx, unknownScope, userID.String(), unknownRate())
	if limited == nil {
		return nil
	}
	switch began, err := r.cfg.Trail.KnowsSession(ctx, r.cfg.Pool, userID, id); {
	case err != nil:
		return err
	case began:
		return nil
	}
	return limited
}

// isLoop says whether an account has had its other sessions ended so often of late that
// there may be nothing left to end. Up to then each call makes a row: it also ends links
// for new passwords that were only asked for, of which the account knows nothing yet.
func (r *Revoker) isLoop(ctx context.Context, userID uuid.UUID) bool {
	return r.cfg.Redis.Allow(ctx, othersScope, userID.String(), othersRate()) != nil
}

// othersRevoked says whether the very last thing that happened to an account, which is
// locked, is that this session ended all others: then there is none to end. Whoever makes
// a session must lock the account and record it before anybody gets its tokens, as
// internal/login does. Then a session that was recorded before is ended by that row (it
// carries an earlier position), and one that is not recorded yet begins after this call.
func (r *Revoker) othersRevoked(ctx context.Context, tx pgx.Tx, by Authority) (bool, error) {
	kind, sessionID, err := r.cfg.Trail.Newest(ctx, tx, by.UserID)
	if err != nil {
		return false, err
	}
	return kind == audit.OthersRevoked && sessionID == by.SessionID, nil
}
