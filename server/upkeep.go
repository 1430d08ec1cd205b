package server

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/login"
)

// Upkeep deletes rows that have no more use.
type Upkeep struct {
	// Pool is the database.
	Pool *pgxpool.Pool
	// AuditRetention is how long audit events are kept.
	AuditRetention time.Duration
	// Now is the clock.
	Now func() time.Time
}

// Sweep deletes marks of sessions that have ended, expired reset tokens, old audit events, rows of the ledger that say
// nothing new, spent tokens of an existing backend that are refused for their age, and
// counts of notices and of failures by clients that are gone; and it lets accounts that others wrote be found by their addresses.
func (u Upkeep) Sweep(ctx context.Context) error {
	queries, now := db.New(), u.Now()
	_, resets := queries.DeleteExpiredPasswordResets(ctx, u.Pool, now)
	events := inBatches(func() (int64, error) {
		return queries.DeleteAuditEventsBefore(ctx, u.Pool, now.Add(-u.AuditRetention))
	})
	rows := inBatches(func() (int64, error) { return queries.DeleteOldRevocations(ctx, u.Pool) })
	cutoffs := inBatches(func() (int64, error) { return queries.DeleteOldCutoffs(ctx, u.Pool) })
	spent := inBatches(func() (int64, error) { return queries.DeleteOldLegacySpent(ctx, u.Pool, now) })
	_, notices := queries.DeleteMailNoticesBefore(ctx, u.Pool, now.Add(-account.NoticeCountLife))
	_, lookups := address.Fill(ctx, u.Pool)
	marks := inBatches(func() (int64, error) { return queries.DeleteOldSessionMarks(ctx, u.Pool, now) })
	_, failures := queries.DeleteOldFailures(ctx, u.Pool, now.Add(-login.FailuresLife))
	return errors.Join(marks, failures, resets, events, rows, cutoffs, spent, notices, lookups)
}

// inBatches repeats a deletion until it finds nothing more.
func inBatches(deleteSome func() (int64, error)) error {
	for {
		deleted, err := deleteSome()
		if err != nil || deleted == 0 {
			return err
		}
	}
}
