package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
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

// RecentSettings returns what StoredSettings counted, here or on another replica, if that was less than within ago.
// Otherwise it counts anew, and notes the result for all replicas.
func RecentSettings(ctx context.Context, pool *pgxpool.Pool, within time.Duration) ([]password.Decoy, error) {
	noted, err := db.New().NotedHashSettings(ctx, pool)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read the counts of stored hashes: %w", err)
	}
	if err == nil && noted.AgeSeconds < within.Seconds() && len(noted.Settings) == len(noted.Weights) {
		decoys := make([]password.Decoy, len(noted.Settings))
		for i, setting := range noted.Settings {
			decoys[i] = password.Decoy{Setting: setting, Weight: noted.Weights[i]}
		}
		return decoys, nil
	}
	decoys, err := StoredSettings(ctx, pool)
	if err != nil {
		return nil, err
	}
	params := db.NoteHashSettingsParams{Settings: []string{}, Weights: []int64{}} // nil would be NULL
	for _, d := range decoys {
		params.Settings, params.Weights = append(params.Settings, d.Setting), append(params.Weights, d.Weight)
	}
	if err := db.New().NoteHashSettings(ctx, pool, params); err != nil {
		return nil, fmt.Errorf("note the counts of stored hashes: %w", err)
	}
	return decoys, nil
}
