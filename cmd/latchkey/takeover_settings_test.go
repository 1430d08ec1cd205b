package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/legacy/takeover"
)

// TestTakeoverNamesOtherSettings: a finding that an older backend had other settings includes the line to set, and the
// line helps.
func TestTakeoverNamesOtherSettings(t *testing.T) {
	t.Parallel()
	old, settings := oldStores(t)
	client := openTestRedis(t, old.RedisURL)
	for key, life := range map[string]time.Duration{
		"login_attempts:slow@example.com":                     50 * time.Minute,
		"password_reset:8fe524f8-2985-4000-8000-000000000001": 20*time.Hour - time.Minute,
	} {
		value := "7"
		if strings.HasPrefix(key, "password_reset") {
			value = old.Users[0].ID.String()
		}
		if err := client.Set(t.Context(), key, value, life).Err(); err != nil {
			t.Fatal(err)
		}
	}
	lines := func(list []takeover.Finding, code string) (found []string) {
		for _, f := range list {
			if f.Code == code {
				_, line, _ := strings.Cut(f.Right, "LATCHKEY_")
				line, _, _ = strings.Cut("LATCHKEY_"+line, " ")
				found = append(found, line)
			}
		}
		return found
	}
	_, report := takeoverCheck(t, settings)
	got := lines(report.Warnings, "other_life")
	if !slices.Equal(got, []string{"LATCHKEY_LEGACY_RESET_TOKEN_TTL=20h0m0s", "LATCHKEY_LEGACY_LOGIN_WINDOW=1h0m0s"}) || report.Redis.LockedOut != 1 {
		t.Errorf("%q, %d locked out", got, report.Redis.LockedOut)
	}
	settings["LATCHKEY_LEGACY_LOGIN_ATTEMPTS"] = "10"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(old.Sessions[0].AccessToken), 0o600); err != nil {
		t.Fatal(err)
	}
	settings["LATCHKEY_LEGACY_ISSUER"] = "https://old.example.com"
	code, report := takeoverCheck(t, settings, "--token", file)
	issuer := lines(report.Problems, "token_refused")
	if code != exitFailed || !slices.Equal(issuer, []string{"LATCHKEY_LEGACY_ISSUER=saas-platform"}) {
		t.Errorf("exit %d, %+v", code, report.Problems)
	}
	for _, line := range append(got, issuer...) {
		name, value, _ := strings.Cut(line, "=")
		settings[name] = value
	}
	code, report = takeoverCheck(t, settings, "--token", file)
	if code != exitDecisions || len(lines(report.Warnings, "other_life")) > 0 || report.Redis.LockedOut != 0 {
		t.Errorf("with the lines: exit %d, %+v, %+v", code, report.Problems, report.Warnings)
	}
}
