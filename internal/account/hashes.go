package account

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/password"
)

// StoredSettings counts the kinds and parameters of stored hashes, in a sample of 10,000.
func StoredSettings(ctx context.Context, pool *pgxpool.Pool) ([]password.Decoy, error) {
	rows, err := db.New().SampleHashSettings(ctx, pool, password.SettingPattern())
	if err != nil {
		return nil, fmt.Errorf("sample stored hashes: %w", err)
	}
	decoys := make([]password.Decoy, len(rows))
	for i, row := range rows {
		decoys[i] = password.Decoy{Setting: row.Setting, Weight: row.Weight}
	}
	return decoys, nil
}
