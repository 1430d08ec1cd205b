package postgres_test

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// decidesNothing has the queries that read without a proof that the server is the primary, and why they may.
func decidesNothing() map[string]string {
	return map[string]string{
		"HoldersOf":                "tells why a write did nothing",
		"ExportUsers":              "an export may read a standby",
		"CountUsers":               "an export may read a standby",
		"SampleHashSettings":       "bounds the time of a login",
		"AppendUserRevocation":     "writes",
		"CountFactorFailure":       "writes",
		"AppendAllRevocation":      "writes",
		"AppendKeyRevocation":      "writes",
		"AppendKeysChanged":        "writes",
		"KeepForLegacy":            "writes",
		"TakeWrite":                "writes",
		"AppendSessionRevocations": "writes",
	}
}

// TestReadsProveThePrimary: each query that only reads fails on a server that is not the primary, or is known to decide
// nothing.
func TestReadsProveThePrimary(t *testing.T) {
	t.Parallel()
	files, err := fs.Glob(os.DirFS("../../sql/queries"), "*.sql")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	named := regexp.MustCompile(`(?m)^-- name: (\w+) :`)
	writes := regexp.MustCompile(`(?m)^(INSERT|UPDATE|DELETE|LOCK|WITH \w+ AS \(\s*(INSERT|UPDATE|DELETE))|\b(INSERT INTO|DELETE FROM|FOR UPDATE|FOR KEY SHARE)\b`)
	left := decidesNothing()
	for _, file := range files {
		text, err := os.ReadFile("../../sql/queries/" + file)
		if err != nil {
			t.Fatal(err)
		}
		at := named.FindAllSubmatchIndex(text, -1)
		for i, found := range at {
			end := len(text)
			if i+1 < len(at) {
				end = at[i+1][0]
			}
			name, query := string(text[found[2]:found[3]]), string(text[found[1]:end])
			_, exempt := left[name]
			delete(left, name)
			if !exempt && !strings.Contains(query, "latchkey_on_primary()") && !writes.MatchString(query) {
				t.Errorf("%s in %s only reads: add latchkey_on_primary() to its conditions, or say in decidesNothing why it decides nothing", name, file)
			}
		}
	}
	for name := range left {
		t.Errorf("there is no query %s any more", name)
	}
}

// TestReadsFailElsewhere: on another server they fail, also if they find nothing.
func TestReadsFailElsewhere(t *testing.T) {
	t.Parallel()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: testenv.Migrated(t) + "&default_transaction_read_only=on"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	ctx, q := t.Context(), db.New()
	for name, read := range map[string]func() error{
		"FindUserForSession": func() error { _, err := q.FindUserForSession(ctx, pool, db.FindUserForSessionParams{}); return err },
		"FindUserByEmail":    func() error { _, err := q.FindUserByEmail(ctx, pool, db.FindUserByEmailParams{}); return err },
		"FindUserAt":         func() error { _, err := q.FindUserAt(ctx, pool, uuid.Nil); return err },
		"FindUser":           func() error { _, err := q.FindUser(ctx, pool, uuid.Nil); return err },
		"SessionRevoked":     func() error { _, err := q.SessionRevoked(ctx, pool, uuid.Nil); return err },
		"SessionOfUserRevoked": func() error {
			_, err := q.SessionOfUserRevoked(ctx, pool, db.SessionOfUserRevokedParams{})
			return err
		},
		"RevokedSessions":  func() error { _, err := q.RevokedSessions(ctx, pool, db.RevokedSessionsParams{}); return err },
		"LedgerHead":       func() error { _, err := q.LedgerHead(ctx, pool); return err },
		"ConfirmReplica":   func() error { _, err := q.ConfirmReplica(ctx, pool, db.ConfirmReplicaParams{}); return err },
		"RevocationsAfter": func() error { _, err := q.RevocationsAfter(ctx, pool, db.RevocationsAfterParams{Page: 1}); return err },
		"RevocationsInForce": func() error {
			_, err := q.RevocationsInForce(ctx, pool, db.RevocationsInForceParams{Page: 1})
			return err
		},
		"NotedHashSettings": func() error { _, err := q.NotedHashSettings(ctx, pool); return err },
		"ListReplicas":      func() error { _, err := q.ListReplicas(ctx, pool); return err },
		"ListSigningKeys":   func() error { _, err := q.ListSigningKeys(ctx, pool); return err },
		"FindSecret": func() error {
			_, err := q.FindSecret(ctx, pool, db.FindSecretParams{Purpose: "password_reset", Asker: []byte{}, TokenHash: []byte{1}, Now: time.Now()})
			return err
		},
		"LegacySpent":     func() error { _, err := q.LegacySpent(ctx, pool, []byte{1}); return err },
		"FindLegacyTrade": func() error { _, err := q.FindLegacyTrade(ctx, pool, []byte{1}); return err },
		"SessionMark":     func() error { _, err := q.SessionMark(ctx, pool, db.SessionMarkParams{}); return err },
		"ImportedPeppers": func() error { _, err := q.ImportedPeppers(ctx, pool); return err },
		"PepperServed":    func() error { _, err := q.PepperServed(ctx, pool, ""); return err },
		"CountPeppered":   func() error { _, err := q.CountPeppered(ctx, pool, ""); return err },
		"TakeWrite":       func() error { return q.TakeWrite(ctx, pool) },
	} {
		if err := read(); !postgres.IsReadOnly(err) || !postgres.IsUnavailable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestConnectionsToAFormerPrimaryGo: after one refused write all connections of the pool are closed.
func TestConnectionsToAFormerPrimaryGo(t *testing.T) {
	t.Parallel()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: testenv.Migrated(t), MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	pids := func() map[int]bool {
		found := map[int]bool{}
		conns := pool.AcquireAllIdle(t.Context())
		for len(conns) < 4 {
			conn, err := pool.Acquire(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
		}
		for _, conn := range conns {
			var pid int
			if err := conn.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
				t.Fatal(err)
			}
			found[pid] = true
			conn.Release()
		}
		return found
	}
	before := pids()
	if _, err := pool.Exec(t.Context(), "SET default_transaction_read_only = on"); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, 30*time.Second, "a write was refused", func() bool {
		return postgres.IsReadOnly(db.New().TakeWrite(t.Context(), pool))
	})
	testenv.Eventually(t, 30*time.Second, "none of the former connections is left", func() bool {
		for pid := range pids() {
			if before[pid] {
				return false
			}
		}
		return true
	})
	if err := db.New().TakeWrite(t.Context(), pool); err != nil {
		t.Error(err)
	}
}
