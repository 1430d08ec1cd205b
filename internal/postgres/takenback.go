package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// lastFact is the newest migration whose down step loses facts about what was ended: the ledger's rows, spent tokens of
// older backends, marks of sessions, changed addresses.
const lastFact = 21

// NoteTakeBack is called before the migration of this version is taken back, while no replica runs. If Latchkey has
// served and facts will be lost, it writes the time into the table latchkey_taken_back, which stays. After a later
// migration up, sessions and tokens from before that time are refused, because nobody can know any more which of them
// had ended.
func NoteTakeBack(ctx context.Context, conn *pgx.Conn, version int64) error {
	if version > lastFact {
		return nil
	}
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var noted, ledger, keys bool
		err := tx.QueryRow(ctx, `
			SELECT to_regclass('latchkey_taken_back') IS NOT NULL, to_regclass('ledger_head') IS NOT NULL, to_regclass('signing_keys') IS NOT NULL`).
			Scan(&noted, &ledger, &keys)
		if err != nil {
			return err
		}
		if !noted {
			// A service makes a signing key before it serves.
			served := false
			if keys {
				err = tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM signing_keys)").Scan(&served)
			}
			if err == nil && ledger && !served {
				err = tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM ledger_head WHERE seq > 0)").Scan(&served)
			}
			if err != nil || !served {
				return err
			}
			_, err = tx.Exec(ctx, `
				CREATE TABLE latchkey_taken_back (only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row), at timestamptz NOT NULL, seq bigint NOT NULL);
				INSERT INTO latchkey_taken_back (at, seq) VALUES (now(), 0);
				COMMENT ON TABLE latchkey_taken_back IS 'Latchkey served here until then. If it ever comes back, it refuses sessions and tokens from before.'`,
				pgx.QueryExecModeSimpleProtocol)
			if err != nil {
				return err
			}
		}
		position := "seq"
		if ledger {
			position = "greatest(seq, (SELECT h.seq FROM ledger_head h))"
		}
		_, err = tx.Exec(ctx, "UPDATE latchkey_taken_back SET at = now(), seq = "+position)
		return err
	})
	if err != nil {
		return fmt.Errorf("note that the migrations are taken back: %w", err)
	}
	return nil
}
