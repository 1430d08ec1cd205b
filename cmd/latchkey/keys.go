package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/signing"
	"github.com/latchkey-auth/latchkey/internal/signingstore"
)

// keysCommand is `latchkey keys`. It works on the database; replicas learn of the changes from the ledger.
type keysCommand struct {
	cfg    *config.Config
	pool   *pgxpool.Pool
	log    *slog.Logger
	stdout io.Writer
}

func keysGroup() command {
	return command{
		name: "keys", about: "list, rotate or revoke: the keys that sign access tokens",
		more: `They work on the database at LATCHKEY_DATABASE_URL; rotate and revoke need LATCHKEY_SECRET_KEY.
Exit codes: 0 done, 1 failed, 2 usage or settings.`,
		group: []command{
			{
				name: "list", usage: "[--json]", about: "list the keys that sign access tokens, each with its state",
				flags: func(flags *flag.FlagSet) runner {
					asJSON := flags.Bool("json", false, "print them as JSON")
					return keysRunner(0, func(ctx context.Context, k *keysCommand, _ []string) error {
						if *asJSON {
							return k.list(ctx, k.printJSON)
						}
						return k.list(ctx, k.printTable)
					})
				},
			},
			{
				name: "rotate", usage: "[--now]", about: "make the next key, which signs after every verifier has had time to read it",
				flags: func(flags *flag.FlagSet) runner {
					now := flags.Bool("now", false, "let it sign at once: services that keep the JWKS must ask for it again")
					return keysRunner(0, func(ctx context.Context, k *keysCommand, _ []string) error { return k.rotate(ctx, *now) })
				},
			},
			{
				name: "revoke", usage: "KID", about: "end a key: when the command returns, no replica accepts what it signed",
				run: keysRunner(1, func(ctx context.Context, k *keysCommand, words []string) error { return k.revoke(ctx, words[0]) }),
			},
		},
	}
}

// keysRunner returns the runner of a command that takes this number of words. It opens the database for it.
func keysRunner(words int, do func(context.Context, *keysCommand, []string) error) runner {
	return func(ctx context.Context, args, environ []string, stdout io.Writer) error {
		if len(args) != words {
			return &usageError{keysGroup().help()}
		}
		cfg, err := databaseConfig(environ)
		if err != nil {
			return err
		}
		pool, err := postgres.Open(ctx, postgres.Config{URL: app.DirectURL(cfg)})
		if err != nil {
			return config.Reject("LATCHKEY_DATABASE_URL", "is not usable")
		}
		defer pool.Close()
		return do(ctx, &keysCommand{cfg: cfg, pool: pool, log: newLogger(cfg, environ), stdout: stdout}, args)
	}
}

// checkSchema returns an error if the database lacks migrations: this version might not be able to read its keys.
func (k *keysCommand) checkSchema(ctx context.Context) error {
	list, err := app.Schema(k.cfg).Status(ctx)
	if err != nil {
		return fmt.Errorf("read the schema's version: %w", err)
	}
	for _, m := range list {
		if !m.Applied {
			return errors.New("the database lacks migrations: run `latchkey migrate up` first")
		}
	}
	return nil
}

// listedKey has the fields of a key that list shows.
type listedKey struct {
	KeyID     string                `json:"kid"`
	Algorithm accesstoken.Algorithm `json:"algorithm"`
	State     signing.State         `json:"state"`
	Created   time.Time             `json:"created"`
	Activated time.Time             `json:"activated,omitzero"`
	Retired   time.Time             `json:"retired,omitzero"`
}

// list needs no secret key, because it decrypts nothing.
func (k *keysCommand) list(ctx context.Context, show func([]listedKey) error) error {
	if err := k.checkSchema(ctx); err != nil {
		return err
	}
	rows, err := signingstore.Store{Pool: k.pool}.SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("read the signing keys: %w", err)
	}
	listed := make([]listedKey, len(rows))
	for i, row := range rows {
		listed[i] = listedKey{
			row.ID, row.Algorithm, row.State, row.CreateTime.UTC(), row.ActivateTime.UTC(), row.RetireTime.UTC(),
		}
	}
	return show(listed)
}

func (k *keysCommand) printJSON(listed []listedKey) error {
	encoder := json.NewEncoder(k.stdout)
	encoder.SetIndent("", "  ")
	return encoder.Encode(listed)
}

func (k *keysCommand) printTable(listed []listedKey) error {
	show := func(t time.Time) string {
		if t.IsZero() {
			return "-"
		}
		return t.Format(time.RFC3339)
	}
	table := tabwriter.NewWriter(k.stdout, 0, 0, 2, ' ', 0)
	_, err := fmt.Fprintln(table, "KID\tALGORITHM\tSTATE\tCREATED\tACTIVATED\tRETIRED")
	for _, key := range listed {
		_, failed := fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n",
			key.KeyID, key.Algorithm, key.State, show(key.Created), show(key.Activated), show(key.Retired))
		err = errors.Join(err, failed)
	}
	return errors.Join(err, table.Flush())
}

// tools returns a rotator, which changes keys, and a ledger, which waits until all replicas have applied the change. It
// needs the secret key, which encrypts new keys.
func (k *keysCommand) tools(ctx context.Context) (*signing.Rotator, *ledger.Ledger, error) {
	rotator, err := app.NewRotator(k.cfg, k.pool)
	if err != nil {
		return nil, nil, err
	}
	if err := k.checkSchema(ctx); err != nil {
		return nil, nil, err
	}
	replicas, err := newLedger(ctx, k.cfg, k.pool, k.log)
	return rotator, replicas, err
}

func (k *keysCommand) rotate(ctx context.Context, now bool) error {
	rotator, replicas, err := k.tools(ctx)
	if err != nil {
		return err
	}
	made, err := rotator.Rotate(ctx)
	if err != nil {
		return err
	}
	if err := k.printChanges(made); err != nil {
		return err
	}
	if !now {
		_, err := fmt.Fprintf(k.stdout, "%s is published and begins to sign at %s\n", made.KeyID, made.DueTime.UTC().Format(time.RFC3339))
		return err
	}
	// A replica that has read the key accepts its first token, so all must have read it before one signs with it.
	if err := replicas.Wait(ctx, made.Position); err != nil {
		return fmt.Errorf("%s is pending, but it is not known whether every replica has read it (run the command again): %w", made.KeyID, err)
	}
	promoted, err := rotator.Promote(ctx, made.KeyID)
	if err != nil {
		return err
	}
	if err := k.printChanges(promoted); err != nil {
		return err
	}
	if err := replicas.Wait(ctx, promoted.Position); err != nil {
		return fmt.Errorf("%s signs, but it is not known whether every replica signs with it yet (run the command again): %w", made.KeyID, err)
	}
	_, err = fmt.Fprintf(k.stdout, "%s signs from now on; services that keep the JWKS have to ask for it again\n", made.KeyID)
	return err
}

func (k *keysCommand) revoke(ctx context.Context, id string) error {
	rotator, replicas, err := k.tools(ctx)
	if err != nil {
		return err
	}
	outcome, err := rotator.Revoke(ctx, id)
	if errors.Is(err, signing.ErrUnknownKey) {
		return fmt.Errorf("there is no signing key %q: `latchkey keys list` shows all", id)
	}
	if err != nil {
		return err
	}
	if err := k.printChanges(outcome); err != nil {
		return err
	}
	// Wait even if the key was gone already: the command that revoked it may have been killed at this point.
	if err := replicas.Wait(ctx, outcome.Position); err != nil {
		return fmt.Errorf("%s is revoked, but it is not known whether every replica has applied that (run the command again): %w", id, err)
	}
	_, err = fmt.Fprintf(k.stdout, "%s is gone: no replica accepts what it signed\n", id)
	return err
}

func (k *keysCommand) printChanges(outcome signing.Outcome) error {
	for _, change := range outcome.Changes {
		if _, err := fmt.Fprintf(k.stdout, "%s %s: %s -> %s\n", change.ID, change.Algorithm, orNew(change.From), change.To); err != nil {
			return err
		}
	}
	return nil
}

func orNew(state signing.State) signing.State {
	if state == "" {
		return "new"
	}
	return state
}

// newLedger returns a ledger that can wait for replicas, for a process that does not follow the ledger
// itself. Replicas can have a longer lease than this process. It reads their leases now, because PostgreSQL
// may be away later, during the wait.
func newLedger(ctx context.Context, cfg *config.Config, pool *pgxpool.Pool, log *slog.Logger) (*ledger.Ledger, error) {
	replicas, err := db.New().ListReplicas(ctx, pool)
	if err != nil {
		return nil, fmt.Errorf("read the replicas: %w", err)
	}
	lease := cfg.ReplicaLease
	for _, replica := range replicas {
		lease = max(lease, time.Duration(replica.LeaseMs)*time.Millisecond)
	}
	return ledger.New(ledger.Config{Pool: pool, Lease: min(lease, ledger.MaxLease), Logger: log, Now: time.Now})
}
