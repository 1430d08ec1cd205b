package mail

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// For every answer of a server, the text that is kept is one printable line of limited length, without an address, the
// password, or a run of the token.
func FuzzWords(f *testing.F) {
	const token = "q7Zk2_VtX9mB4-hR1wPe8LsYc3NdGf6A"
	const password = "s3cr3t/pass"
	m := Message{To: "ada@example.org", Text: "Open https://app.example.com/reset?token=" + token + "\n", HTML: `<a href="https://app.example.com/reset?token=` + token + `">`}
	for _, seed := range []string{
		"5.1.1 <ada@example.org>: Recipient address rejected: User unknown in virtual mailbox table",
		"5.7.1 [192.0.2.1 12] Our system has detected that this message is likely unsolicited.\n5.7.1 https://support.example.com/mail/?p=Unsolicited d2e1a72fcca58-7b0si123456pdb.12 - gsmtp",
		"rejected: https://app.example.com/reset?token=" + token, "token=3D" + token[:20] + "=\n" + token[20:], "(" + token + ")",
		"AUTH PLAIN AHVzZXIAczNjcjN0L3Bhc3M= " + password, "ada", "\u202Eevil\x00\x1b[31m\xff", strings.Repeat("long ", 300),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, reply string) {
		got := words(reply, quoted{m, password}, "no-reply@example.com")
		if len(got) > maxWords+len(" …")+1 || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsGraphic(r) }) {
			t.Errorf("%q", got)
		}
		if strings.Contains(got, "@") || strings.Contains(got, password) {
			t.Errorf("%q", got)
		}
		for i := 0; i+sharedRun <= len(token); i++ {
			if strings.Contains(got, token[i:i+sharedRun]) {
				t.Errorf("%q holds a piece of the token", got)
			}
		}
	})
}

// TestWords checks that the text which operators need is kept.
func TestWords(t *testing.T) {
	t.Parallel()
	m := Message{To: "ada@example.org", Text: "Somebody asked to reset the password of your account at app.example.com.\nhttps://app.example.com/reset?token=abc1234567"}
	for reply, want := range map[string]string{
		"5.7.8 Username and Password not accepted. For more information, go to\n5.7.8 https://support.google.com/mail/?p=BadCredentials": "Username and Password not accepted. For more information, go to https://support.google.com/mail/?p=BadCredentials",
		"5.7.26 SPF check of example.com failed for 192.0.2.7":                                                                           "SPF check of example.com failed for 192.0.2.7",
		"5.1.1 ada: no such user":                                                  "(address) no such user",
		"your account at app.example.com is disabled":                              "your account at (…) is disabled",
		"2.0.0 Ok: queued as 4F3C12A0B":                                            "Ok: queued as 4F3C12A0B",
		"bad link https://app.example.com/reset?token=abc1234567 in https://a.bcd": "bad link (…) in https://a.bcd",
	} {
		if got := words(reply, quoted{m, ""}, "no-reply@example.com"); got != want {
			t.Errorf("%q becomes %q, want %q", reply, got, want)
		}
	}
}
