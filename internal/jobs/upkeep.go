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
	// NoticeCountLife is how long an account's count of notices is kept after the last notice: a day, in which it can
	// limit the next one, and an hour because clocks differ.
	NoticeCountLife = 25 * time.Hour
	// FarewellLife is how long the address of a deleted account is kept if its last mail cannot be sent: it is tried for a
	// day and half an hour.
	FarewellLife = 26 * time.Hour
	// FailuresLife is how long the failures in a row of a device or a session are kept. A thief who has one can make a
	// hundred guesses a year with it.
	FailuresLife = 365 * 24 * time.Hour
)

// Upkeep deletes rows that nothing needs any more.
type Upkeep struct {
	// Pool is the database.
	Pool *pgxpool.Pool
	// AuditRetention is how long audit events are kept.
	AuditRetention time.Duration
	// Now is the clock.
	Now func() time.Time
}

// sweep deletes some rows and returns how many. It is called until it returns 0, so it can delete in batches and hold
// its locks only briefly.
type sweep struct {
	name string
	some func(ctx context.Context) (int64, error)
}

// Sweep deletes rows that have expired or say nothing new, and fills in the lookup addresses of accounts that other
// programs wrote. If one part fails, the others still run, and the error names each part that failed.
func (u Upkeep) Sweep(ctx context.Context) error {
	var failed error
	for _, s := range u.sweeps(u.Now()) {
		if err := untilNone(ctx, s.some); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	return failed
}

// sweeps returns the parts of a sweep. A feature with rows that expire adds its own.
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
		{"expired challenges", func(ctx context.Context) (int64, error) {
			return queries.DeleteExpiredChallenges(ctx, pool, now)
		}},
		{"seeds that were not confirmed", func(ctx context.Context) (int64, error) {
			return queries.DeleteExpiredEnrolments(ctx, pool, now)
		}},
		{"counted failures of second factors", func(ctx context.Context) (int64, error) {
			return queries.DeleteOldFactorFailures(ctx, pool, now.Add(-FailuresLife))
		}},
		{"old audit events", func(ctx context.Context) (int64, error) {
			return queries.DeleteAuditEventsBefore(ctx, pool, now.Add(-u.AuditRetention))
		}},
		{"addresses in events of deleted accounts", func(ctx context.Context) (int64, error) {
			return queries.EraseAddresses(ctx, pool)
		}},
		{"addresses of last mails that were given up", func(ctx context.Context) (int64, error) {
			return queries.DeleteOldFarewells(ctx, pool, now.Add(-FarewellLife))
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
			_, err := address.Fill(ctx, pool) // until all are filled in
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
