package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/latchkey-auth/latchkey/internal/devstack"
	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
)

// stack has the stores of Latchkey, and the files of a run.
type stack struct {
	dir     string
	log     string   // "" = deleted after the run
	environ []string // of each Latchkey
	undo    benchkit.Undo

	started   []*benchkit.Latchkey // those that are compared
	measured  *benchkit.Latchkey   // the first of them
	accounts  []account            // they are logged in there
	crowdHash string               // of accountPassword
	echo      string               // the address of the bare echo
}

// startStack starts stores with the settings that an operator would use: PostgreSQL that waits for the disk at each
// commit, and Redis with an append-only file.
func startStack(ctx context.Context, log string) (_ *stack, err error) {
	scratch, err := devstack.NewScratch(os.TempDir())
	if err != nil {
		return nil, err
	}
	s := &stack{dir: scratch.Dir, log: log}
	s.undo.Add(scratch.Remove)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.undo.All())
		}
	}()
	postgres, err := devstack.StartPostgres(ctx, devstack.PostgresConfig{DataDir: filepath.Join(s.dir, "postgres"), Durable: true})
	if err != nil {
		return nil, err
	}
	s.undo.Stop(ctx, postgres.Stop)
	redis, err := devstack.StartRedis(ctx, devstack.RedisConfig{DataDir: filepath.Join(s.dir, "redis"), AppendOnly: true})
	if err != nil {
		return nil, err
	}
	s.undo.Stop(ctx, redis.Stop)
	const database = "latchkey"
	if err := postgres.EnsureDatabase(ctx, database); err != nil {
		return nil, err
	}
	secret, err := benchkit.NewSecret()
	if err != nil {
		return nil, err
	}
	s.environ = append(benchkit.Settings(postgres.URL(database), redis.URL(), secret), serviceSettings()...)
	return s, nil
}

// build makes the binary as it is shipped.
func (s *stack) build(ctx context.Context) (string, error) {
	program := filepath.Join(s.dir, "latchkey")
	return program, benchkit.Build(ctx, program)
}

func (s *stack) startLatchkey(ctx context.Context, name, program string) (*benchkit.Latchkey, error) {
	log := filepath.Join(s.dir, name+".log")
	if s.log != "" && name == measured {
		log = s.log
	}
	l, err := benchkit.Serve(ctx, name, log, s.environ, program)
	if err == nil {
		s.undo.Add(l.End)
	}
	return l, err
}
