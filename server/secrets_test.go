package server_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestNoSecretIsStoredOrLogged uses whole accounts, with every kind of error. Then it looks for each password and token
// in full dumps of both stores and in all logs: as text, in hex and in base64.
func TestNoSecretIsStoredOrLogged(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	secrets := map[string]string{}
	keep := func(name, secret string) {
		if len(secret) < 8 {
			t.Fatalf("%s is %q", name, secret)
		}
		secrets[name] = secret
	}
	keepTokens := func(name string, tokens *latchkeyv1.Tokens) {
		keep(name+" access token", tokens.GetAccessToken())
		keep(name+" access token's signature", tokens.GetAccessToken()[strings.LastIndex(tokens.GetAccessToken(), ".")+1:])
		keep(name+" refresh token", tokens.GetRefreshToken())
		keep(name+" refresh token's MAC", tokens.GetRefreshToken()[len(tokens.GetRefreshToken())-40:])
	}
	keep("password", password)
	keep("wrong password", "wrong horse battery")
	keep("new password", newPassword)
	keep("changed password", "a third fine password")
	keep("wrong current password", "a wrong current password")
	keep("refused new password", "qwertyuiop123")
	keep("request id", "a-request-id-of-a-client")
	keep("admin key", testenv.AdminKey)
	keep("service key", testenv.ServiceKey)
	keep("wrong key", "a key that nobody configured")

	signedUp := signUp(t, s, email)
	first := logIn(t, s, email)
	keepTokens("first", first)
	_ = tryLogin(t.Context(), s, email, "wrong horse battery")
	_ = tryLogin(t.Context(), s, "nobody@example.com", "wrong horse battery")
	_, _ = s.Auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: email, Password: password, FirstName: "A", LastName: "B"})
	_, _ = s.Auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{Email: "bad", Password: newPassword})
	second := refresh(t, s, first.GetRefreshToken(), "a-request-id-of-a-client")
	keepTokens("second", second)
	refresh(t, s, first.GetRefreshToken(), "a-request-id-of-a-client")
	third := refresh(t, s, second.GetRefreshToken(), "")
	keepTokens("third", third)
	s.Clock.Advance(testenv.Grace + 1)
	_, _ = tryRefresh(t.Context(), s, first.GetRefreshToken(), "") // reuse
	_, _ = tryRefresh(t.Context(), s, flip(third.GetRefreshToken(), 30), "")
	_, _ = s.Auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: third.GetAccessToken()})
	open := logIn(t, s, email)
	keepTokens("open", open)
	_, older := resetMail(t, s, email)
	keep("older reset token", older)
	_, resetToken := resetMail(t, s, email)
	keep("reset token", resetToken)
	_ = tryReset(t.Context(), s, resetToken, "password123")
	if err := tryReset(t.Context(), s, resetToken, newPassword); err != nil {
		t.Fatal(err)
	}
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: newPassword})
	if err != nil {
		t.Fatal(err)
	}
	caller := resp.GetTokens()
	keepTokens("caller's", caller)
	for current, next := range map[string]string{"a wrong current password": "a third fine password", newPassword: "qwertyuiop123", "": "x"} {
		if err := tryChange(t.Context(), s, caller, current, next); err == nil {
			t.Fatalf("changed from %q to %q", current, next)
		}
	}
	if err := tryChange(t.Context(), s, caller, newPassword, "a third fine password"); err != nil {
		t.Fatal(err)
	}
	listPage(t, s, caller, 0, "")
	revokeSession(t, s, caller, open.GetSessionId())
	if err := tryRevokeOthers(t, s, caller); err != nil {
		t.Fatal(err)
	}
	_, unspent := resetMail(t, s, email)
	keep("unspent reset token", unspent)
	// Operators, with every kind of key, and their calls about an account.
	for _, key := range []string{testenv.AdminKey, testenv.ServiceKey, "a key that nobody configured", open.GetAccessToken()} {
		ctx := testenv.WithKey(t.Context(), key)
		_, _ = s.Admin.ListUsers(ctx, &latchkeyv1.ListUsersRequest{PageToken: "forged"})
		_, _ = s.Admin.GetUser(ctx, byEmail(email))
		_, _ = s.Admin.SuspendUser(ctx, &latchkeyv1.SuspendUserRequest{UserId: signedUp.GetId()})
		_, _ = s.Admin.ReactivateUser(ctx, &latchkeyv1.ReactivateUserRequest{UserId: signedUp.GetId()})
	}
	if audited(t, s, "user_reactivated", signedUp.GetId()) != 1 {
		t.Error("the operator was not let in")
	}
	// An internal error and a lost store are logged with everything that is known.
	execSQL(t, s, "ALTER TABLE audit_events RENAME TO audit_events_gone")
	_, _ = s.Admin.RevokeAllSessions(asAdmin(t), &latchkeyv1.RevokeAllSessionsRequest{})
	_ = tryLogin(t.Context(), s, email, newPassword)
	_ = tryChange(t.Context(), s, caller, "a third fine password", newPassword)
	_ = tryLogout(t.Context(), s, open.GetRefreshToken())
	execSQL(t, s, "ALTER TABLE audit_events_gone RENAME TO audit_events")

	places := map[string][]byte{
		"PostgreSQL": dumpPostgres(t, s),
		"Redis":      dumpRedis(t, s),
		"the log":    s.Logs.Bytes(),
	}
	// The search finds text that is there.
	if !bytes.Contains(places["PostgreSQL"], []byte(email)) || !bytes.Contains(places["PostgreSQL"], []byte("$argon2id$")) ||
		!bytes.Contains(places["Redis"], []byte("latchkey:session:")) || !bytes.Contains(places["the log"], []byte("Login")) {
		t.Fatal("a dump is not what it should be")
	}
	searchFor(t, secrets, places)
	for _, hash := range []string{"$argon2id$"} {
		if bytes.Contains(places["the log"], []byte(hash)) || bytes.Contains(places["Redis"], []byte(hash)) {
			t.Errorf("a password hash is outside PostgreSQL")
		}
	}
	if bytes.Contains(places["Redis"], []byte(strings.ToLower(email))) {
		t.Error("the address is in Redis")
	}
}

// searchFor looks for each secret in each dump.
func searchFor(t *testing.T, secrets map[string]string, places map[string][]byte) {
	t.Helper()
	for name, secret := range secrets {
		raw := []byte(secret)
		if decoded, err := base64.RawURLEncoding.DecodeString(secret); err == nil && len(decoded) >= 16 {
			raw = decoded
		}
		for form, text := range map[string]string{
			"as it is": secret, "in hex": hex.EncodeToString(raw), "its text in hex": hex.EncodeToString([]byte(secret)),
			"in base64": strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(secret)), "="), "as bytes": string(raw),
		} {
			for place, dump := range places {
				if bytes.Contains(dump, []byte(text)) {
					t.Errorf("the %s is in %s (%s)", name, place, form)
				}
			}
		}
	}
}

// dumpPostgres returns every row of every table as text, bytea in hex.
func dumpPostgres(t *testing.T, s *testenv.Server) []byte {
	t.Helper()
	rows, err := s.Pool.Query(t.Context(), "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace")
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, table)
	}
	if rows.Err() != nil || len(tables) < 8 {
		t.Fatalf("tables %v: %v", tables, rows.Err())
	}
	var dump bytes.Buffer
	for _, table := range tables {
		lines, err := s.Pool.Query(t.Context(), fmt.Sprintf("SELECT t::text FROM %q AS t", table))
		if err != nil {
			t.Fatal(err)
		}
		for lines.Next() {
			var line string
			if err := lines.Scan(&line); err != nil {
				t.Fatal(err)
			}
			dump.WriteString(line + "\n")
		}
		if lines.Err() != nil {
			t.Fatal(lines.Err())
		}
	}
	return dump.Bytes()
}

// dumpRedis returns every key with its value.
func dumpRedis(t *testing.T, s *testenv.Server) []byte {
	t.Helper()
	keys, err := s.Redis.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) == 0 {
		t.Fatalf("keys %v: %v", keys, err)
	}
	var dump bytes.Buffer
	for _, key := range keys {
		kind, err := s.Redis.Type(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		var value any
		switch kind {
		case "hash":
			value, err = s.Redis.HGetAll(t.Context(), key).Result()
		case "zset":
			value, err = s.Redis.ZRangeWithScores(t.Context(), key, 0, -1).Result()
		case "string":
			value, err = s.Redis.Get(t.Context(), key).Result()
		default:
			t.Fatalf("%s is a %s: dump it too", key, kind)
		}
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&dump, "%s %v %x\n", key, value, value)
	}
	return dump.Bytes()
}

// TestPgDumpHoldsNoSecret makes the same search in an operator's backup, with pg_dump if it is installed beside the
// server.
func TestPgDumpHoldsNoSecret(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	_, resetToken := resetMail(t, s, email)
	program, err := exec.LookPath("pg_dump")
	if err != nil {
		// Downloaded servers come without pg_dump. The rows show the same.
		if dump := dumpPostgres(t, s); bytes.Contains(dump, []byte(resetToken)) || bytes.Contains(dump, []byte(tokens.GetRefreshToken())) {
			t.Error("a token is in the database")
		}
		return
	}
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), program, s.DatabaseURL).Output()
	if err != nil || !bytes.Contains(out, []byte(email)) {
		t.Fatalf("pg_dump: %v", err)
	}
	for name, secret := range map[string]string{"refresh token": tokens.GetRefreshToken(), "access token": tokens.GetAccessToken(), "reset token": resetToken, "password": password} {
		if bytes.Contains(out, []byte(secret)) || bytes.Contains(out, []byte(hex.EncodeToString([]byte(secret)))) {
			t.Errorf("the %s is in the dump", name)
		}
	}
}
