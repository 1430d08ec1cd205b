package revoke

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
)

// AppendUser records why and appends the row that ends all sessions of an account, whose row the caller has locked. It
// locks the ledger's head: it is the last statement of its transaction.
func (r *Revoker) AppendUser(ctx context.Context, tx pgx.Tx, kind audit.Kind, userID uuid.UUID) (Ended, error) {
	return r.appendUser(ctx, tx, kind, userID, uuid.Nil, uuid.Nil)
}

// appendUser is AppendUser for what the session acting has asked for; except goes on. uuid.Nil: none.
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

// AppendSession records why and appends the row that ends one session, in the transaction of another fact. Without such
// a fact use Session, whose rows share transactions.
func (r *Revoker) AppendSession(ctx context.Context, tx pgx.Tx, kind audit.Kind, userID, sessionID uuid.UUID) (Ended, error) {
	e := r.cfg.Trail.Event(ctx, kind, userID, sessionID)
	position, err := r.queries.AppendSessionRevocations(ctx, tx, db.AppendSessionRevocationsParams{
		SessionIds: []uuid.UUID{sessionID}, UserIds: []uuid.UUID{userID}, Kinds: []string{string(e.Kind)},
		Addresses: []string{e.Address}, TraceIds: []string{e.TraceID}, CallIds: []string{e.CallID}, Now: e.Time,
	})
	if err != nil {
		return Ended{}, fmt.Errorf("end the session: %w", err)
	}
	return Ended{Position: position}, nil
}

// Head returns what a change waits for that finds its fact there already: the newest row, at or past everything that is
// committed.
func (r *Revoker) Head(ctx context.Context, on db.DBTX) (Ended, error) {
	head, err := r.queries.LedgerHead(ctx, on)
	if err != nil {
		return Ended{}, fmt.Errorf("read the ledger's head: %w", err)
	}
	return Ended{Position: head}, nil
}

// AppendKeysChanged tells the replicas that signing keys have changed, which read them again, and that those in revoked
// sign nothing good any more. It returns the position of the last row. The head's lock comes last in the transaction.
func AppendKeysChanged(ctx context.Context, tx pgx.Tx, revoked []string) (int64, error) {
	queries := db.New()
	for _, id := range revoked {
		if _, err := queries.AppendKeyRevocation(ctx, tx, id); err != nil {
			return 0, err
		}
	}
	return queries.AppendKeysChanged(ctx, tx)
}
