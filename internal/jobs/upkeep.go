package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/address"
)

const (
	// NoticeCountLife is how long an account's count of notices is kept after the last of them: the day in which it can
	// bound the next one, and an hour for clocks that differ.
	NoticeCountLife = 25 * time.Hour
	// FailuresLife is how long failures in a row of a device or a session are kept: a thief who has one gets a hundred
	// guesses a year with it.
	FailuresLife = 365 * 24 * time.Hour
)

// Upkeep deletes rows that are of no more use.
type Upkeep struct {
	// Pool is the database.
	Pool *pgxpool.Pool
	// AuditRetention is how long audit events are kept.
	AuditRetention time.Duration
	// Now is the clock.
	Now func() time.Time
}

// A sweep deletes some rows and returns how many. It is repeated until it returns 0, so that one that deletes a batch
// keeps its locks short.
type sweep struct {
	name string
	some func(ctx context.Context) (int64, error)
}

// Sweep deletes what has expired or says nothing new, and lets accounts that other programs wrote be found by their
// addresses. A failure of one part does not keep the others from being swept; the error names each that failed.
func (u Upkeep) Sweep(ctx context.Context) error {
	var failed error
	for _, s := range u.sweeps(u.Now()) {
		if err := untilNone(ctx, s.some); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	return failed
}

// sweeps are the parts of a sweep: a feature with rows that expire adds its own.
func (u Upkeep) sweeps(now time.Time) []sweep {
	queries, pool := db.New(), u.Pool
	return []sweep{
		{"marks of sessions that have ended", func(ctx context.Context) (int64, error) {
			return queries.DeleteOldSessionMarks(ctx, pool, now)
		}},
		{"counted failures of clients that are gone", func(ctx context.Context) (int64, error) {
			return queries.DeleteOldFailures(ctx, pool, now.Add(-FailuresLife))
		}},
		{"expired one-time secrets", func(ctx context.Context) (int64, error) {
			return queries.DeleteExpiredSecrets(ctx, pool, now)
		}},
		{"old audit events", func(ctx context.Context) (int64, error) {
			return queries.DeleteAuditEventsBefore(ctx, pool, now.Add(-u.AuditRetention))
		}},
		{"rows of the ledger that say nothing new", func(ctx context.Context) (int64, error) {
			return queries.DeleteOldRevocations(ctx, pool)
		}},
		{"rows of the ledger for tokens of older backends", func(ctx context.Context) (int64, error) {
			return queries.DeleteOldCutoffs(ctx, pool)
		}},
		{"spent tokens of older backends that are refused for their age", func(ctx context.Context) (int64, error) {
			return queries.DeleteOldLegacySpent(ctx, pool, now)
		}},
		{"counts of notices", func(ctx context.Context) (int64, error) {
			return queries.DeleteMailNoticesBefore(ctx, pool, now.Add(-NoticeCountLife))
		}},
		{"accounts that other programs wrote", func(ctx context.Context) (int64, error) {
			_, err := address.Fill(ctx, pool) // to its end
			return 0, err
		}},
	}
}

func untilNone(ctx context.Context, deleteSome func(context.Context) (int64, error)) error {
	for {
		deleted, err := deleteSome(ctx)
		if err != nil || deleted == 0 {
			return err
		}
	}
}
