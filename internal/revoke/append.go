package revoke

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// AppendUser records the event and appends the row that ends all sessions of an account. The caller has locked the
// account. AppendUser locks the ledger's head, so it must be the last statement of its transaction.
func (r *Revoker) AppendUser(ctx context.Context, tx pgx.Tx, kind audit.Kind, userID uuid.UUID) (Ended, error) {
	return r.appendUser(ctx, tx, kind, userID, uuid.Nil, uuid.Nil)
}

// AppendUserFor is AppendUser on behalf of the session acting, which the row ends too. It refuses a session that was ended
// since the account was locked: the end of one session waits only for the ledger's head, and not for the account.
// uuid.Nil: no session acts.
func (r *Revoker) AppendUserFor(ctx context.Context, tx pgx.Tx, kind audit.Kind, userID, acting uuid.UUID) (Ended, error) {
	ended, err := r.appendUser(ctx, tx, kind, userID, acting, uuid.Nil)
	if err != nil || acting == uuid.Nil {
		return ended, err
	}
	known, err := r.queries.SessionOfUserRevoked(ctx, tx, db.SessionOfUserRevokedParams{SessionID: acting, UserID: userID})
	if err != nil {
		return Ended{}, fmt.Errorf("look the session up: %w", err)
	}
	if known.Revoked {
		return Ended{}, refusal.SessionEnded()
	}
	return ended, nil
}

// appendUser is AppendUser on behalf of the session acting, and spares the session except. uuid.Nil: no such session.
func (r *Revoker) appendUser(ctx context.Context, tx pgx.Tx, kind audit.Kind, userID, acting, except uuid.UUID) (Ended, error) {
	if err := r.cfg.Trail.Record(ctx, tx, kind, userID, acting); err != nil {
		return Ended{}, fmt.Errorf("record the end of the sessions: %w", err)
	}
	position, err := r.queries.AppendUserRevocation(ctx, tx, db.AppendUserRevocationParams{
		UserID: userID, ExceptSessionID: uuid.NullUUID{UUID: except, Valid: except != uuid.Nil},
	})
	if err != nil {
		return Ended{}, fmt.Errorf("end the sessions: %w", err)
	}
	return Ended{UserID: userID, Except: except, Position: position}, nil
}

// AppendSession records the event and appends the row that ends one session, in the transaction of another fact.
// Without such a fact use Session, which shares transactions with other calls.
func (r *Revoker) AppendSession(ctx context.Context, tx pgx.Tx, kind audit.Kind, userID, sessionID uuid.UUID) (Ended, error) {
	e := r.cfg.Trail.Event(ctx, kind, userID, sessionID)
	position, err := r.queries.AppendSessionRevocations(ctx, tx, db.AppendSessionRevocationsParams{
		SessionIds: []uuid.UUID{sessionID}, UserIds: []uuid.UUID{userID}, Kinds: []string{string(e.Kind)},
		Addresses: []string{e.Address}, TraceIds: []string{e.TraceID}, CallIds: []string{e.CallID}, Actors: []string{e.Actor}, Now: e.Time,
	})
	if err != nil {
		return Ended{}, fmt.Errorf("end the session: %w", err)
	}
	return Ended{Position: position}, nil
}

// Head returns the row that a change waits for if its fact is there already: the newest, which is at or past everything
// that is committed.
func (r *Revoker) Head(ctx context.Context, on db.DBTX) (Ended, error) {
	head, err := r.queries.LedgerHead(ctx, on)
	if err != nil {
		return Ended{}, fmt.Errorf("read the ledger's head: %w", err)
	}
	return Ended{Position: head}, nil
}

// AppendKeysChanged makes the replicas read the signing keys again, and refuse all tokens of the keys in revoked. It
// returns the position of the last row. It takes the lock of the head, so it must come last in the transaction.
func AppendKeysChanged(ctx context.Context, tx pgx.Tx, revoked []string) (int64, error) {
	queries := db.New()
	for _, id := range revoked {
		if _, err := queries.AppendKeyRevocation(ctx, tx, id); err != nil {
			return 0, err
		}
	}
	return queries.AppendKeysChanged(ctx, tx)
}
