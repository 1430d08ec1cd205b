package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/legacy/takeover"
	"github.com/latchkey-auth/latchkey/internal/postgres"
)

const (
	// takeoverLockTimeout is how long a statement of apply waits for its lock on users. The older backend's queries wait
	// behind it for as long.
	takeoverLockTimeout = 500 * time.Millisecond
	// takeoverPatience is how long apply tries to get one lock, with pauses between.
	takeoverPatience  = 10 * time.Minute
	takeoverPause     = 500 * time.Millisecond
	takeoverLastPause = 5 * time.Second
	// watchEvery is the time between two queries for the progress of the long migration.
	watchEvery = time.Second
	// waitNotice is the time after which apply reports that another run holds it up.
	waitNotice = 2 * time.Second
)

// apply checks, migrates, and gives each shared address to one account. Every part of it can be run again: it does only
// what is missing.
func (t *takeoverCommand) apply(ctx context.Context, holders []uuid.UUID) error {
	report, err := t.check(ctx)
	if err != nil {
		return err
	}
	if report.Status == takeover.Failed {
		return errors.Join(printReport(t.stdout, report), outcome(report))
	}
	if err := checkHolders(report, holders); err != nil {
		return err
	}
	if err := t.migrate(ctx, report); err != nil {
		return t.explainStop(ctx, err)
	}
	if err := t.giveAddresses(ctx, holders); err != nil {
		return t.explainStop(ctx, err)
	}
	after, err := t.check(ctx)
	if err != nil {
		return err
	}
	if after.Status != takeover.Clear || !after.Applied {
		return errors.Join(printReport(t.stdout, after), errors.New("latchkey takeover: every step is done, but the check is not clear, see above"))
	}
	return printApplied(t.stdout, after)
}

func (t *takeoverCommand) explainStop(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("latchkey takeover: stopped; run the same command again: it continues")
	}
	return fmt.Errorf("latchkey takeover: %w; finished steps stay, and the same command continues from there", err)
}

// checkHolders refuses a wrong --holder before anything is changed.
func checkHolders(report *takeover.Report, holders []uuid.UUID) error {
	listed := int64(len(report.Decisions)+len(report.Held)) == report.DecisionsTotal+report.HeldTotal
	chosen := map[string]uuid.UUID{}
	for _, id := range holders {
		group := report.Group(id)
		if group == nil {
			if listed {
				return fmt.Errorf("latchkey takeover: --holder %s: no account with this id shares its address with another; nothing was changed", id)
			}
			continue
		}
		if other, twice := chosen[group.Address]; twice && other != id {
			return fmt.Errorf("latchkey takeover: --holder %s and %s: only one of the two can hold %s; nothing was changed", other, id, printable(group.Address))
		}
		chosen[group.Address] = id
	}
	return nil
}

// migrate runs the missing migrations, with short waits for locks.
func (t *takeoverCommand) migrate(ctx context.Context, report *takeover.Report) error {
	pool, err := postgres.Open(ctx, postgres.Config{URL: app.DirectURL(t.cfg)})
	if err != nil {
		return config.Reject("LATCHKEY_DATABASE_URL", "is not usable")
	}
	defer pool.Close()
	watcher, err := t.connect(ctx)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer watcher.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it was only read from
	waiting := time.AfterFunc(waitNotice, func() {
		t.log.InfoContext(ctx, "waiting: another latchkey is migrating this database, or the server still finishes a statement of one that was stopped")
	})
	defer waiting.Stop()
	m := app.Schema(t.cfg)
	m.LockTimeout = takeoverLockTimeout
	m.Each = func(ctx context.Context, name string, run func() error) error {
		waiting.Stop()
		return t.one(ctx, report, watcher, name, run)
	}
	applied, err := m.Up(ctx, func(ctx context.Context) error {
		waiting.Stop()
		return app.AfterMigrations(ctx, pool)
	})
	if err == nil && len(applied) == 0 {
		t.log.InfoContext(ctx, "every migration is applied already")
	}
	return err
}

// one runs a migration, and repeats it while it cannot get its lock.
func (t *takeoverCommand) one(ctx context.Context, report *takeover.Report, watcher *pgx.Conn, name string, run func() error) error {
	began := time.Now()
	t.log.InfoContext(ctx, "migration begins", "migration", name)
	for pause := takeoverPause; ; pause = min(2*pause, takeoverLastPause) {
		err := t.watched(ctx, report, name, watcher, run)
		var pg *pgconn.PgError
		switch {
		case err == nil:
			t.tellRestart(ctx, report, name)
			t.log.InfoContext(ctx, "migration ends", "migration", name, "took", time.Since(began).Round(time.Millisecond).String())
			return nil
		case !errors.As(err, &pg) || pg.Code != "55P03": // lock_not_available
			return fmt.Errorf("migration %s: %w", name, err)
		case time.Since(began) > takeoverPatience:
			return fmt.Errorf("migration %s: it did not get its lock for %s (in the way: %s): %w", name, takeoverPatience, t.inTheWay(ctx, watcher), err)
		}
		t.log.WarnContext(ctx, "did not get a lock; trying again after a pause, so that nobody waits behind it",
			"migration", name, "waited", takeoverLockTimeout.String(), "pause", pause.String(), "in_the_way", t.inTheWay(ctx, watcher))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// tellRestart logs once that a migration has added its column to users.
func (t *takeoverCommand) tellRestart(ctx context.Context, report *takeover.Report, name string) {
	adds := slices.ContainsFunc(report.Steps, func(s takeover.Step) bool { return s.Migration == name && s.Restart != "" })
	if !adds || t.restartTold == name {
		return
	}
	t.restartTold = name
	t.log.WarnContext(ctx, "users has a new column: restart some clients now", "migration", name, "restart", takeover.RestartForColumn)
}

// inTheWay names the transactions that hold a lock on users.
func (t *takeoverCommand) inTheWay(ctx context.Context, conn *pgx.Conn) string {
	list, err := takeover.Blockers(ctx, conn)
	if err != nil {
		return "unknown: " + err.Error()
	}
	var names []string
	for _, b := range list {
		if b.LocksUsers {
			names = append(names, describeBlocker(b))
		}
	}
	if len(names) == 0 {
		return "nobody now"
	}
	return strings.Join(names, "; ")
}

// watched shows the progress of a long migration while it runs.
func (t *takeoverCommand) watched(ctx context.Context, report *takeover.Report, name string, conn *pgx.Conn, run func() error) error {
	if !report.Long(name) {
		return run()
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.watch(ctx, conn, func() { t.tellRestart(ctx, report, name) })
	}()
	err := run()
	stop()
	<-done // the connection is free again
	return err
}

// watch calls columnAdded each time when it sees that the migration has added its column.
func (t *takeoverCommand) watch(ctx context.Context, conn *pgx.Conn, columnAdded func()) {
	var shown *progress
	var what string
	end := func() {
		if shown != nil {
			shown.Done()
		}
	}
	defer func() { end() }()
	pause := watchEvery
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		asked := time.Now()
		// ctx is not used: a cancelled query closes its connection.
		p, err := takeover.ReadProgress(context.WithoutCancel(ctx), conn)
		if err != nil {
			t.log.WarnContext(ctx, "could not read the progress", "error", err)
			return
		}
		pause = max(watchEvery, 20*time.Since(asked)) // counting takes at most a twentieth of the time
		if p.WaitsFor != 0 {
			t.log.InfoContext(ctx, "the index waits for a transaction that began earlier; no client waits for the index", "pid", p.WaitsFor)
		}
		if p.What == "" {
			continue
		}
		columnAdded()
		if p.What != what {
			end()
			what = p.What
			shown = newProgress(os.Stderr, isTerminal(os.Stderr), t.log, p.Total, what)
		}
		shown.SetTotal(p.Total)
		shown.Set(p.Done)
	}
}

// giveAddresses gives each address a holder: the account that the operator chose, or the oldest.
func (t *takeoverCommand) giveAddresses(ctx context.Context, holders []uuid.UUID) error {
	conn, err := t.connect(ctx)
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // all was committed, or nothing
	if _, err := conn.Exec(ctx, "SELECT set_config('lock_timeout', '5s', false), set_config('statement_timeout', '0', false)"); err != nil {
		return err
	}
	for _, id := range holders {
		changed, err := takeover.Hold(ctx, conn, id)
		if err != nil {
			return fmt.Errorf("--holder %s: %w", id, err)
		}
		t.log.InfoContext(ctx, "the account holds its address in every spelling", "user_id", id.String(), "changed", changed)
	}
	return nil
}
