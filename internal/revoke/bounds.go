package revoke

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
)

// The rows that one account can make the service store are limited, even if addresses are not counted and a thief has
// the account. Rows of the ledger stay for the life of a session, audit events for LATCHKEY_AUDIT_RETENTION. A session
// makes one row when it starts and two when it is ended. Its end must never be refused, so its start is limited
// (internal/login). A call that would end nothing adds nothing.
const (
	unknownScope = "RevokeUnknownSession"
	othersScope  = "RevokeOtherSessions of an account"
)

// unknownRate limits calls for ids of which nobody knows whether a session has them.
func unknownRate() ratelimit.Rate { return ratelimit.Rate{PerMinute: 10, Burst: 100} }

// othersRate is how often other sessions are ended without a check whether there are any.
func othersRate() ratelimit.Rate { return ratelimit.Rate{PerMinute: 2, Burst: 10} }

// boundUnknown limits the rows for sessions that the account has never had: anybody can invent ids. Redis knows the
// sessions that exist. Calls for other ids are counted, and all calls while Redis does not answer. Over the limit the
// audit trail is asked, so that a session that once started can always be ended. Access tokens of an older backend are
// an exception: they leave no trace before they are ended.
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

// isLoop returns whether the other sessions of an account were ended so often lately that there may be nothing left to
// end. Up to then each call adds a row. That row also ends reset links that were asked for but not sent yet, which the
// account's row does not show.
func (r *Revoker) isLoop(ctx context.Context, userID uuid.UUID) bool {
	return r.cfg.Redis.Allow(ctx, othersScope, userID.String(), othersRate()) != nil
}

// othersRevoked returns whether the last event of an account, which is locked, is that this session ended all others.
// Then there is none to end. This needs one rule: code that starts a session must lock the account and record the event
// before anybody gets its tokens, as internal/login does. Then a session that was recorded before is ended by that row
// (its position is lower), and one that is not recorded yet starts after this call.
func (r *Revoker) othersRevoked(ctx context.Context, tx pgx.Tx, by Authority) (bool, error) {
	kind, sessionID, err := r.cfg.Trail.Newest(ctx, tx, by.UserID)
	if err != nil {
		return false, err
	}
	return kind == audit.OthersRevoked && sessionID == by.SessionID, nil
}
