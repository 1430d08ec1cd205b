package server

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/token"
)

// KeyStore keeps the signing keys in PostgreSQL. It implements token.KeyStore.
type KeyStore struct {
	// Pool is the database.
	Pool *pgxpool.Pool
}

// SigningKeys implements token.KeyStore.
func (k KeyStore) SigningKeys(ctx context.Context) ([]token.StoredKey, error) {
	rows, err := db.New().ListSigningKeys(ctx, k.Pool)
	if err != nil {
		return nil, err
	}
	keys := make([]token.StoredKey, len(rows))
	for i, row := range rows {
		keys[i] = token.StoredKey{
			ID: row.ID, Algorithm: token.Algorithm(row.Algorithm), State: token.State(row.State),
			Sealed: row.Sealed, Public: row.Public, CreateTime: row.CreatedAt,
		}
	}
	return keys, nil
}

// ActivateSigningKey implements token.KeyStore. The table's lock makes replicas that
// start together take turns, so that the second finds the first one's key.
func (k KeyStore) ActivateSigningKey(ctx context.Context, key token.StoredKey) error {
	queries := db.New()
	return postgres.InTx(ctx, k.Pool, func(tx pgx.Tx) error {
		if err := queries.LockSigningKeys(ctx, tx); err != nil {
			return err
		}
		active, err := queries.ActiveSigningKeyAlgorithm(ctx, tx)
		if err == nil && active == string(key.Algorithm) {
			return nil
		}
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if err := queries.RetireActiveSigningKey(ctx, tx); err != nil {
			return err
		}
		return queries.CreateSigningKey(ctx, tx, db.CreateSigningKeyParams{
			ID: key.ID, Algorithm: string(key.Algorithm), Sealed: key.Sealed, Public: key.Public, CreatedAt: key.CreateTime,
		})
	})
}

// ResealSigningKey implements token.KeyStore.
func (k KeyStore) ResealSigningKey(ctx context.Context, id string, old, sealed []byte) error {
	_, err := db.New().ResealSigningKey(ctx, k.Pool, db.ResealSigningKeyParams{ID: id, OldSealed: old, Sealed: sealed})
	return err
}
