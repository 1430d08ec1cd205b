package takeover

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// settleBatch rows are filled in one transaction, as the migration does.
const settleBatch = 1000

// ErrNoAccount reports that there is no account with the id.
var ErrNoAccount = errors.New("there is no such account")

// Hold lets an account hold the address that it shares with others, in one
// transaction, and says whether that changed anything. The accounts stay as they are
// otherwise: updated_at too, and no revocation is appended. The migrations must have
// run.
func Hold(ctx context.Context, conn *pgx.Conn, id uuid.UUID) (changed bool, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		// By id, like anybody else who locks several: no two wait for each other.
		rows, err := tx.Query(ctx, `
			WITH mine AS (SELECT latchkey_email_lookup(email) AS lookup FROM users WHERE id = $1)
			SELECT u.id, u.email_lookup IS NOT DISTINCT FROM mine.lookup FROM users u, mine
			WHERE u.id = $1 OR u.email_lookup = mine.lookup ORDER BY u.id FOR UPDATE OF u`, id)
		if err != nil {
			return err
		}
		var found, holds bool
		var other uuid.UUID
		var otherHolds bool
		_, err = pgx.ForEachRow(rows, []any{&other, &otherHolds}, func() error {
			if other == id {
				found, holds = true, otherHolds
			}
			return nil
		})
		if err != nil || holds {
			return err
		}
		if !found {
			return fmt.Errorf("%s: %w", id, ErrNoAccount)
		}
		changed = true
		const release = `
			UPDATE users SET email_lookup = NULL
			WHERE email_lookup = (SELECT latchkey_email_lookup(email) FROM users WHERE id = $1)`
		if _, err := tx.Exec(ctx, release, id); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE users SET email_lookup = latchkey_email_lookup(email) WHERE id = $1", id)
		return err
	})
	return changed && err == nil, err
}

// Settle lets the oldest account hold each address that nobody holds, and returns how
// many it gave away. The migration has done so for what was there; this is for what it
// could not see: a holder that was deleted, rows that were written past the triggers.
func Settle(ctx context.Context, conn *pgx.Conn) (int64, error) {
	const fill = `
		WITH nobodys AS (
			SELECT DISTINCT ON (lookup) id, lookup
			FROM (SELECT id, created_at, latchkey_email_lookup(email) AS lookup FROM users WHERE email_lookup IS NULL) AS without
			WHERE NOT EXISTS (SELECT FROM users holder WHERE holder.email_lookup = lookup)
			ORDER BY lookup, created_at, id LIMIT $1
		)
		UPDATE users SET email_lookup = nobodys.lookup FROM nobodys WHERE users.id = nobodys.id AND users.email_lookup IS NULL`
	var total int64
	for raced := 0; ; {
		tag, err := conn.Exec(ctx, fill, settleBatch)
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == "23505" && raced < 3 {
			raced++ // somebody signed up with one of them just now
			continue
		}
		total += tag.RowsAffected()
		if err != nil || tag.RowsAffected() == 0 {
			return total, err
		}
	}
}
