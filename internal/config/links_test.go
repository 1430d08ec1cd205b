package config

import (
	"maps"
	"testing"
)

// TestLinksToAccountPages: mailed links lead to the account pages of the issuer, unless the operator has others, and never
// to a page in plaintext of another machine.
func TestLinksToAccountPages(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		set                   map[string]string
		reset, verify, change string // "": serve does not start
	}{
		"unset":          {nil, "https://auth.example.com/account/reset#", "https://auth.example.com/account/verify#", "https://auth.example.com/account/email#"},
		"issuer's path":  {map[string]string{"LATCHKEY_ISSUER": "https://auth.example.com:8443/a/"}, "https://auth.example.com:8443/account/reset#", "https://auth.example.com:8443/account/verify#", "https://auth.example.com:8443/account/email#"},
		"one of its own": {map[string]string{"LATCHKEY_VERIFY_URL": "https://app.example.com/v"}, "https://auth.example.com/account/reset#", "https://app.example.com/v", "https://auth.example.com/account/email#"},
		"this machine":   {map[string]string{"LATCHKEY_ISSUER": "http://localhost:8080"}, "http://localhost:8080/account/reset#", "http://localhost:8080/account/verify#", "http://localhost:8080/account/email#"},
		"plaintext":      {map[string]string{"LATCHKEY_ISSUER": "http://auth.example.com"}, "", "", ""},
		"no pages":       {map[string]string{"LATCHKEY_ACCOUNT_PAGES": "false"}, "", "", ""},
		"no pages, own":  {map[string]string{"LATCHKEY_ACCOUNT_PAGES": "false", "LATCHKEY_RESET_URL": "https://app.example.com/r"}, "https://app.example.com/r", "", ""},
		"plaintext, own": {map[string]string{"LATCHKEY_ISSUER": "http://auth.example.com", "LATCHKEY_RESET_URL": "https://app.example.com/r"}, "https://app.example.com/r", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			values := complete()
			maps.Copy(values, test.set)
			cfg, err := Load(environ(values), Serve)
			if test.reset == "" {
				if err == nil {
					t.Errorf("links lead to %q", cfg.ResetURL)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if cfg.ResetURL != test.reset || cfg.VerifyURL != test.verify || cfg.EmailChangeURL != test.change {
				t.Errorf("%q, %q, %q", cfg.ResetURL, cfg.VerifyURL, cfg.EmailChangeURL)
			}
		})
	}
}
