package mail_test

import (
	"errors"
	"html"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/mail"
)

func TestParseResetURL(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{
		"https://app.example.com/reset", "https://app.example.com", "https://app.example.com/reset?lang=de",
		"https://app.example.com/#/reset", "http://localhost:3000/reset", "http://127.0.0.1/reset", "http://[::1]:3000/", "http://app.localhost/reset",
	} {
		u, err := mail.ParseResetURL(raw, false)
		if err != nil || u.String() != raw || mail.LinkWeakness(u) != "" {
			t.Errorf("%s: %v, %v", raw, u, err)
		}
	}
	// Only if the operator allows insecure links.
	for _, raw := range []string{
		"myapp://reset", "com.example.app:/reset", "myapp:///reset?lang=de", "http://192.168.1.7:3000/reset", "http://[fd00::7]/reset", "http://[fe80::1]/reset",
		"http://nas/reset", "http://nas.local/reset", "http://app.corp.internal/#/reset", "http://[::ffff:10.0.0.1]/",
	} {
		if _, err := mail.ParseResetURL(raw, false); !errors.Is(err, mail.ErrResetURL) || !strings.Contains(err.Error(), "LATCHKEY_INSECURE_LINKS") {
			t.Errorf("%s: %v", raw, err)
		}
		u, err := mail.ParseResetURL(raw, true)
		if err != nil || u.String() != raw || mail.LinkWeakness(u) == "" {
			t.Errorf("%s: %v, %v", raw, u, err)
		}
	}
	for _, raw := range []string{
		"", "/reset", "app.example.com/reset", "//app.example.com/reset", "ftp://app.example.com", "javascript:alert(1)", "javascript://x/%0aalert(1)", "JavaScript://x",
		"data:text/html,x", "file:///etc/passwd", "myapp:reset", "myapp://user:pw@reset", "mailto:a@example.org", "http://8.8.8.8/", "http://nas.local.example.com/",
		"https://", "https:///reset", "https://user:pw@app.example.com/reset", "http://app.example.com/reset", "https://app.example.com/#/reset?token=x",
		"http://localhost.example.com/", "https://app.example.com/?token=x", "https://app.example.com/?a;b", "https://app.example.com/%zz",
	} {
		for _, insecure := range []bool{false, true} {
			if u, err := mail.ParseResetURL(raw, insecure); !errors.Is(err, mail.ErrResetURL) {
				t.Errorf("%q: %v, %v", raw, u, err)
			}
		}
	}
}

// TestParseEmailChangeURL checks that a page can tell the two links apart.
func TestParseEmailChangeURL(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]bool{
		"https://app.example.com/#/email": true, "https://app.example.com/email?lang=de": true,
		"https://app.example.com/email?undo=0": false, "https://app.example.com/#/email?undo": false, "https://app.example.com/?token=x": false, "": false,
	} {
		if page, err := mail.ParseEmailChangeURL(raw, false); (err == nil) != want || (page != nil) != want || err != nil && !errors.Is(err, mail.ErrResetURL) {
			t.Errorf("%q: %v, %v", raw, page, err)
		}
	}
}

// Without insecure, every address that is accepted is https, or this machine's.
func FuzzParseResetURL(f *testing.F) {
	for _, seed := range []string{"https://app.example.com/#/reset", "http://localhost/", "myapp://x", "javascript:alert(1)", "http://10.0.0.1#a?b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if u, err := mail.ParseResetURL(raw, false); err == nil && mail.LinkWeakness(u) != "" {
			t.Errorf("%q was taken", raw)
		}
	})
}

// TestResetLinks checks where the token is, in both forms of the mail.
func TestResetLinks(t *testing.T) {
	t.Parallel()
	for page, want := range map[string]string{
		"https://app.example.com/#/reset":            "https://app.example.com/#/reset?token=",
		"https://app.example.com/x?a=b#/reset?c=%2F": "https://app.example.com/x?a=b#/reset?c=%2F&token=",
		"https://app.example.com/?a=b&":              "https://app.example.com/?a=b&token=",
		"https://app.example.com/reset#":             "https://app.example.com/reset#token=",
		"https://app.example.com/reset?a=b#":         "https://app.example.com/reset?a=b#token=",
		"myapp://reset":                              "myapp://reset?token=",
		"com.example.app:/reset":                     "com.example.app:/reset?token=",
		"http://192.168.1.7:3000/reset":              "http://192.168.1.7:3000/reset?token=",
	} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			box := mail.NewMailbox(0, nil)
			cfg := config(newPool(t), newAccounts("ada@example.org"), box)
			cfg.ResetURL, cfg.InsecureLinks = page, true
			outbox, _ := newOutbox(t, cfg)
			start(t, outbox)
			request(t, outbox, "ada@example.org")
			eventually(t, "the mail arrives", func() bool { return len(box.Messages()) == 1 })
			m := box.Messages()[0]
			// Each token of the test starts with "tok+/=".
			if want += "tok%2B%2F%3D"; !strings.Contains(m.Text, "\n"+want) {
				t.Errorf("%q is missing in %s", want, m.Text)
			}
			if written := html.UnescapeString(m.HTML); !strings.Contains(written, `href="`+want) || strings.Count(written, want) != 2 {
				t.Errorf("%q is missing in %s", want, m.HTML)
			}
		})
	}
}
