package takeover

import (
	"context"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/latchkey-auth/latchkey/internal/legacy"
)

// Config has the stores to check and the means to check them.
type Config struct {
	// Conn is used only to read, and by nobody else meanwhile. Its role needs only SELECT on users and
	// schema_migrations.
	Conn *pgx.Conn
	// Redis is only read. Nil: only the database is checked.
	Redis redis.UniversalClient
	// Migrations are those of this version, at the root of the file system.
	Migrations fs.FS
	// Hash returns why a stored password hash is unusable, and nil if it can be used.
	Hash func(encoded string) error
	Keys Keys
	// Before are findings from opening the stores. They are problems, except for the code no_redis, which is a warning.
	Before []Finding
	Now    func() time.Time
}

// Keys are the settings for the backends' keys.
type Keys struct {
	Settings Settings
	// IsRust reports whether the secret that is set has signed a token, expired or not. Nil: none is set.
	IsRust func(token string) bool
	// GoProved means that a token has proved that the key is the Go backend's.
	GoProved bool
	// RustSecretBytes is the secret's length.
	RustSecretBytes int
	// Store and RefreshLife are the lives and limits that are set, and zero if they are not set.
	Store       legacy.StoreConfig
	RefreshLife time.Duration
	// Problems are those that were met when the keys were read.
	Problems []Finding
}

// Check changes nothing: every statement runs in a read-only transaction of PostgreSQL, and Redis gets only SCAN, GET
// and PTTL. Errors are problems of the report.
func Check(ctx context.Context, cfg Config) *Report {
	r := &Report{
		Settings: cfg.Keys.Settings, Decisions: []Group{}, Held: []Group{}, Problems: []Finding{}, Warnings: []Finding{},
		Steps: []Step{}, Blockers: []Blocker{},
	}
	r.Problems = append(r.Problems, cfg.Keys.Problems...)
	for _, f := range cfg.Before {
		if f.Code == "no_redis" {
			r.warn(f)
		} else {
			r.Problems = append(r.Problems, f)
		}
	}
	var readable bool
	if cfg.Conn != nil {
		var err error
		readable, err = r.readDatabase(ctx, cfg)
		if err != nil {
			r.problem("database_failed", "the database could not be read: "+err.Error(), "")
			r.Database = nil
		}
	}
	if cfg.Redis != nil {
		found, err := scanRedis(ctx, cfg, readable)
		if err != nil {
			r.problem("redis_failed", "Redis could not be read: "+err.Error(), "")
		} else {
			r.Redis = found
			r.judgeRedis()
			r.judgeLives(cfg.Keys)
		}
	}
	r.judgeKeys(cfg.Keys, cfg.Now())
	r.conclude()
	return r
}

// readDatabase reads one snapshot of the database and reports whether accounts can be read from it.
func (r *Report) readDatabase(ctx context.Context, cfg Config) (readable bool, err error) {
	tx, err := cfg.Conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // nothing was written
	// The role may have limits for the statements of a service. The time to wait for a lock is short here: a lock on
	// users keeps the service waiting too.
	if _, err := tx.Exec(ctx, "SELECT set_config('statement_timeout', '0', true), set_config('lock_timeout', '5s', true)"); err != nil {
		return false, err
	}
	plans, err := readPlans(cfg.Migrations)
	if err != nil {
		return false, err
	}
	s := &schema{tx: tx, report: r, plans: plans, clientPID: cfg.Conn.PgConn().PID()}
	whole, err := s.read(ctx)
	if err != nil || !whole {
		return false, err
	}
	if err := r.readAccounts(ctx, tx, cfg.Hash); err != nil {
		return false, fmt.Errorf("read the accounts: %w", err)
	}
	r.Database.AccountsRead = true
	if err := r.readGroups(ctx, tx, s.hasLookup); err != nil {
		return false, fmt.Errorf("read the shared addresses: %w", err)
	}
	r.Steps = steps(plans, r.Database.Accounts.Total)
	r.judgeIndexes(s.missing)
	if r.Applied {
		return true, nil
	}
	r.Blockers, err = Blockers(ctx, tx)
	if err != nil {
		return false, fmt.Errorf("read who holds locks: %w", err)
	}
	return true, nil
}

const (
	// minSecretBytes is the minimum of RFC 7518, section 3.2 for HS256.
	minSecretBytes = 32
	// longAcceptance is far above the life of the backends' longest tokens, a week.
	longAcceptance = 365 * 24 * time.Hour
)

// judgeKeys reports how the settings will treat the existing tokens.
func (r *Report) judgeKeys(k Keys, now time.Time) {
	s := k.Settings
	if !s.Enabled {
		r.warn(Finding{
			Code: "not_enabled", Text: "LATCHKEY_LEGACY_ENABLED is not set: `latchkey serve` would not accept the older backends' tokens, nor serve their contract",
			Right: "set LATCHKEY_LEGACY_ENABLED=true, their key and secret, and LATCHKEY_LEGACY_ACCEPT_UNTIL",
		})
	}
	if s.GoKey && !k.GoProved {
		r.warn(Finding{
			Code: "go_key_unproved", Text: "Redis cannot show whether LATCHKEY_LEGACY_RS256_PUBLIC_KEY_FILE is the Go backend's key, because it has no token that the key has signed",
			Right: "put one of its access or refresh tokens into a file and add `--token FILE`",
		})
	}
	if s.RustSecret && k.RustSecretBytes < minSecretBytes {
		r.warn(Finding{
			Code: "short_secret", Text: fmt.Sprintf("LATCHKEY_LEGACY_HS256_SECRET has %d bytes: somebody who guesses it from one token can make tokens of any account until LATCHKEY_LEGACY_ACCEPT_UNTIL", k.RustSecretBytes),
			Right: fmt.Sprintf("a secret of %d bytes or more (RFC 7518, section 3.2), or an early LATCHKEY_LEGACY_ACCEPT_UNTIL", minSecretBytes),
		})
	}
	if r.Redis != nil {
		r.judgeTokens(s)
	}
	if s.AcceptUntil == nil {
		if !s.Enabled && (s.GoKey || s.RustSecret) {
			r.warn(Finding{Code: "accept_until_missing", Text: "LATCHKEY_LEGACY_ACCEPT_UNTIL is not set: without it `latchkey serve` does not accept tokens of the older backends", Right: "the day when the move is done, such as " + now.AddDate(0, 1, 0).UTC().Format(time.RFC3339)})
		}
		return
	}
	switch {
	case !s.AcceptUntil.After(now):
		r.warn(Finding{Code: "accept_until_past", Text: "LATCHKEY_LEGACY_ACCEPT_UNTIL (" + s.AcceptUntil.Format(time.RFC3339) + ") is in the past: no token of the older backends is accepted"})
	case s.AcceptUntil.Sub(now) > longAcceptance:
		r.warn(Finding{
			Code: "accept_until_far", Text: "LATCHKEY_LEGACY_ACCEPT_UNTIL (" + s.AcceptUntil.Format(time.RFC3339) + ") is over a year away: a leaked key of an older backend works for as long",
			Right: "some weeks: the older backends' longest tokens live for 7 days",
		})
	}
}

// judgeTokens compares the refresh tokens in Redis with the keys that are set.
func (r *Report) judgeTokens(s Settings) {
	if n := r.Redis.GoRefresh.Total; n > 0 && !s.GoKey {
		r.warn(Finding{
			Code: "no_go_key", Count: n, Text: fmt.Sprintf("Redis has %d refresh tokens of the Go backend, and LATCHKEY_LEGACY_RS256_PUBLIC_KEY_FILE is not set: their owners would have to log in again", n),
			Right: "the file with the Go backend's public key",
		})
	}
	n := r.Redis.RustRefresh.Total
	if n == 0 {
		return
	}
	genuine := r.Redis.RustRefresh.Genuine
	switch {
	case genuine == nil && !s.RustSecret:
		r.warn(Finding{
			Code: "no_rust_secret", Count: n, Text: fmt.Sprintf("Redis has %d refresh tokens of the Rust backend, and LATCHKEY_LEGACY_HS256_SECRET is not set: their owners would have to log in again", n),
			Right: "the exact secret of the Rust backend",
		})
	case genuine == nil: // it was set and could not be used, which is reported already
	case *genuine == 0:
		r.Problems = append(r.Problems, Finding{
			Code: "wrong_secret", Count: n, Text: fmt.Sprintf("LATCHKEY_LEGACY_HS256_SECRET is the wrong secret: 0 of %d refresh tokens of the Rust backend are signed with it", n),
			Right: "the exact secret of the Rust backend: no quotes, no line break, not decoded",
		})
	case *genuine < n:
		r.warn(Finding{
			Code: "some_of_another_secret", Count: n - *genuine,
			Text:  fmt.Sprintf("%d of %d refresh tokens of the Rust backend are not signed with LATCHKEY_LEGACY_HS256_SECRET: their owners have to log in again", n-*genuine, n),
			Right: "nothing, if that backend's secret was changed within the last 7 days",
		})
	}
}
