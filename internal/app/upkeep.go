package app

import (
	"cmp"
	"context"
	"time"

	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/factors"
)

// keepUp is a task of each replica, and not a job that one of them does for all, because it keeps the memory
// of the replica up to date. It counts the kinds of stored hashes, so that a login to an unknown account
// costs as much as one to a known account; it changes the state of signing keys when that is due; and it
// checks that Redis keeps all keys.
func (a *App) keepUp(ctx context.Context) {
	a.tendKeys(ctx) // a change may have been due for a long time
	if !a.peppersChecked {
		a.checkPeppers(ctx, peppersTime)
	}
	a.countHashes(ctx, decoysFresh)
	a.eviction.look(ctx)
	decoys, keys := time.NewTicker(decoyEvery), time.NewTicker(keysEvery)
	defer decoys.Stop()
	defer keys.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-decoys.C:
			a.checkPeppers(ctx, peppersTime)
			a.countHashes(ctx, decoysFresh)
			a.resealFactors(ctx)
		case <-keys.C:
			a.tendKeys(ctx)
			a.eviction.look(ctx)
		}
	}
}

// tendKeys changes the state of signing keys if that is due, and reads the changes of other replicas.
func (a *App) tendKeys(ctx context.Context) {
	tending, cancel := context.WithTimeout(ctx, keysTime)
	changes, err := a.Rotator.Tend(tending)
	cancel()
	if err != nil {
		a.log.WarnContext(ctx, "signing keys: a change that may be due failed", "error", err)
	}
	for _, change := range changes {
		a.log.InfoContext(ctx, "signing key", "key_id", change.ID, "algorithm", string(change.Algorithm),
			"from", string(cmp.Or(change.From, "new")), "to", string(change.To))
	}
	// The reading has its own deadline: another replica that changes keys may have delayed the step before.
	reading, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	if err := a.Keyring.Reload(reading); err != nil {
		a.log.WarnContext(ctx, "signing keys not read again", "error", err)
	}
}

// countHashes tells the hasher which kinds of hashes are stored, by a count that is younger than within.
func (a *App) countHashes(ctx context.Context, within time.Duration) {
	decoys, err := account.RecentSettings(ctx, a.stores.Pool, within)
	if err != nil {
		a.log.WarnContext(ctx, "kinds of stored hashes not counted", "error", err)
		return
	}
	a.hasher.SetDecoys(decoys)
}

// resealFactors seals what the previous secret key has sealed again. It does so for the first time some minutes after the
// start, when all replicas have the new key: one that has only the previous key could not open it any more.
func (a *App) resealFactors(ctx context.Context) {
	if len(a.cfg.SecretKeyPrevious) == 0 {
		return
	}
	resealed, err := factors.Reseal(ctx, a.stores.Pool, a.sealer)
	if err != nil {
		a.log.WarnContext(ctx, "second factors not sealed again under the new secret key", "error", err)
	}
	if resealed > 0 {
		a.log.InfoContext(ctx, "second factors sealed again under the new secret key", "rows", resealed)
	}
}
