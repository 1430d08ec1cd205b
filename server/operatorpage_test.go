package server_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// onOps asks the operations listener.
func onOps(t *testing.T, s *testenv.Server, method, path, body string, headers ...string) (int, string, http.Header) {
	t.Helper()
	resp, text := send(t, method, s.Ops+path, "application/json", body, headers...)
	return resp.StatusCode, text, resp.Header
}

// The page for operators shows with a key of an operator, and changes nothing unless the setting says so.
func TestOperatorsPage(t *testing.T) {
	t.Parallel()
	const key = "Bearer " + testenv.AdminKey
	for setting, want := range map[string]struct{ page, read, change int }{
		"off":    {http.StatusNotFound, http.StatusNotFound, http.StatusNotFound},
		"read":   {http.StatusOK, http.StatusOK, http.StatusNotImplemented},
		"change": {http.StatusOK, http.StatusOK, http.StatusOK},
	} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{OperatorsPage: setting})
			user := signUp(t, s, email)
			code, page, headers := onOps(t, s, http.MethodGet, "/", "")
			if code != want.page || code == http.StatusOK && (!strings.Contains(page, "operators") || !strings.Contains(headers.Get("Content-Security-Policy"), "frame-ancestors 'none'")) {
				t.Errorf("the page: %d %v", code, headers)
			}
			body := `{"userId":"` + user.GetId() + `"}`
			for path, code := range map[string]int{
				"AdminService/GetUser": want.read, "AdminService/SuspendUser": want.change,
				// No other service is on this listener.
				"AuthService/Login": http.StatusNotFound, "RevocationService/WatchRevocations": http.StatusNotFound,
			} {
				if got, text, _ := onOps(t, s, http.MethodPost, "/latchkey.v1."+path, body, "Authorization", key); got != code {
					t.Errorf("%s: %d %s, want %d", path, got, text, code)
				}
			}
			if suspended := count(t, s, "SELECT count(*) FROM users WHERE NOT is_active"); suspended != 0 != (setting == "change") {
				t.Errorf("%d accounts are suspended", suspended)
			}
		})
	}
}

// The state has what an operator looks for, and nobody else gets it.
func TestOperatorsStatus(t *testing.T) {
	t.Parallel()
	pair := twoReplicas(t, testenv.Options{OperatorsPage: "read"})
	s := pair[0]
	if err := tryLogout(t.Context(), s, account(t, s).GetRefreshToken()); err != nil {
		t.Fatal(err)
	}
	code, text, _ := onOps(t, s, http.MethodGet, "/operators/status.json", "", "Authorization", "Bearer "+testenv.AdminKey)
	var status struct {
		Ready           bool
		Changes         bool
		Postgres, Redis string
		Problems        []string
		Ledger          struct{ Head, Applied int64 }
		Replicas        []struct{ Behind int64 }
		Keys            []struct{ Kid, State string }
		Mails           struct{ Pending int64 }
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil || code != http.StatusOK {
		t.Fatalf("%d %s", code, text)
	}
	if !status.Ready || status.Changes || status.Postgres != "ok" || status.Redis != "ok" || len(status.Problems) > 0 ||
		status.Ledger.Head == 0 || status.Ledger.Applied == 0 || len(status.Replicas) != 2 || len(status.Keys) == 0 {
		t.Errorf("%s", text)
	}
	bad := [][]string{
		nil,
		{"Authorization", ""},
		{"Authorization", "Bearer "},
		{"Authorization", "Bearer " + testenv.ServiceKey},
		{"Authorization", testenv.AdminKey},
		{"Authorization", "Bearer " + testenv.AdminKey, "Authorization", "Bearer x"},
		{"Cookie", "key=" + testenv.AdminKey},
	}
	for _, headers := range bad {
		if code, text, _ := onOps(t, s, http.MethodGet, "/operators/status.json", "", headers...); code != http.StatusUnauthorized || strings.Contains(text, "replicas") {
			t.Errorf("%v: %d %s", headers, code, text)
		}
	}
	for _, foreign := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Origin", "https://evil.example"}} {
		headers := append(slices.Clone(foreign), "Authorization", "Bearer "+testenv.AdminKey)
		if code, _, _ := onOps(t, s, http.MethodPost, "/latchkey.v1.AdminService/ListUsers", "{}", headers...); code != http.StatusForbidden {
			t.Errorf("%v: %d", foreign, code)
		}
	}
}
