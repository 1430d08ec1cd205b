package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const adminKey = "the-admin-key-of-a-test_0123456789abcdef"

// operator runs `latchkey admin` as a person at a shell does.
type operator struct {
	settings map[string]string
}

func newOperator(addr string) *operator {
	return &operator{map[string]string{"LATCHKEY_GRPC_ADDR": addr, "LATCHKEY_ADMIN_KEY": adminKey}}
}

func (o *operator) try(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := run(t.Context(), append([]string{"admin"}, args...), pairs(o.settings), &out)
	if strings.Contains(out.String(), adminKey) || err != nil && strings.Contains(err.Error(), adminKey) {
		t.Errorf("%v prints the key", args)
	}
	return out.String(), err
}

func (o *operator) do(t *testing.T, args ...string) string {
	t.Helper()
	out, err := o.try(t, args...)
	if err != nil {
		t.Fatalf("admin %v: %v", args, err)
	}
	return out
}

// refused expects the exit code and each of texts in the error, which is one line if the command line was right.
func (o *operator) refused(t *testing.T, code int, args []string, texts ...string) {
	t.Helper()
	out, err := o.try(t, args...)
	if exitCode(err) != code || out != "" {
		t.Errorf("admin %v: exit %d, printed %q: %v", args, exitCode(err), out, err)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("admin %v: %q is not in: %v", args, text, err)
		}
	}
	if code == exitFailed && strings.Contains(err.Error(), "\n") {
		t.Errorf("admin %v: several lines: %v", args, err)
	}
}

// keyed returns the settings of a service that knows the key, and another key.
func keyed(t *testing.T) map[string]string {
	t.Helper()
	settings := serveSettings(t)
	settings["LATCHKEY_ADMIN_KEY_SHA256"] = config.KeyHashes{config.Key("another key of an operator").Hash(), config.Key(adminKey).Hash()}.String()
	return settings
}

func signUpAt(t *testing.T, auth latchkeyv1.AuthServiceClient, address string) *latchkeyv1.User {
	t.Helper()
	resp, err := auth.SignUp(t.Context(), &latchkeyv1.SignUpRequest{
		Email: address, Password: "correct horse battery", FirstName: "Ada", LastName: "Lovelace",
	})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetUser()
}

// TestAdmin does everything that an operator does with accounts.
func TestAdmin(t *testing.T) {
	t.Parallel()
	settings := keyed(t)
	settings["LATCHKEY_DELETION_GRACE"] = "72h"
	p := start(t, pairs(settings), "serve")
	addr := p.addrs(t)["grpc"]
	auth := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, addr))
	const address = "ada@example.com"
	user := signUpAt(t, auth, address)
	// Older backends accepted any name.
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: settings["LATCHKEY_DATABASE_URL"], MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	if _, err := pool.Exec(t.Context(), "UPDATE users SET first_name = $1, last_name = $2", "Ada\x1b[2J", "Love\u202elace"); err != nil {
		t.Fatal(err)
	}
	o := newOperator(addr)
	login := func() (*latchkeyv1.Tokens, error) {
		resp, err := auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: address, Password: "correct horse battery"})
		return resp.GetTokens(), err
	}
	valid := func(tokens *latchkeyv1.Tokens) bool {
		t.Helper()
		resp, err := auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: tokens.GetAccessToken()})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetValid()
	}
	mustLogin := func() *latchkeyv1.Tokens {
		t.Helper()
		tokens, err := login()
		if err != nil || !valid(tokens) {
			t.Fatalf("log in: %v", err)
		}
		return tokens
	}

	for _, name := range []string{address, strings.ToUpper(address), user.GetId()} {
		out := o.do(t, "user", "get", name)
		for _, want := range []string{user.GetId(), address, "active", "never"} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is not in:\n%s", name, want, out)
			}
		}
		// Names do not control the terminal.
		if strings.ContainsAny(out, "\x1b\u202e") || !strings.Contains(out, "[2J Love") {
			t.Errorf("%q", out)
		}
	}
	tokens := mustLogin()
	var account struct {
		User struct {
			ID            string
			EmailVerified *bool
		}
		Suspended     *bool
		LastLoginTime string
	}
	parse := func(out string) {
		t.Helper()
		if err := json.Unmarshal([]byte(out), &account); err != nil || strings.Count(out, "\n") != 1 || account.User.ID != user.GetId() || account.Suspended == nil || account.User.EmailVerified == nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	parse(o.do(t, "user", "suspend", address, "--json"))
	if !*account.Suspended || account.LastLoginTime == "" || valid(tokens) {
		t.Errorf("suspended: %+v", account)
	}
	if _, err := login(); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a suspended account: %v", err)
	}
	parse(o.do(t, "user", "--json", "suspend", user.GetId())) // twice
	if out := o.do(t, "user", "get", address); !strings.Contains(out, "suspended") {
		t.Errorf("got\n%s", out)
	}
	if out := o.do(t, "user", "reactivate", user.GetId()); !strings.Contains(out, "active") || valid(tokens) {
		t.Errorf("got\n%s", out)
	}
	tokens = mustLogin()
	if out := o.do(t, "user", "revoke-sessions", address); !strings.Contains(out, user.GetId()) || valid(tokens) {
		t.Errorf("got\n%s", out)
	}
	tokens = mustLogin()
	other := mustLogin()
	if out := o.do(t, "user", "sessions", address); strings.Count(out, "\n") != 3 || !strings.Contains(out, tokens.GetSessionId()) || !strings.Contains(out, other.GetSessionId()) {
		t.Errorf("got\n%s", out)
	}
	if out := o.do(t, "user", "sessions", address, "--json", "--all", "--page-size=1"); strings.Count(out, "\n") != 2 || strings.Index(out, other.GetSessionId()) > strings.Index(out, tokens.GetSessionId()) {
		t.Errorf("got\n%s", out)
	}
	if out := o.do(t, "user", "events", address, "--kind", "user_suspended", "--kind=user_reactivated", "--since", "1h"); strings.Count(out, "\n") != 3 ||
		strings.Count(out, "operator:") != 2 || strings.Index(out, "user_reactivated") > strings.Index(out, "user_suspended") {
		t.Errorf("got\n%s", out)
	}
	if out := o.do(t, "events", "--json", "--page-size=2", "--until=2020-01-01T00:00:00Z"); out != `{"events":[],"nextPageToken":""}`+"\n" {
		t.Errorf("got\n%s", out)
	}
	o.refused(t, exitUsage, []string{"events", "--kind", "user_suspend"}, "there is no such kind")
	o.refused(t, exitUsage, []string{"events", "--since", "yesterday"}, "2026-11-30T06:00:00Z")
	o.refused(t, exitUsage, []string{"events", address}, "takes no")
	for range 2 {
		if out := o.do(t, "user", "revoke-session", address, other.GetSessionId()); !strings.Contains(out, other.GetSessionId()) || valid(other) || !valid(tokens) {
			t.Errorf("got\n%s", out)
		}
	}
	if out := o.do(t, "user", "sessions", address); strings.Contains(out, other.GetSessionId()) {
		t.Errorf("got\n%s", out)
	}
	if out := o.do(t, "user", "factors", address); !strings.Contains(out, "password") || strings.Count(out, "\n") != 2 {
		t.Errorf("got\n%s", out)
	}
	if out := o.do(t, "user", "list", "--factor", "totp", "--json"); !strings.Contains(out, `"accounts":[]`) {
		t.Errorf("got\n%s", out)
	}
	o.refused(t, exitUsage, []string{"user", "list", "--factor", "password"}, "--factor must be one of totp, passkey, recovery_codes")
	if out := o.do(t, "user", "remove-factors", address); !strings.Contains(out, user.GetId()) || valid(tokens) {
		t.Errorf("got\n%s", out)
	}
	tokens = mustLogin()
	o.refused(t, exitUsage, []string{"revoke-all-sessions"}, "--yes")
	if !valid(tokens) {
		t.Error("ended without --yes")
	}
	if out := o.do(t, "--json", "revoke-all-sessions", "--yes"); out != "{}\n" || valid(tokens) {
		t.Errorf("got %q", out)
	}
	tokens = mustLogin()
	for _, to := range []string{"grace@example.com", address} { // and back, since other steps use the address
		parse(o.do(t, "user", "change-email", user.GetId(), "--to", to, "--json"))
		if out := o.do(t, "user", "get", to); !strings.Contains(out, user.GetId()) || !*account.User.EmailVerified || valid(tokens) {
			t.Errorf("got\n%s", out)
		}
	}
	o.refused(t, exitUsage, []string{"user", "change-email", address}, "--to ADDRESS")
	o.refused(t, exitFailed, []string{"user", "change-email", address, "--to", "grace"}, "INVALID_ARGUMENT VALIDATION_FAILED: new_email: ")
	o.refused(t, exitFailed, []string{"user", "change-email", "nobody@example.com", "--to", "grace@example.com"}, "NOT_FOUND USER_NOT_FOUND: ")
	mustLogin()

	o.refused(t, exitFailed, []string{"user", "revoke-session", "nobody@example.com", tokens.GetSessionId()}, "NOT_FOUND USER_NOT_FOUND: ")
	for _, args := range [][]string{{"user", "get"}, {"user", "suspend"}, {"user", "reactivate"}, {"user", "sessions"}, {"user", "revoke-sessions"}, {"user", "factors"}, {"user", "remove-factors"}} {
		o.refused(t, exitFailed, append(args, "nobody@example.com"), "NOT_FOUND USER_NOT_FOUND: ", "trace id ")
		o.refused(t, exitFailed, append(args, "--", "-nobody@example.com"), "NOT_FOUND USER_NOT_FOUND: ")
		o.refused(t, exitFailed, append(args, "00000000-0000-0000-0000-000000000000"), "NOT_FOUND USER_NOT_FOUND: ")
	}
	o.refused(t, exitFailed, []string{"user", "list", "--page-token", "forged"}, "INVALID_ARGUMENT VALIDATION_FAILED: page_token: ")
	for _, factor := range []string{"passkey", "recovery_codes"} {
		if out := o.do(t, "user", "list", "--factor", factor, "--json"); !strings.Contains(out, `"accounts":[]`) {
			t.Errorf("got\n%s", out)
		}
	}
	if out := o.do(t, "user", "verify-email", address); !strings.Contains(out, user.GetId()) || !strings.Contains(out, "yes") {
		t.Errorf("got\n%s", out)
	}
	if out := o.do(t, "user", "export", address); !json.Valid([]byte(out)) || !strings.Contains(out, address) {
		t.Errorf("got\n%s", out)
	}
	tokens = mustLogin()
	o.refused(t, exitUsage, []string{"user", "delete", address}, "--yes")
	if out := o.do(t, "user", "delete", address, "--yes"); !strings.Contains(out, "will be deleted at") || valid(tokens) {
		t.Errorf("got\n%s", out)
	}
	if out := o.do(t, "user", "get", address); !strings.Contains(out, "to be deleted at") {
		t.Errorf("got\n%s", out)
	}
	if out := o.do(t, "user", "restore", address); !strings.Contains(out, "active") {
		t.Errorf("got\n%s", out)
	}
	tokens = mustLogin()
	if out := o.do(t, "user", "delete", "--yes", "--now", address); !strings.Contains(out, user.GetId()+" is deleted") || valid(tokens) {
		t.Errorf("got\n%s", out)
	}
	for _, args := range [][]string{{"user", "restore"}, {"user", "export"}, {"user", "verify-email"}, {"user", "delete", "--yes"}} {
		o.refused(t, exitFailed, append(args, address), "NOT_FOUND USER_NOT_FOUND: ")
	}
	o.settings["LATCHKEY_ADMIN_KEY"] = tokens.GetAccessToken()
	o.refused(t, exitFailed, []string{"user", "get", address}, "UNAUTHENTICATED KEY_INVALID: ")
	for _, text := range []string{p.text(&p.stderr), p.text(&p.stdout)} {
		if strings.Contains(text, adminKey) || strings.Contains(text, tokens.GetAccessToken()) {
			t.Error("the service logs keys")
		}
	}
}

func TestAdminList(t *testing.T) {
	t.Parallel()
	addr := start(t, pairs(keyed(t)), "serve").addrs(t)["grpc"]
	auth := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, addr))
	o := newOperator(addr)
	if out := o.do(t, "user", "list"); strings.Count(out, "\n") != 1 || !strings.HasPrefix(out, "ID ") {
		t.Errorf("nobody is there:\n%s", out)
	}
	addresses := []string{"e@example.com", "d@example.com", "c@example.com", "b@example.com", "a@example.com"}
	for i := range addresses {
		signUpAt(t, auth, addresses[len(addresses)-1-i])
	}
	type page struct {
		Accounts []struct {
			User struct{ Email string }
		}
		NextPageToken string
	}
	pages := func(out string) (list []page) {
		t.Helper()
		for line := range strings.Lines(out) {
			var one page
			if err := json.Unmarshal([]byte(line), &one); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			list = append(list, one)
		}
		return list
	}
	check := func(what string, list ...page) {
		t.Helper()
		var got []string
		for _, p := range list {
			for _, a := range p.Accounts {
				got = append(got, a.User.Email)
			}
		}
		if strings.Join(got, " ") != strings.Join(addresses, " ") {
			t.Errorf("%s: %v", what, got)
		}
	}
	check("one page", pages(o.do(t, "user", "list", "--json"))...)
	all := pages(o.do(t, "user", "list", "--json", "--all", "--page-size=2"))
	check("all pages", all...)
	if len(all) != 3 || all[2].NextPageToken != "" {
		t.Errorf("%d pages", len(all))
	}
	var followed []page
	for token := ""; ; {
		one := pages(o.do(t, "user", "list", "--json", "--page-size", "2", "--page-token", token))
		followed = append(followed, one...)
		if token = one[0].NextPageToken; token == "" {
			break
		}
	}
	check("page by page", followed...)
	out := o.do(t, "user", "list", "--page-size", "2")
	if strings.Count(out, "@") != 2 || !strings.Contains(out, "--page-token "+all[0].NextPageToken) {
		t.Errorf("got\n%s", out)
	}
	out = o.do(t, "user", "list", "--page-size", "2", "--all")
	if strings.Count(out, "@") != 5 || strings.Count(out, "EMAIL") != 1 || strings.Contains(out, "--page-token") {
		t.Errorf("got\n%s", out)
	}
}

func TestAdminUsage(t *testing.T) {
	t.Parallel()
	o := newOperator("127.0.0.1:1")
	for _, test := range []struct{ line, text string }{
		{"", "usage: "},
		{"user", "no command"},
		{"user destroy x", `no command "user destroy x"`},
		{"user delete x", "add --yes"},
		{"users list", "no command"},
		{"user get", "takes one account"},
		{"user get a b", "takes one account"},
		{"user sessions", "takes one account"},
		{"user events", "takes one account"},
		{"user revoke-session a", "takes an account, "},
		{"user revoke-session a b", "takes an account, "},
		{"user list x", `takes no "x"`},
		{"user list --yes", "takes no --yes"},
		{"user get x --all", "takes no --all"},
		{"user get x --key=y", "not defined"},
		{"user list --page-size 1001", "--page-size"},
		{"user list --page-size -1", "--page-size"},
		{"user list --page-size many", "page-size"},
		{"user list --addr host", "--addr"},
		{"user list --addr host:", "--addr"},
		{"user list --plaintext --ca /x", "--plaintext"},
		{"user list --plaintext --server-name x", "--plaintext"},
		{"user list --ca /no/such/file", "--ca /no/such/file"},
		{"revoke-all-sessions", "--yes"},
	} {
		o.refused(t, exitUsage, strings.Fields(test.line), test.text)
	}
	o.refused(t, exitFailed, []string{"user", "list"}, "UNAVAILABLE: ")

	dir := t.TempDir()
	for _, test := range []struct {
		settings map[string]string
		texts    []string
	}{
		{map[string]string{}, []string{"LATCHKEY_ADMIN_KEY is not set: it must be an admin key, ", "LATCHKEY_ADMIN_KEY_FILE=", "/admin-key"}},
		{map[string]string{"LATCHKEY_ADMIN_KEY": ""}, []string{"LATCHKEY_ADMIN_KEY is not set"}},
		{map[string]string{"LATCHKEY_DEV_DIR": dir}, []string{"LATCHKEY_ADMIN_KEY_FILE=" + filepath.Join(dir, "admin-key")}},
		{map[string]string{"LATCHKEY_ADMIN_KEY_FILE": filepath.Join(dir, "none")}, []string{"LATCHKEY_ADMIN_KEY cannot be read from LATCHKEY_ADMIN_KEY_FILE"}},
		{map[string]string{"LATCHKEY_ADMIN_KEY": "two words"}, []string{"LATCHKEY_ADMIN_KEY has a character"}},
	} {
		o := &operator{test.settings}
		o.refused(t, exitUsage, []string{"user", "list"}, test.texts...)
		if _, err := o.try(t, "user", "list"); strings.Contains(err.Error(), "\n") {
			t.Errorf("several lines: %v", err)
		}
	}
}
