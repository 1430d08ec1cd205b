package server_test

import (
	"slices"
	"testing"
	"time"

	argon "github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/server"
)

// TestSweep deletes what has no more use, and nothing that has.
func TestSweep(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	other := signUp(t, s, "bob@example.com")
	now := s.Clock.Now()
	execSQL(t, s, `INSERT INTO password_resets (user_id, token_hash, created_at, expires_at)
		SELECT id, sha256(email::bytea), $1::timestamptz, $1 + CASE WHEN id = $2 THEN interval '0' ELSE interval '1 second' END FROM users`, now, other.GetId())
	const retention = 90 * 24 * time.Hour
	execSQL(t, s, "UPDATE audit_events SET created_at = $1", now.Add(-retention))
	execSQL(t, s, "UPDATE audit_events SET created_at = created_at - interval '1 second' WHERE user_id = $1", other.GetId())
	upkeep := server.Upkeep{Pool: s.Pool, AuditRetention: retention, Now: s.Clock.Now}
	if err := upkeep.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"password_resets", "audit_events"} {
		all, gone := count(t, s, "SELECT count(*) FROM "+table), count(t, s, "SELECT count(*) FROM "+table+" WHERE user_id = $1", other.GetId())
		if all != 1 || gone != 0 {
			t.Errorf("%s: %d left, %d of them old", table, all, gone)
		}
	}
	// Rows of the ledger that say nothing new go, but for the newest.
	for _, keep := range []string{"-1 hour", "1 hour", "-1 hour"} {
		execSQL(t, s, "SELECT latchkey_append_revocation('all', NULL, NULL, NULL, NULL, now() + $1::interval)", keep)
	}
	if err := upkeep.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "SELECT count(*) FROM revocations"); n != 2 || count(t, s, "SELECT count(*) FROM revocations r, ledger_head h WHERE r.seq = h.seq") != 1 {
		t.Errorf("%d rows of the ledger are left, want the one in force and the newest", n)
	}
	execSQL(t, s, `INSERT INTO legacy_spent (token_hash, kind, user_id, spent_at, keep_until)
		SELECT sha256(age::text::bytea), 'refresh', gen_random_uuid(), $1, $1::timestamptz + age * interval '1 second' FROM generate_series(-1, 1) AS age`, now)
	if err := upkeep.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "SELECT count(*) FROM legacy_spent WHERE keep_until > $1", now); n != 1 || count(t, s, "SELECT count(*) FROM legacy_spent") != 1 {
		t.Errorf("%d spent tokens are left of those that are refused anyway", n)
	}
	execSQL(t, s, "ALTER TABLE audit_events RENAME TO audit_events_gone")
	if err := upkeep.Sweep(t.Context()); err == nil {
		t.Error("a failure was not told")
	}
}

func TestStoredParams(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	strong := testenv.Start(t, testenv.Options{DatabaseURL: s.DatabaseURL, RedisURL: s.RedisURL, Argon2: argon.Params{MemoryKiB: 128, Time: 2, Threads: 2}})
	signUp(t, s, email)
	signUp(t, s, "bob@example.com")
	signUp(t, strong, "eve@example.com")
	for address, hash := range map[string]string{"a@b": "not a hash", "c@d": "$argon2id$v=19$m=nonsense$x", "e@f": "$2a$10$abcdefghijklmnopqrstuv"} {
		execSQL(t, s, "INSERT INTO users (email, password_hash, first_name, last_name) VALUES ($1, $2, 'F', 'L')", address, hash)
	}
	got, err := server.StoredParams(t.Context(), s.Pool)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(got, func(a, b argon.Decoy) int { return int(b.Weight - a.Weight) })
	want := []argon.Decoy{
		{Params: argon.Params{MemoryKiB: 64, Time: 1, Threads: 1}, Weight: 2},
		{Params: argon.Params{MemoryKiB: 128, Time: 2, Threads: 2}, Weight: 1},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
