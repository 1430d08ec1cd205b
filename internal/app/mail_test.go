package app

import (
	"testing"

	"github.com/latchkey-auth/latchkey/internal/config"
)

func TestMailFrom(t *testing.T) {
	t.Parallel()
	for want, cfg := range map[string]config.Config{
		"no-reply@app.example.com": {ResetURL: "https://app.example.com:8443/reset?a=b"},
		"Ours <us@example.com>":    {ResetURL: "https://app.example.com/reset", MailFrom: "Ours <us@example.com>"},
	} {
		if got := mailFrom(&cfg); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
