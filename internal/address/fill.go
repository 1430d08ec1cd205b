package address

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

const (
	// fillBatch is how many rows one statement changes, so that it holds locks only briefly.
	fillBatch = 1000
	// fillTries limits how often a statement is tried if a statement of another program is in its way.
	fillTries = 4
)

// Database is a pool, or a connection outside a transaction.
type Database interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// Fill sets users.email_lookup to the result of Lookup. First it clears values that are wrong (only of addresses that
// are not ASCII, because SQL computes the others). Then, for each address that no account holds, it gives the value to
// the oldest account. It returns how many accounts got a value. It does not change updated_at, and appends no
// revocation. If it fails, the changes so far remain. It can run at any time, also several times at once.
func Fill(ctx context.Context, on Database) (int64, error) {
	if err := release(ctx, on); err != nil {
		return 0, err
	}
	return fill(ctx, on)
}

func release(ctx context.Context, on Database) error {
	const read = `
		SELECT id, email, email_lookup FROM users
		WHERE octet_length(email) <> char_length(email) AND id > $1 AND email_lookup IS NOT NULL ORDER BY id LIMIT $2`
	const giveUp = `
		UPDATE users SET email_lookup = NULL FROM unnest($1::uuid[], $2::text[]) AS wrong (id, lookup)
		WHERE users.id = wrong.id AND users.email_lookup = wrong.lookup`
	var last uuid.UUID
	for {
		rows, err := on.Query(ctx, read, last, fillBatch)
		if err != nil {
			return err
		}
		var email, lookup string
		var ids []uuid.UUID
		var lookups []string
		tag, err := pgx.ForEachRow(rows, []any{&last, &email, &lookup}, func() error {
			if lookup != Lookup(email) {
				ids, lookups = append(ids, last), append(lookups, lookup)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(ids) > 0 {
			if _, err := repeatedly(ctx, on, giveUp, ids, lookups); err != nil {
				return err
			}
		}
		if tag.RowsAffected() < fillBatch {
			return nil
		}
	}
}

func fill(ctx context.Context, on Database) (total int64, err error) {
	const read = `
		SELECT created_at, id, email FROM users
		WHERE email_lookup IS NULL AND (created_at, id) > ($1, $2) ORDER BY created_at, id LIMIT $3`
	// The statement compares the address too, because its owner may change it at the same time.
	const give = `
		UPDATE users SET email_lookup = given.lookup FROM unnest($1::uuid[], $2::text[], $3::text[]) AS given (id, email, lookup)
		WHERE users.id = given.id AND users.email = given.email AND users.email_lookup IS NULL
			AND NOT EXISTS (SELECT FROM users holder WHERE holder.email_lookup = given.lookup)`
	at := pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	var last uuid.UUID
	for {
		rows, err := on.Query(ctx, read, at, last, fillBatch)
		if err != nil {
			return total, err
		}
		var email string
		var ids []uuid.UUID
		var emails, lookups []string
		older := map[string]bool{}
		tag, err := pgx.ForEachRow(rows, []any{&at, &last, &email}, func() error {
			if lookup := Lookup(email); !older[lookup] {
				older[lookup] = true
				ids, emails, lookups = append(ids, last), append(emails, email), append(lookups, lookup)
			}
			return nil
		})
		if err != nil {
			return total, err
		}
		given, err := repeatedly(ctx, on, give, ids, emails, lookups)
		total += given
		if err != nil || tag.RowsAffected() < fillBatch {
			return total, err
		}
	}
}

// repeatedly runs a statement again if somebody signed up with one of the addresses at that moment, or locked the same
// accounts in another order.
func repeatedly(ctx context.Context, on Database, statement string, args ...any) (int64, error) {
	for try := 1; ; try++ {
		tag, err := on.Exec(ctx, statement, args...)
		var pg *pgconn.PgError
		if err == nil || try == fillTries || !errors.As(err, &pg) || pg.Code != "23505" && pg.Code != "40P01" {
			return tag.RowsAffected(), err
		}
	}
}
