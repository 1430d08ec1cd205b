package app

import (
	"context"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/operatorpage"
	"github.com/latchkey-auth/latchkey/internal/signingstore"
)

// operatorStatus is the state that the page for operators shows.
func (a *App) operatorStatus(ctx context.Context) operatorpage.Status {
	health, ledger := a.Server.Health(), a.Ledger.Stats()
	status := operatorpage.Status{
		Version: a.version, Changes: a.cfg.OperatorsPage == "change", Ready: health.Ready, Postgres: health.Postgres, Redis: health.Redis, Warnings: health.Warnings,
		Ledger:   operatorpage.Ledger{Applied: ledger.Applied, Rows: ledger.Rows, Trusted: ledger.Trusted},
		Replicas: []operatorpage.Replica{}, Keys: []operatorpage.Key{},
	}
	for what, read := range map[string]func(context.Context, *operatorpage.Status) error{
		"the replicas": a.readReplicas, "the signing keys": a.readKeys, "the mails": a.readMails,
	} {
		if err := read(ctx, &status); err != nil {
			a.log.WarnContext(ctx, "a part of the page for operators cannot be read", "part", what, "error", err)
			status.Problems = append(status.Problems, what+" cannot be read now: the log says why")
		}
	}
	return status
}

func (a *App) readReplicas(ctx context.Context, status *operatorpage.Status) error {
	queries := db.New()
	var err error
	if status.Ledger.Head, err = queries.LedgerHead(ctx, a.stores.Pool); err != nil {
		return err
	}
	rows, err := queries.ListReplicas(ctx, a.stores.Pool)
	for _, row := range rows {
		status.Replicas = append(status.Replicas, operatorpage.Replica{
			ID: row.ID.String(), Behind: max(status.Ledger.Head-row.AppliedSeq, 0), LeaseMS: row.LeaseMs, Leaving: row.Leaving,
		})
	}
	return err
}

func (a *App) readKeys(ctx context.Context, status *operatorpage.Status) error {
	keys, err := signingstore.Store{Pool: a.stores.Pool}.SigningKeys(ctx)
	for _, key := range keys {
		status.Keys = append(status.Keys, operatorpage.Key{
			ID: key.ID, Algorithm: string(key.Algorithm), State: string(key.State),
			Created: key.CreateTime.UTC(), Activated: key.ActivateTime.UTC(), Retired: key.RetireTime.UTC(),
		})
	}
	return err
}

func (a *App) readMails(ctx context.Context, status *operatorpage.Status) error {
	mails, err := a.outbox.Stats(ctx)
	status.Mails = operatorpage.Mails{
		Pending: mails.Pending, Failing: mails.Failing, GivenUp: mails.GivenUp, OldestSeconds: mails.Oldest.Seconds(),
	}
	return err
}
