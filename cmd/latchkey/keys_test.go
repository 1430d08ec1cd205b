package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/ledger"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/signing"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// keysDatabase returns a migrated database with the settings of the command, and a pool to read it.
func keysDatabase(t *testing.T) (map[string]string, *pgxpool.Pool) {
	t.Helper()
	settings := serveSettings(t)
	settings["LATCHKEY_DATABASE_URL"] = testenv.Migrated(t)
	return settings, openTestPool(t, settings["LATCHKEY_DATABASE_URL"])
}

func openTestPool(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url, MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func runKeys(t *testing.T, settings map[string]string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	if err := run(t.Context(), append([]string{"keys"}, args...), pairs(settings), &out); err != nil {
		t.Fatalf("keys %v: %v\n%s", args, err, out.String())
	}
	return out.String()
}

// keysByState returns the key ids of each state.
func keysByState(t *testing.T, settings map[string]string) map[signing.State][]string {
	t.Helper()
	var listed []listedKey
	if err := json.Unmarshal([]byte(runKeys(t, settings, "list", "--json")), &listed); err != nil {
		t.Fatal(err)
	}
	states := map[signing.State][]string{}
	for _, key := range listed {
		states[key.State] = append(states[key.State], key.KeyID)
		if key.Created.IsZero() || key.Activated.IsZero() != (key.State == signing.StatePending) ||
			key.Retired.IsZero() != (key.State == signing.StatePending || key.State == signing.StateActive) {
			t.Errorf("times of %+v", key)
		}
	}
	return states
}

// TestKeys runs each subcommand beside a running service.
func TestKeys(t *testing.T) {
	t.Parallel()
	settings, _ := keysDatabase(t)
	settings["LATCHKEY_TOKEN_ALGORITHM"] = "EdDSA"
	addrs := start(t, pairs(settings), "serve").addrs(t)
	delete(settings, "LATCHKEY_TOKEN_ALGORITHM") // the operator's shell has other settings
	auth := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, addrs["grpc"]))
	signUp := &latchkeyv1.SignUpRequest{Email: "ada@example.com", Password: "correct horse battery", FirstName: "A", LastName: "B"}
	if _, err := auth.SignUp(t.Context(), signUp); err != nil {
		t.Fatal(err)
	}
	login, err := auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: signUp.GetEmail(), Password: signUp.GetPassword()})
	if err != nil {
		t.Fatal(err)
	}
	valid := func(accessToken string) bool {
		resp, err := auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: accessToken})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetValid()
	}
	first := keysByState(t, settings)[signing.StateActive][0]
	if out := runKeys(t, settings, "list"); !strings.HasPrefix(out, "KID") || !strings.Contains(out, first) || !strings.Contains(out, "EdDSA") || strings.Count(out, "\n") != 2 {
		t.Errorf("list:\n%s", out)
	}
	if metrics := get(t, http.DefaultClient, "http://"+addrs["ops"]+"/metrics"); !strings.Contains(metrics, "latchkey_signing_key_age_seconds ") {
		t.Error("the age of the key is no metric")
	}

	out := runKeys(t, settings, "rotate")
	pending := keysByState(t, settings)[signing.StatePending]
	if len(pending) != 1 || !strings.HasPrefix(out, pending[0]+" EdDSA: new -> pending\n"+pending[0]+" is published and begins to sign at ") {
		t.Errorf("rotate: %v\n%s", pending, out)
	}
	if again := runKeys(t, settings, "rotate"); again != out[strings.Index(out, "\n")+1:] {
		t.Errorf("rotate again:\n%s", again)
	}
	out = runKeys(t, settings, "rotate", "--now")
	states := keysByState(t, settings)
	if !slices.Equal(states[signing.StateActive], pending) || !slices.Equal(states[signing.StateVerifyOnly], []string{first}) || !strings.Contains(out, "signs from now on") {
		t.Errorf("rotate --now: %v\n%s", states, out)
	}
	if !valid(login.GetTokens().GetAccessToken()) {
		t.Error("a rotation ended a token")
	}

	refreshed, err := auth.RefreshToken(t.Context(), &latchkeyv1.RefreshTokenRequest{RefreshToken: login.GetTokens().GetRefreshToken()})
	if err != nil || !valid(refreshed.GetTokens().GetAccessToken()) {
		t.Fatal(err)
	}
	for range 2 {
		out = runKeys(t, settings, "revoke", pending[0])
		if valid(refreshed.GetTokens().GetAccessToken()) || !valid(login.GetTokens().GetAccessToken()) {
			t.Error("not what the key signed ended, and that at once")
		}
		if !strings.HasSuffix(out, pending[0]+" is gone: no replica accepts what it signed\n") {
			t.Errorf("revoke:\n%s", out)
		}
	}
	states = keysByState(t, settings)
	if !slices.Equal(states[signing.StateGone], pending) || len(states[signing.StateActive]) != 1 {
		t.Errorf("revoke: %v", states)
	}
	err = run(t.Context(), []string{"keys", "revoke", "no-such-key"}, pairs(settings), io.Discard)
	if exitCode(err) != exitFailed || !strings.Contains(err.Error(), `"no-such-key"`) || !strings.Contains(err.Error(), "keys list") {
		t.Errorf("revoke of nothing: %v", err)
	}
}

// TestKeysNeedTheRightSecret: a key that is sealed with another secret would stop every replica.
func TestKeysNeedTheRightSecret(t *testing.T) {
	t.Parallel()
	settings, _ := keysDatabase(t)
	runKeys(t, settings, "rotate", "--now")
	active := keysByState(t, settings)[signing.StateActive][0]
	right := settings["LATCHKEY_SECRET_KEY"]
	for _, args := range [][]string{{"keys", "rotate"}, {"keys", "rotate", "--now"}, {"keys", "revoke", active}} {
		settings["LATCHKEY_SECRET_KEY"] = strings.Replace(right, "row0", "zzzz", 1)
		if err := run(t.Context(), args, pairs(settings), io.Discard); exitCode(err) != exitFailed || !strings.Contains(err.Error(), "LATCHKEY_SECRET_KEY_PREVIOUS") {
			t.Errorf("%v with a wrong one: %v", args, err)
		}
		delete(settings, "LATCHKEY_SECRET_KEY")
		if err := run(t.Context(), args, pairs(settings), io.Discard); exitCode(err) != exitUsage || !strings.HasPrefix(err.Error(), "LATCHKEY_SECRET_KEY is not set") {
			t.Errorf("%v without: %v", args, err)
		}
	}
	if states := keysByState(t, settings); len(states) != 1 || !slices.Equal(states[signing.StateActive], []string{active}) {
		t.Errorf("changed: %v", states)
	}
	url := settings["LATCHKEY_DATABASE_URL"]
	delete(settings, "LATCHKEY_DATABASE_URL")
	if err := run(t.Context(), []string{"keys", "list"}, pairs(settings), io.Discard); exitCode(err) != exitUsage || !strings.HasPrefix(err.Error(), "LATCHKEY_DATABASE_URL is not set") {
		t.Errorf("without a database: %v", err)
	}
	settings["LATCHKEY_DATABASE_URL"] = "postgres://127.0.0.1:1/none?connect_timeout=1"
	settings["LATCHKEY_SECRET_KEY"] = right
	if err := run(t.Context(), []string{"keys", "revoke", active}, pairs(settings), io.Discard); exitCode(err) != exitFailed {
		t.Errorf("database %s is not there: %v", url, err)
	}
}

// TestScheduleRunsWithTheService: if a key is old when the service starts, the next key follows it.
func TestScheduleRunsWithTheService(t *testing.T) {
	t.Parallel()
	settings, pool := keysDatabase(t)
	runKeys(t, settings, "rotate", "--now")
	if _, err := pool.Exec(t.Context(), "UPDATE signing_keys SET activated_at = activated_at - interval '49 hours'"); err != nil {
		t.Fatal(err)
	}
	settings["LATCHKEY_KEY_ROTATION"] = "48h"
	p := start(t, pairs(settings), "serve")
	addrs := p.addrs(t)
	var pending []string
	testenv.Eventually(t, patience, "the next key is there", func() bool {
		pending = keysByState(t, settings)[signing.StatePending]
		return len(pending) == 1
	})
	testenv.Eventually(t, patience, "it is published", func() bool {
		return strings.Contains(get(t, http.DefaultClient, "http://"+addrs["http"]+"/.well-known/jwks.json"), pending[0])
	})
	testenv.Eventually(t, patience, "it is logged", func() bool {
		return strings.Contains(p.text(&p.stderr), `"msg":"signing key","key_id":"`+pending[0]+`","algorithm":"ES256","from":"new","to":"pending"`)
	})
}

// join inserts the row of a replica that has applied nothing.
func join(t *testing.T, pool *pgxpool.Pool, lease time.Duration) uuid.UUID {
	t.Helper()
	id := uuid.New()
	err := db.New().JoinReplica(t.Context(), pool, db.JoinReplicaParams{ID: id, LeaseMs: int32(lease.Milliseconds())})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func head(t *testing.T, pool *pgxpool.Pool) int64 {
	t.Helper()
	seq, err := db.New().LedgerHead(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// TestKeysWaitForReplicas: rotate --now waits before the key signs. revoke waits before it reports success, also if the
// key was gone before.
func TestKeysWaitForReplicas(t *testing.T) {
	t.Parallel()
	settings, pool := keysDatabase(t)
	settings["LATCHKEY_REPLICA_LEASE"] = "300ms" // the replica's is longer
	runKeys(t, settings, "rotate", "--now")
	first := keysByState(t, settings)[signing.StateActive][0]
	replica := join(t, pool, ledger.MaxLease)
	begin := func(args ...string) (done chan error, said *bytes.Buffer) {
		before := head(t, pool)
		done, said = make(chan error, 1), &bytes.Buffer{}
		go func() { done <- run(t.Context(), append([]string{"keys"}, args...), pairs(settings), said) }()
		testenv.Eventually(t, patience, "it has made its change", func() bool { return head(t, pool) > before })
		return done, said
	}
	stillWaits := func(done chan error) {
		t.Helper()
		select {
		case err := <-done:
			t.Errorf("it did not wait: %v", err)
		case <-time.After(500 * time.Millisecond): // more than its own lease
		}
	}
	apply := func(done chan error) {
		t.Helper()
		err := db.New().SetReplicaApplied(t.Context(), pool, db.SetReplicaAppliedParams{ID: replica, AppliedSeq: head(t, pool)})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case err = <-done:
		case <-time.After(patience):
			err = errors.New("it waits although the replica has applied the row")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	done, _ := begin("rotate", "--now")
	stillWaits(done)
	states := keysByState(t, settings)
	if !slices.Equal(states[signing.StateActive], []string{first}) || len(states[signing.StatePending]) != 1 {
		t.Errorf("%v: it signs before the replica knows it", states)
	}
	apply(done)
	second := keysByState(t, settings)[signing.StateActive]
	if !slices.Equal(second, states[signing.StatePending]) {
		t.Errorf("%v signs", second)
	}

	done, said := begin("revoke", second[0])
	stillWaits(done)
	apply(done)
	if !strings.Contains(said.String(), "no replica accepts") {
		t.Errorf("revoke:\n%s", said)
	}
	if _, err := pool.Exec(t.Context(), "UPDATE replicas SET applied_seq = 0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // on a busy machine it connects for half a second
	defer cancel()
	var out bytes.Buffer
	err := run(ctx, []string{"keys", "revoke", second[0]}, pairs(settings), &out)
	if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "run the command again") || out.Len() != 0 {
		t.Errorf("revoke again, stopped: %v\n%s", err, out.String())
	}
}

// TestWaitWithoutPostgres: if the database is away right after the commit, the replicas' lease counts, and not that of
// this process.
func TestWaitWithoutPostgres(t *testing.T) {
	t.Parallel()
	settings, pool := keysDatabase(t)
	join(t, pool, ledger.MaxLease)
	database := testenv.NewProxy(t, settings["LATCHKEY_DATABASE_URL"])
	cfg, err := app.LoadSettings(pairs(map[string]string{"LATCHKEY_REPLICA_LEASE": "300ms"}), config.Tool)
	if err != nil {
		t.Fatal(err)
	}
	replicas, err := newLedger(t.Context(), cfg, openTestPool(t, database.URL()), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	database.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := replicas.Wait(ctx, head(t, pool)+1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v before the replica's lease was over", err)
	}
}

func TestKeysNeedTheSchema(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t) // an empty database
	for _, args := range [][]string{{"keys", "list"}, {"keys", "rotate"}, {"keys", "revoke", "x"}} {
		err := run(t.Context(), args, pairs(settings), io.Discard)
		if exitCode(err) != exitFailed || !strings.Contains(err.Error(), "latchkey migrate up") {
			t.Errorf("%v: got %v", args, err)
		}
	}
}
