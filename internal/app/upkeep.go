package app

import (
	"cmp"
	"context"
	"time"

	"github.com/latchkey-auth/latchkey/internal/account"
)

// keepUp is a task of each replica, and not a job that one of them does for all: it keeps what a replica has in memory
// up to date. It counts the kinds of stored hashes, so that unknown accounts go on costing what known ones cost, and
// moves signing keys on when they are due.
func (a *App) keepUp(ctx context.Context) {
	a.tendKeys(ctx) // something may have been due for long
	a.eviction.look(ctx)
	decoys, keys := time.NewTicker(decoyEvery), time.NewTicker(keysEvery)
	defer decoys.Stop()
	defer keys.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-decoys.C:
			a.countHashes(ctx)
		case <-keys.C:
			a.tendKeys(ctx)
			a.eviction.look(ctx)
		}
	}
}

// tendKeys moves signing keys on that are due, and reads what others have moved.
func (a *App) tendKeys(ctx context.Context) {
	tending, cancel := context.WithTimeout(ctx, keysTime)
	changes, err := a.Rotator.Tend(tending)
	cancel()
	if err != nil {
		a.log.WarnContext(ctx, "signing keys not tended", "error", err)
	}
	for _, change := range changes {
		a.log.InfoContext(ctx, "signing key", "key_id", change.ID, "algorithm", string(change.Algorithm),
			"from", string(cmp.Or(change.From, "new")), "to", string(change.To))
	}
	// In a time of its own: another replica may hold up the turn to change keys.
	reading, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	if err := a.Keyring.Reload(reading); err != nil {
		a.log.WarnContext(ctx, "signing keys not read again", "error", err)
	}
}

func (a *App) countHashes(ctx context.Context) {
	decoys, err := account.StoredSettings(ctx, a.stores.Pool)
	if err != nil {
		a.log.WarnContext(ctx, "kinds of stored hashes not counted", "error", err)
		return
	}
	a.hasher.SetDecoys(decoys)
}
