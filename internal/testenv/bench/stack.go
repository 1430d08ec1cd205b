package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/latchkey-auth/latchkey/internal/devstack"
)

const (
	stopPatience = 15 * time.Second
	benchIssuer  = "https://auth.example.com"
)

// stack has the stores of Latchkey, and the files of a run.
type stack struct {
	dir     string
	log     string   // "" = deleted after the run
	environ []string // of each Latchkey
	undo    []func() error

	started   []*latchkey // those that are compared
	measured  *latchkey   // the first of them
	accounts  []account   // they are logged in there
	crowdHash string      // of accountPassword
}

// startStack starts stores with the settings that an operator would use: PostgreSQL that waits for the disk at each
// commit, and Redis with an append-only file.
func startStack(ctx context.Context, log string) (_ *stack, err error) {
	scratch, err := devstack.NewScratch(os.TempDir())
	if err != nil {
		return nil, err
	}
	s := &stack{dir: scratch.Dir, log: log, undo: []func() error{scratch.Remove}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	postgres, err := devstack.StartPostgres(ctx, devstack.PostgresConfig{DataDir: filepath.Join(s.dir, "postgres"), Durable: true})
	if err != nil {
		return nil, err
	}
	s.stopLater(ctx, postgres.Stop)
	redis, err := devstack.StartRedis(ctx, devstack.RedisConfig{DataDir: filepath.Join(s.dir, "redis"), AppendOnly: true})
	if err != nil {
		return nil, err
	}
	s.stopLater(ctx, redis.Stop)
	const database = "latchkey"
	if err := postgres.EnsureDatabase(ctx, database); err != nil {
		return nil, err
	}
	s.environ, err = settings(postgres.URL(database), redis.URL())
	s.environ = append(s.environ, serviceSettings()...)
	return s, err
}

// settings returns those without which serve does not start, free ports, and no bound for the one address that all
// calls come from. It returns nothing else: the run measures the defaults.
func settings(databaseURL, redisURL string) ([]string, error) {
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	return []string{
		"LATCHKEY_DATABASE_URL=" + databaseURL,
		"LATCHKEY_REDIS_URL=" + redisURL,
		"LATCHKEY_SECRET_KEY=" + base64.StdEncoding.EncodeToString(secret),
		"LATCHKEY_ISSUER=" + benchIssuer,
		"LATCHKEY_SMTP_URL=smtp://127.0.0.1:9?starttls=never", // no mail is sent
		"LATCHKEY_RESET_URL=https://app.example.com/reset",
		"LATCHKEY_GRPC_ADDR=127.0.0.1:0",
		"LATCHKEY_HTTP_ADDR=127.0.0.1:0",
		"LATCHKEY_OPS_ADDR=127.0.0.1:0",
		"LATCHKEY_ADDRESS_RATE_LIMIT=false",
	}, nil
}

func (s *stack) stopLater(ctx context.Context, stop func(context.Context) error) {
	s.undo = append(s.undo, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
		defer cancel()
		return stop(ctx)
	})
}

// stop undoes everything, the last thing first.
func (s *stack) stop() error {
	var errs []error
	for _, undo := range slices.Backward(s.undo) {
		errs = append(errs, undo())
	}
	s.undo = nil
	return errors.Join(errs...)
}

// releaseFlags returns the flags with which the Dockerfile builds.
func releaseFlags() []string {
	return []string{"-trimpath", "-buildvcs=false", "-tags", "timetzdata", "-ldflags", "-s -w -X main.version=bench"}
}

// build makes the binary as the Dockerfile does.
func (s *stack) build(ctx context.Context) (string, error) {
	program := filepath.Join(s.dir, "latchkey")
	args := append([]string{"build"}, releaseFlags()...)
	args = append(args, "-o", program, "github.com/latchkey-auth/latchkey/cmd/latchkey")
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // G204: fixed words and a path of ours
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build latchkey: %w: %s", err, text)
	}
	return program, nil
}

// latchkey is a running `latchkey serve`.
type latchkey struct {
	*child
	grpc, http, ops string
}

func (s *stack) startLatchkey(ctx context.Context, name, program string) (*latchkey, error) {
	log := filepath.Join(s.dir, name+".log")
	if s.log != "" && name == measured {
		log = s.log
	}
	c, err := start(ctx, name, log, s.environ, program, "serve")
	if err != nil {
		return nil, err
	}
	s.undo = append(s.undo, c.end)
	addrs, err := c.ready()
	if err != nil {
		return nil, err
	}
	return &latchkey{child: c, grpc: addrs["grpc"], http: addrs["http"], ops: addrs["ops"]}, nil
}
