package takeover

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/address"
)

// ErrNoAccount reports that there is no account with the id.
var ErrNoAccount = errors.New("there is no such account")

// Hold lets an account hold the address that it shares with others, in one transaction, and reports whether that
// changed anything. Nothing else of the accounts changes, not even updated_at, and no revocation is appended. The
// migrations must have run.
func Hold(ctx context.Context, conn *pgx.Conn, id uuid.UUID) (changed bool, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var email string
		err := tx.QueryRow(ctx, "SELECT email FROM users WHERE id = $1", id).Scan(&email)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%s: %w", id, ErrNoAccount)
		}
		if err != nil {
			return err
		}
		lookup := address.Lookup(email)
		// In the order of ids, as everywhere that locks several accounts: so no two wait for each other.
		rows, err := tx.Query(ctx, `
			SELECT id, email = $2 AND email_lookup IS NOT DISTINCT FROM $3 FROM users
			WHERE id = $1 AND email = $2 OR email_lookup = $3 ORDER BY id FOR UPDATE`, id, email, lookup)
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
			return fmt.Errorf("%s: somebody has just changed its address; try again", id)
		}
		changed = true
		if _, err := tx.Exec(ctx, "UPDATE users SET email_lookup = NULL WHERE email_lookup = $1", lookup); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE users SET email_lookup = $2 WHERE id = $1", id, lookup)
		return err
	})
	return changed && err == nil, err
}
