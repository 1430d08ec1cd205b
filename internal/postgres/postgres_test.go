package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func open(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: url, MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func TestConnectionsHaveLimits(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	pool := open(t, url)
	for setting, want := range map[string]string{
		"statement_timeout": "10s", "idle_in_transaction_session_timeout": "5s", "application_name": "latchkey",
	} {
		var got string
		if err := pool.QueryRow(t.Context(), "SELECT current_setting($1)", setting).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, want %s (%v)", setting, got, want, err)
		}
	}
	if got := pool.Config().MaxConns; got != 4 {
		t.Errorf("%d connections", got)
	}
	if err := postgres.CheckServer(t.Context(), pool); err != nil {
		t.Error(err)
	}
	// Settings in the operator's URL take precedence.
	own := open(t, url+"&statement_timeout=7s&application_name=mine")
	var timeout, name string
	err := own.QueryRow(t.Context(), "SELECT current_setting('statement_timeout'), current_setting('application_name')").Scan(&timeout, &name)
	if err != nil || timeout != "7s" || name != "mine" {
		t.Errorf("%s, %s, %v", timeout, name, err)
	}
}

func TestOpenHidesThePassword(t *testing.T) {
	t.Parallel()
	_, err := postgres.Open(t.Context(), postgres.Config{URL: "postgres://u:hunter2secret@h:notaport/db"})
	if err == nil || strings.Contains(err.Error(), "hunter2secret") {
		t.Errorf("got %v", err)
	}
}

func TestUnfitServer(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.EmptyDatabase(t))
	name := "latin_" + strings.ReplaceAll(time.Now().Format("150405.000000"), ".", "")
	mustExec(t, conn, "CREATE DATABASE "+name+" ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
	t.Cleanup(func() {
		_, err := conn.Exec(context.WithoutCancel(t.Context()), "DROP DATABASE "+name+" WITH (FORCE)")
		if err != nil {
			t.Error(err)
		}
	})
	cfg := conn.Config().ConnString()
	url := strings.Replace(cfg, "/"+conn.Config().Database, "/"+name, 1)
	err := postgres.CheckServer(t.Context(), open(t, url))
	var unfit *postgres.UnfitError
	if !errors.As(err, &unfit) || !strings.Contains(err.Error(), "LATIN1") {
		t.Errorf("got %v", err)
	}
}

func TestInTx(t *testing.T) {
	t.Parallel()
	pool := open(t, testenv.EmptyDatabase(t))
	if _, err := pool.Exec(t.Context(), "CREATE TABLE n (i int PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	insert := func(ctx context.Context, i int, then error) error {
		return postgres.InTx(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "INSERT INTO n VALUES ($1)", i); err != nil {
				return err
			}
			return then
		})
	}
	if err := insert(t.Context(), 1, nil); err != nil {
		t.Fatal(err)
	}
	failure := errors.New("no")
	if err := insert(t.Context(), 2, failure); !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	twice := insert(t.Context(), 1, nil)
	if pg, ok := errors.AsType[*pgconn.PgError](twice); !ok || pg.Code != "23505" || pg.ConstraintName != "n_pkey" || postgres.IsUnavailable(twice) {
		t.Errorf("got %v", twice)
	}
	// If the caller hangs up inside, nothing stays: no row, no lock and no connection.
	ctx, cancel := context.WithCancel(t.Context())
	err := postgres.InTx(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO n VALUES (3)"); err != nil {
			return err
		}
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// The same after a panic.
	func() {
		defer func() { _ = recover() }()
		_ = postgres.InTx(t.Context(), pool, func(tx pgx.Tx) error {
			_, _ = tx.Exec(t.Context(), "INSERT INTO n VALUES (4)")
			panic("x")
		})
	}()
	var n int
	if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM n").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d rows, %v", n, err)
	}
	if acquired := pool.Stat().AcquiredConns(); acquired != 0 {
		t.Errorf("%d connections are not given back", acquired)
	}
}

func TestIsUnavailable(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabase(t)
	pool := open(t, url)
	ask := func(ctx context.Context, on *pgxpool.Pool, query string) error {
		_, err := on.Exec(ctx, query)
		return err
	}
	for name, query := range map[string]string{"syntax": "SELEC", "no table": "SELECT * FROM no_such_table", "cast": "SELECT 'x'::int"} {
		if err := ask(t.Context(), pool, query); err == nil || postgres.IsUnavailable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	slow, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	proxy := testenv.NewProxy(t, url)
	cut := open(t, proxy.URL())
	if err := ask(t.Context(), cut, "SELECT 1"); err != nil {
		t.Fatal(err)
	}
	proxy.Cut()
	nowhere := open(t, "postgres://127.0.0.1:1/x")
	for name, err := range map[string]error{
		"timeout":            ask(slow, pool, "SELECT pg_sleep(10)"),
		"statement timeout":  ask(t.Context(), pool, "SET statement_timeout = 10; SELECT pg_sleep(10)"),
		"terminated":         ask(t.Context(), pool, "SELECT pg_terminate_backend(pg_backend_pid())"),
		"cut":                ask(t.Context(), cut, "SELECT 1"),
		"cut again":          ask(t.Context(), cut, "SELECT 1"),
		"nobody listens":     ask(t.Context(), nowhere, "SELECT 1"),
		"read-only":          ask(t.Context(), pool, "SET transaction_read_only = on; CREATE TABLE t ()"),
		"network":            fmt.Errorf("x: %w", &net.OpError{Op: "read", Err: errors.New("reset")}),
		"connection is gone": fmt.Errorf("x: %w", net.ErrClosed),
	} {
		if !postgres.IsUnavailable(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := ask(gone, pool, "SELECT 1"); !errors.Is(err, context.Canceled) {
		t.Errorf("hung up: %v", err)
	}
	if postgres.IsUnavailable(errors.New("anything")) || postgres.IsUnavailable(pgx.ErrNoRows) {
		t.Error("an answer is no outage")
	}
}

// TestIsUnavailableByCode: codes with which the server reports its own state, and codes with which it reports a
// statement.
func TestIsUnavailableByCode(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"08006": true, "28P01": true, "3D000": true, "40001": true, "40P01": true, "53300": true, "57P01": true, "57P03": true,
		"58030": true, "25006": true, "25P03": true, "55P03": true,
		"23505": false, "42P01": false, "22P02": false, "25P02": false, "55000": false, "XX000": false,
	} {
		if got := postgres.IsUnavailable(fmt.Errorf("x: %w", &pgconn.PgError{Code: code})); got != want {
			t.Errorf("%s: %v", code, got)
		}
	}
}
