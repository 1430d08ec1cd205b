package app

import (
	"context"
	"fmt"
	"time"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/password"
)

const (
	// peppersTime bounds a check of peppers: to count the accounts of one that is missing can read the whole table.
	peppersTime = 10 * time.Second
	// startPeppersTime bounds the check that a start waits for. If it is not enough, the check is done again after the
	// start.
	startPeppersTime = time.Second
)

func newPeppers(secrets config.Peppers) ([]password.Pepper, error) {
	var peppers []password.Pepper
	for _, secret := range secrets {
		p, err := password.NewPepper(secret)
		if err != nil {
			return nil, fmt.Errorf("LATCHKEY_PASSWORD_PEPPERS: %w", err)
		}
		peppers = append(peppers, p)
	}
	return peppers, nil
}

// checkPeppers notes the peppers of this replica, and logs an error for each one that accounts were imported with and
// that it does not have. It starts all the same: the other accounts must not be kept out. It returns whether the check
// was done within the time.
func (a *App) checkPeppers(ctx context.Context, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := a.findMissingPeppers(ctx)
	if err != nil {
		a.log.WarnContext(ctx, "peppers of imported passwords not checked", "error", err)
	}
	return err == nil
}

func (a *App) findMissingPeppers(ctx context.Context) error {
	queries, pool := db.New(), a.stores.Pool
	if len(a.peppers) > 0 {
		var ids []string
		for _, p := range a.peppers {
			ids = append(ids, p.ID())
		}
		if err := queries.NoteServedPeppers(ctx, pool, ids); err != nil {
			return err
		}
	}
	imported, err := queries.ImportedPeppers(ctx, pool)
	if err != nil {
		return err
	}
	for _, p := range imported {
		if a.hasher.HasPepper(p.ID) {
			continue
		}
		accounts, err := queries.CountPeppered(ctx, pool, password.PepperPrefixes(p.ID))
		switch {
		case err != nil:
			return err
		case accounts == 0: // all have logged in meanwhile, or are gone
			err = queries.ForgetPepper(ctx, pool, db.ForgetPepperParams(p))
		default:
			a.log.ErrorContext(ctx, "accounts cannot log in: their passwords were imported with a pepper that LATCHKEY_PASSWORD_PEPPERS lacks",
				"pepper", p.ID, "accounts_up_to_1000", accounts)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
