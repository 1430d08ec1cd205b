package main

import (
	"os/exec"
	"strings"
	"testing"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/legacy/takeover"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// rustDatabase turns the Go backend's database into one that the Rust backend has migrated with sqlx.
const rustDatabase = `
	DROP TABLE schema_migrations;
	CREATE TABLE _sqlx_migrations (
		version bigint PRIMARY KEY, description text NOT NULL, installed_on timestamptz NOT NULL DEFAULT now(),
		success boolean NOT NULL, checksum bytea NOT NULL, execution_time bigint NOT NULL);
	INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES
		(20240101000000, 'create users', true, sha384('1'), 1000000);`

// handMade is the table as somebody types it into psql: it has the same columns, and PostgreSQL's defaults otherwise.
const handMade = `
	ALTER TABLE users RENAME TO former;
	CREATE TABLE users (
		id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
		is_verified boolean NOT NULL DEFAULT false,
		email text NOT NULL,
		password_hash varchar(255) NOT NULL,
		first_name text NOT NULL DEFAULT '',
		last_name text NOT NULL DEFAULT '',
		phone text,
		is_active boolean NOT NULL DEFAULT true,
		last_login_at timestamptz,
		created_at timestamptz(3) NOT NULL DEFAULT now(),
		updated_at timestamptz NOT NULL DEFAULT now());
	CREATE UNIQUE INDEX one_account_each ON users (email);
	INSERT INTO users (id, email, password_hash, first_name, last_name, is_active, is_verified, last_login_at, created_at, updated_at)
		SELECT id, email, password_hash, first_name, last_name, is_active, is_verified, last_login_at, created_at, updated_at FROM former;
	DROP TABLE former, schema_migrations;
	DROP FUNCTION update_updated_at_column;`

// typeIn runs statements with psql, as an operator does. On machines without psql pgx sends the same text.
func typeIn(t *testing.T, url, statements string) {
	t.Helper()
	psql, err := exec.LookPath("psql")
	if err != nil {
		runSQL(t, url, statements)
		return
	}
	cmd := exec.CommandContext(t.Context(), psql, "--no-psqlrc", "--quiet", "--single-transaction", "--set", "ON_ERROR_STOP=1", "--dbname", url)
	cmd.Stdin = strings.NewReader(statements)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("psql: %v\n%s", err, out)
	}
}

// everybodyLogsIn serves from the stores of an older backend, and logs in with each account.
func everybodyLogsIn(t *testing.T, old *testenv.ExistingBackend) *testenv.Server {
	t.Helper()
	s := testenv.Start(t, testenv.Options{Legacy: old, WallClock: true})
	logged := 0
	for _, user := range old.Users {
		resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: user.Email, Password: user.Password})
		if user.Disabled {
			if err == nil {
				t.Errorf("%s is disabled and logs in", user.Email)
			}
			continue
		}
		if err != nil || resp.GetUser().GetId() != user.ID.String() {
			t.Errorf("%s: %v, %v", user.Email, resp.GetUser(), err)
			continue
		}
		logged++
	}
	if logged < 14 {
		t.Errorf("%d accounts have logged in", logged)
	}
	return s
}

// TestTakeoverOfOtherDatabases: one of the Rust backend, and one that was made by hand.
func TestTakeoverOfOtherDatabases(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ schema, told string }{
		"the Rust backend's": {rustDatabase, "migrated by sqlx: _sqlx_migrations is at version 20240101000000"},
		"made by hand":       {handMade, "no_record: there is neither schema_migrations nor _sqlx_migrations"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			old, settings := oldStores(t)
			typeIn(t, old.DatabaseURL, test.schema)
			before := picture(t, old.DatabaseURL)
			code, out, err := takeoverRun(t, settings, "check")
			if code != exitDecisions || !strings.Contains(out, test.told) || !strings.Contains(out, "15 accounts: 1 disabled") {
				t.Errorf("check: exit %d, %v\n%s", code, err, out)
			}
			same(t, "what check only reads", picture(t, old.DatabaseURL), before)
			takeoverApply(t, settings)
			if code, report := takeoverCheck(t, settings); code != exitDone || report.Status != takeover.Clear || !report.Applied {
				t.Errorf("check after: exit %d, %+v", code, report.Problems)
			}
			s := everybodyLogsIn(t, old)
			for _, session := range old.Sessions {
				if resp, err := s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: session.AccessToken}); err != nil || !resp.GetValid() {
					t.Errorf("a token of %s: %v, %v", session.Email, resp.GetReason(), err)
				}
			}
			if _, err := s.Auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: "new@example.com", Password: "Correct-Horse-7-battery", FirstName: "N", LastName: "W"}); err != nil {
				t.Errorf("sign up: %v", err)
			}
		})
	}
}
