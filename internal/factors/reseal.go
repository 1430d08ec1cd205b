package factors

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/seal"
)

// Reseal seals what was sealed under the previous secret key again, under the current one, so that the previous one can
// be dropped. What no key opens stays as it is: then another replica has a newer key. It returns how many it has sealed.
func Reseal(ctx context.Context, pool *pgxpool.Pool, sealer *seal.Sealer) (int64, error) {
	queries, head := db.New(), sealer.Head()
	var resealed int64
	for after := uuid.Nil; ; {
		seeds, err := queries.FindForeignSeeds(ctx, pool, db.FindForeignSeedsParams{Head: head, After: after})
		if err != nil {
			return resealed, fmt.Errorf("look for seeds under the previous key: %w", err)
		}
		if len(seeds) == 0 {
			break
		}
		for _, row := range seeds {
			after = row.FactorID
			plain, _, err := sealer.Open(seedPlace(row.FactorID), row.SealedSeed)
			if err != nil {
				continue
			}
			n, err := queries.ResealSeed(ctx, pool, db.ResealSeedParams{
				FactorID: row.FactorID, Sealed: row.SealedSeed, Resealed: sealer.Seal(seedPlace(row.FactorID), plain),
			})
			if err != nil {
				return resealed, fmt.Errorf("seal a seed again: %w", err)
			}
			resealed += n
		}
	}
	for after := uuid.Nil; ; {
		sets, err := queries.FindForeignRecoveryKeys(ctx, pool, db.FindForeignRecoveryKeysParams{Head: head, After: after})
		if err != nil {
			return resealed, fmt.Errorf("look for keys of recovery codes under the previous key: %w", err)
		}
		if len(sets) == 0 {
			return resealed, nil
		}
		for _, row := range sets {
			after = row.UserID
			plain, _, err := sealer.Open(codesPlace(row.ID), row.SealedKey)
			if err != nil {
				continue
			}
			n, err := queries.ResealRecoveryKey(ctx, pool, db.ResealRecoveryKeyParams{
				UserID: row.UserID, Sealed: row.SealedKey, Resealed: sealer.Seal(codesPlace(row.ID), plain),
			})
			if err != nil {
				return resealed, fmt.Errorf("seal a key of recovery codes again: %w", err)
			}
			resealed += n
		}
	}
}
