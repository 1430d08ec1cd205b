// Package signingstore keeps the signing keys in PostgreSQL, and announces changes of them in the ledger.
package signingstore

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/signing"
)

// Store holds the signing keys of one database. It implements signing.KeyStore.
type Store struct {
	// Pool is the database.
	Pool *pgxpool.Pool
}

// SigningKeys implements signing.KeyStore.
func (k Store) SigningKeys(ctx context.Context) ([]signing.StoredKey, error) {
	return signingKeys(ctx, k.Pool)
}

// ChangeSigningKeys implements signing.KeyStore; the position that it returns is one of the ledger. A lock on
// the table makes replicas take turns, so that each sees the changes of the one before. The lock on the
// ledger's head comes last, as in every transaction that appends.
func (k Store) ChangeSigningKeys(
	ctx context.Context, change func([]signing.StoredKey) (signing.KeyUpdate, error),
) (int64, error) {
	var position int64
	err := postgres.InTx(ctx, k.Pool, func(tx pgx.Tx) error {
		if err := db.New().LockSigningKeys(ctx, tx); err != nil {
			return err
		}
		keys, err := signingKeys(ctx, tx)
		if err != nil {
			return err
		}
		update, err := change(keys)
		if err != nil {
			return err
		}
		if err := writeSigningKeys(ctx, tx, keys, update.Keys); err != nil {
			return err
		}
		if len(keys) == 0 {
			update.Keys = nil // the first key is not announced: every replica reads or makes it when it starts
		}
		position, err = announceKeys(ctx, tx, update)
		return err
	})
	if err != nil {
		return 0, err
	}
	return position, nil
}

// ResealSigningKey implements signing.KeyStore.
func (k Store) ResealSigningKey(ctx context.Context, id string, old, sealed []byte) error {
	_, err := db.New().ResealSigningKey(ctx, k.Pool, db.ResealSigningKeyParams{ID: id, OldSealed: old, Sealed: sealed})
	return err
}

func signingKeys(ctx context.Context, from db.DBTX) ([]signing.StoredKey, error) {
	rows, err := db.New().ListSigningKeys(ctx, from)
	if err != nil {
		return nil, err
	}
	keys := make([]signing.StoredKey, len(rows))
	for i, row := range rows {
		keys[i] = signing.StoredKey{
			ID: row.ID, Algorithm: accesstoken.Algorithm(row.Algorithm), State: signing.State(row.State),
			Sealed: row.Sealed, Public: row.Public, CreateTime: row.CreatedAt,
			ActivateTime: timeOrZero(row.ActivatedAt), RetireTime: timeOrZero(row.RetiredAt),
		}
	}
	return keys, nil
}

// writeSigningKeys stores the changed keys. It writes the active key last: no other key may be active at that
// moment.
func writeSigningKeys(ctx context.Context, tx pgx.Tx, before, changed []signing.StoredKey) error {
	known := make(map[string]bool, len(before))
	for _, key := range before {
		known[key.ID] = true
	}
	for _, last := range []bool{false, true} {
		for _, key := range changed {
			if (key.State == signing.StateActive) != last {
				continue
			}
			if err := writeSigningKey(ctx, tx, key, known[key.ID]); err != nil {
				return fmt.Errorf("signing key %s: %w", key.ID, err)
			}
		}
	}
	return nil
}

func writeSigningKey(ctx context.Context, tx pgx.Tx, key signing.StoredKey, known bool) error {
	if known {
		return db.New().MoveSigningKey(ctx, tx, db.MoveSigningKeyParams{
			ID: key.ID, State: string(key.State), ActivatedAt: zeroAsNull(key.ActivateTime), RetiredAt: zeroAsNull(key.RetireTime),
		})
	}
	return db.New().CreateSigningKey(ctx, tx, db.CreateSigningKeyParams{
		ID: key.ID, Algorithm: string(key.Algorithm), State: string(key.State), Sealed: key.Sealed, Public: key.Public,
		CreatedAt: key.CreateTime, ActivatedAt: zeroAsNull(key.ActivateTime), RetiredAt: zeroAsNull(key.RetireTime),
	})
}

// announceKeys appends rows to the ledger, so that replicas read the keys again, and returns the position of
// the last row. Without a change it returns the position of the head: the row of the last change is not after
// it.
func announceKeys(ctx context.Context, tx pgx.Tx, update signing.KeyUpdate) (int64, error) {
	if len(update.Keys) == 0 {
		return db.New().LedgerHead(ctx, tx)
	}
	return revoke.AppendKeysChanged(ctx, tx, update.Revoked)
}

func timeOrZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

func zeroAsNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
