// Package revoke ends sessions. Only this package appends rows to the ledger. Each of its flows does the same steps in
// the same order: it appends the row and its audit event in the transaction of the fact, deletes the ended sessions
// from Redis, and returns nil when the row is final, so that no replica accepts a token that the row refuses.
package revoke

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/session"
)

const (
	// changeTime limits a change that revokes, which continues even if its caller is gone.
	changeTime = 10 * time.Second
	// finalTime limits the wait until a row is final. The longest lease ends before it.
	finalTime = ledger.MaxLease + 10*time.Second
)

// Config has the settings of a Revoker. All fields are required.
type Config struct {
	Pool     *pgxpool.Pool
	Ledger   *ledger.Ledger
	Sessions *session.Store
	Trail    *audit.Trail
	Redis    *besteffort.Redis
	Logger   *slog.Logger
}

// Revoker ends sessions. Use New.
type Revoker struct {
	cfg     Config
	queries *db.Queries
}

// New returns a Revoker.
func New(cfg Config) *Revoker { return &Revoker{cfg: cfg, queries: db.New()} }

// Ended says which sessions a transaction has ended.
type Ended struct {
	// UserID is the account whose sessions were ended, except the session Except. They are removed from the account's
	// list. uuid.Nil: no account's, and the call only waits for rows of others.
	UserID, Except uuid.UUID
	// Deleted means that the account is gone: nothing of its sessions is kept.
	Deleted bool
	// Position is the position of the row. If the fact was there already it is the ledger's head, because the call that
	// made the fact may still be waiting. 0: nothing was appended.
	Position int64
}

// InTx makes a change that appends to the ledger, in one transaction, and returns its result when the row is final.
//
// It continues if the caller hangs up or its deadline passes, because a revocation that is half done helps nobody. Then
// the caller's error says that the outcome is not known.
func InTx[T any](ctx context.Context, r *Revoker, change func(ctx context.Context, tx pgx.Tx) (T, Ended, error)) (T, error) {
	type outcome struct {
		result T
		ended  Ended
	}
	done, err := detached(ctx, func(ctx context.Context) (outcome, error) {
		var o outcome
		working, cancel := context.WithTimeout(ctx, changeTime)
		err := postgres.InTx(working, r.cfg.Pool, func(tx pgx.Tx) error {
			var err error
			o.result, o.ended, err = change(working, tx)
			return err
		})
		cancel()
		if err != nil {
			return o, err
		}
		return o, r.waitFinal(ctx, o.ended.Position)
	})
	switch {
	case err != nil || done.ended.UserID == uuid.Nil:
	case done.ended.Deleted:
		r.cfg.Redis.Tidy(ctx, func(ctx context.Context) { r.forget(ctx, done.ended.UserID) })()
	default:
		r.cfg.Redis.Tidy(ctx, func(ctx context.Context) { r.unlist(ctx, done.ended) })()
	}
	return done.result, err
}

// Session ends one session: first in the ledger, which decides, then in Redis.
func (r *Revoker) Session(ctx context.Context, kind audit.Kind, userID, sessionID uuid.UUID) error {
	e := r.cfg.Trail.Event(ctx, kind, userID, sessionID)
	_, err := detached(ctx, func(ctx context.Context) (struct{}, error) {
		var none struct{}
		position, err := r.cfg.Ledger.Append(ctx, ledger.SessionEnd{
			SessionID: sessionID, UserID: userID,
			Time: e.Time, Kind: string(e.Kind), Address: e.Address, TraceID: e.TraceID, CallID: e.CallID, Actor: e.Actor,
		})
		if err != nil {
			return none, fmt.Errorf("end the session: %w", err)
		}
		deleted := r.cfg.Redis.Tidy(ctx, func(ctx context.Context) { r.delete(ctx, userID, sessionID) })
		err = r.waitFinal(ctx, position)
		deleted()
		return none, err
	})
	return err
}

// SessionOnce ends a session unless it was ended before, and returns when the end is final. ended is true if this call
// ended it. A spent token can be shown any number of times and must leave only one row.
func (r *Revoker) SessionOnce(ctx context.Context, kind audit.Kind, userID, sessionID uuid.UUID) (ended bool, err error) {
	known, err := r.queries.SessionOfUserRevoked(ctx, r.cfg.Pool, db.SessionOfUserRevokedParams{SessionID: sessionID, UserID: userID})
	if err != nil {
		return false, fmt.Errorf("look the session up: %w", err)
	}
	if known.Revoked {
		return false, r.WaitFinal(ctx, known.Position)
	}
	return true, r.Session(ctx, kind, userID, sessionID)
}

// OwnSession ends a session of the account of by, which may have no session with that id. It does not ask Redis whether
// the session exists, nor whose it is: Redis may have lost it, or may have been restored from an older copy. The row
// names the account, and refuses only tokens with both ids.
func (r *Revoker) OwnSession(ctx context.Context, by Authority, sessionID uuid.UUID) error {
	known, err := r.queries.SessionOfUserRevoked(ctx, r.cfg.Pool, db.SessionOfUserRevokedParams{SessionID: sessionID, UserID: by.UserID})
	if err != nil {
		return fmt.Errorf("look the session up: %w", err)
	}
	if known.Revoked {
		// Another call ended it, and may still be waiting.
		r.DropSession(ctx, by.UserID, sessionID)
		return r.WaitFinal(ctx, known.Position)
	}
	if err := r.boundUnknown(ctx, by.UserID, sessionID); err != nil {
		return err
	}
	return r.Session(ctx, audit.SessionRevoked, by.UserID, sessionID)
}

// User ends all sessions of an account for an operator. Every call appends a row, which also ends the sessions that
// started after the last one. It refuses an id that no account has.
func (r *Revoker) User(ctx context.Context, userID uuid.UUID) error {
	_, err := InTx(ctx, r, func(ctx context.Context, tx pgx.Tx) (struct{}, Ended, error) {
		var none struct{}
		switch _, err := r.queries.LockUser(ctx, tx, userID); {
		case errors.Is(err, pgx.ErrNoRows):
			return none, Ended{}, refusal.AccountNotFound()
		case err != nil:
			return none, Ended{}, fmt.Errorf("lock the account: %w", err)
		}
		ended, err := r.AppendUser(ctx, tx, audit.UserSessionsRevoked, userID)
		return none, ended, err
	})
	return err
}

// All ends all sessions of all accounts. Its event names no account.
func (r *Revoker) All(ctx context.Context) error {
	_, err := InTx(ctx, r, func(ctx context.Context, tx pgx.Tx) (struct{}, Ended, error) {
		var none struct{}
		if err := r.cfg.Trail.Record(ctx, tx, audit.AllSessionsRevoked, uuid.Nil, uuid.Nil); err != nil {
			return none, Ended{}, fmt.Errorf("record the revocation: %w", err)
		}
		position, err := r.queries.AppendAllRevocation(ctx, tx)
		if err != nil {
			return none, Ended{}, fmt.Errorf("end all sessions: %w", err)
		}
		return none, Ended{Position: position}, nil
	})
	return err
}

// DropSession deletes a session from Redis, after the ledger or a failed login has ended it. That only saves room. It
// does not keep the session ended, so a failure is only logged.
func (r *Revoker) DropSession(ctx context.Context, userID, sessionID uuid.UUID) {
	r.cfg.Redis.Tidy(ctx, func(ctx context.Context) { r.delete(ctx, userID, sessionID) })()
}

func (r *Revoker) delete(ctx context.Context, userID, sessionID uuid.UUID) {
	if err := r.cfg.Sessions.Delete(ctx, userID, sessionID); err != nil {
		r.cfg.Logger.WarnContext(ctx, "session not deleted, it will expire", "session_id", sessionID, "error", err)
	}
}

// unlist removes the sessions that the row at a position has ended from the account's list, but not those of later
// logins. The ledger keeps them ended and hidden, so a failure is only logged: until they expire they may push a
// session over the limit too early.
func (r *Revoker) unlist(ctx context.Context, ended Ended) {
	if err := r.cfg.Sessions.ClearIndex(ctx, ended.UserID, ended.Except, ended.Position); err != nil {
		r.cfg.Logger.WarnContext(ctx, "ended sessions stay in the index until they expire", "user_id", ended.UserID, "error", err)
	}
}

// forget deletes the sessions of a deleted account: they have names of devices and network addresses. The ledger keeps
// them ended, so a failure is only logged.
func (r *Revoker) forget(ctx context.Context, userID uuid.UUID) {
	if err := r.cfg.Sessions.DeleteAll(ctx, userID); err != nil {
		r.cfg.Logger.WarnContext(ctx, "sessions of a deleted account stay in Redis until they expire", "user_id", userID, "error", err)
	}
}
