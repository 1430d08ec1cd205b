package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"time"

	"github.com/latchkey-auth/latchkey/internal/devstack"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
)

// measure does the whole run.
func measure(ctx context.Context, o options, progress io.Writer) (_ *report, err error) {
	scratch, err := devstack.NewScratch(o.dir)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	st := &stand{o: o, dir: scratch.Dir, program: o.latchkey, progress: func(format string, args ...any) {
		_, _ = fmt.Fprintf(progress, "%6.1f s  "+format+"\n", append([]any{time.Since(began).Seconds()}, args...)...) // the figures are what counts
	}}
	st.undo.Add(scratch.Remove)
	defer func() { err = errors.Join(err, st.undo.All()) }()
	if err := st.prepare(ctx); err != nil {
		return nil, err
	}
	for _, s := range st.sites {
		if err := s.open(ctx); err != nil {
			return nil, err
		}
		if err := s.load(ctx); err != nil {
			return nil, err
		}
	}
	r := newReport(o)
	if err := st.sites[0].pool.QueryRow(ctx, "SHOW server_version").Scan(&r.Postgres); err != nil {
		return nil, err
	}
	if err := st.measureAll(ctx, r); err != nil {
		return nil, err
	}
	r.Minutes, r.LoadAfter = time.Since(began).Minutes(), benchkit.LoadAverage()
	return r, nil
}

// prepare makes everything but the sites.
func (st *stand) prepare(ctx context.Context) (err error) {
	if st.secret, err = benchkit.NewSecret(); err != nil {
		return err
	}
	if st.program == "" {
		st.program = filepath.Join(st.dir, "latchkey")
		if err := benchkit.Build(ctx, st.program); err != nil {
			return err
		}
	}
	hasher, err := password.New(password.Config{ //nolint:contextcheck // it measures the machine, for some milliseconds
		Params: password.Params{MemoryKiB: 19456, Time: 2, Threads: 1}, Slots: runtime.NumCPU(), DecoyKey: make([]byte, 32),
	})
	if err != nil {
		return err
	}
	if st.hash, err = hasher.Hash(ctx, password.Claim{}, accountPassword); err != nil {
		return err
	}
	if err := st.startPostgres(ctx); err != nil {
		return err
	}
	st.undo.Add(func() error {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
		defer cancel()
		return st.postgres.Stop(stopping) // the one that runs by then
	})
	o := st.o
	small := func(n int64) int64 { return max(sessionsEach, n*o.smallAccounts/o.accounts) }
	st.sites = []*site{
		{name: "large", stand: st, accounts: o.accounts, sessions: o.sessions, rows: o.rows},
		{name: "small", stand: st, accounts: o.smallAccounts, sessions: small(o.sessions), rows: small(o.rows)},
	}
	return nil
}

func (st *stand) measureAll(ctx context.Context, r *report) error {
	for _, s := range st.sites {
		if err := s.begin(ctx); err != nil {
			return err
		}
		if err := s.check(ctx); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	st.progress("%d accounts of each database have logged in, %d and %d sessions were refreshed", checked, len(st.sites[0].logins.all), len(st.sites[1].logins.all))
	large := st.sites[0]
	for _, part := range []struct {
		name string
		do   func() error
	}{
		{"bytes", func() (err error) { r.Bytes, err = large.measureBytes(ctx); return err }},
		{"start", func() error { return r.addStarts(st.measureStarts(ctx, "start to SERVING", false)) }},
		{"calls", func() (err error) { r.Calls, err = st.measureCalls(ctx); return err }},
		{"plans", func() (err error) { r.Plans, err = large.explainAll(ctx); return err }},
		{"start", func() error {
			if err := st.endServing(); err != nil {
				return err
			}
			return r.addStarts(st.measureStarts(ctx, "start to SERVING, PostgreSQL's files not cached", true))
		}},
		{"appends", func() (err error) {
			if err := st.endServing(); err != nil {
				return err
			}
			if err := large.connect(ctx); err != nil {
				return err
			}
			defer large.pool.Close()
			r.Appends, r.Idle, err = large.measureAppends(ctx)
			return err
		}},
	} {
		if !st.o.does(part.name) {
			continue
		}
		if err := part.do(); err != nil {
			return fmt.Errorf("measure %s: %w", part.name, err)
		}
	}
	return nil
}

// endServing stops what uses PostgreSQL.
func (st *stand) endServing() error {
	var errs []error
	for _, s := range st.sites {
		s.pool.Close()
		errs = append(errs, s.serve.End())
	}
	return errors.Join(errs...)
}
