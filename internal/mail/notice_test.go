package mail_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/mail"
)

// TestNotices checks the text of each notice, and that only accounts that exist get a mail.
func TestNotices(t *testing.T) {
	t.Parallel()
	for notice, want := range map[mail.Notice]struct {
		subject string
		words   []string
	}{
		mail.PasswordChanged:        {"Your password for Tea & <Cake> was changed", []string{"signed out", "nothing to do", "forgot password"}},
		mail.RefreshTokenReused:     {"A session of your account at Tea & <Cake> was signed out", []string{"for the second time", "Your other sessions stay"}},
		mail.PasswordLoginClosed:    {"Reset your password to sign in to Tea & <Cake>", []string{"does not take its password any more", "forgot password"}},
		mail.PasswordClientClosed:   {"Many wrong passwords came from a device of yours at Tea & <Cake>", []string{"that device counts as an unknown one", "forgot password"}},
		mail.LoginsLimited:          {"Wrong passwords were tried for your account at Tea & <Cake>", []string{"Many wrong passwords", "was not found out"}},
		mail.NewDeviceLogin:         {"New sign-in to your account at Tea & <Cake>", []string{"had not signed in before", "forgot password"}},
		mail.SignUpAttempted:        {"You already have an account at Tea & <Cake>", []string{"tried to sign up", "nothing about it was changed"}},
		mail.FactorAdded:            {"Your account at Tea & <Cake> now has a second factor", []string{"code of your authenticator app", "recovery codes", "forgot password"}},
		mail.FactorRemoved:          {"A second factor of your account at Tea & <Cake> was removed", []string{"nothing to do", "sign out everywhere"}},
		mail.RecoveryCodesReplaced:  {"New recovery codes for your account at Tea & <Cake>", []string{"do not work any more", "sign out everywhere"}},
		mail.RecoveryCodeUsed:       {"A recovery code of your account at Tea & <Cake> was used", []string{"does not work again", "sign out everywhere"}},
		mail.EmailChangeRequested:   {"A new email address was asked for at Tea & <Cake>", []string{"Nothing has changed yet", "sign out everywhere"}},
		mail.EmailChanged:           {"The email address of your account at Tea & <Cake> was changed", []string{"go to the new address", "Write to the people"}},
		mail.EmailChangedByOperator: {"The email address of your account at Tea & <Cake> was changed", []string{"The people who run", "signed out"}},
		mail.EmailChangeUndone:      {"The email address of your account at Tea & <Cake> was changed back", []string{"signed out", "set a new password"}},
		mail.FactorsLimited:         {"Somebody knows your password for Tea & <Cake>", []string{"many wrong codes", "forgot password"}},
	} {
		t.Run(string(notice), func(t *testing.T) {
			t.Parallel()
			pool := newPool(t)
			box := mail.NewMailbox(0, nil)
			known := newAccounts()
			ada := uuid.New()
			known.users[ada] = "ada@example.org"
			cfg := config(pool, known, box)
			cfg.ProductName = "Tea & <Cake>"
			outbox, _ := newOutbox(t, cfg)
			start(t, outbox)
			notify(t, outbox, notice, uuid.New())
			notify(t, outbox, notice, ada)
			eventually(t, "both jobs are done", func() bool { return jobsIn(t, pool, "completed") == 2 })
			if n := len(box.Messages()); n != 1 {
				t.Fatalf("%d mails, want 1", n)
			}
			m := box.Messages()[0]
			if m.To != "ada@example.org" || m.Subject != want.subject {
				t.Errorf("%q %q", m.To, m.Subject)
			}
			text := strings.Join(strings.Fields(m.Text), " ")
			for _, words := range append(want.words, "24 November 2026 at 03:41 UTC", "f it was") {
				if notice == mail.RefreshTokenReused && words == "f it was" {
					words = "f this happens again"
				}
				if !strings.Contains(text, words) || !strings.Contains(m.HTML, words) {
					t.Errorf("%q is missing in %s", words, m.Text)
				}
			}
			if strings.Contains(m.HTML, "<Cake>") {
				t.Error("the product name is not escaped")
			}
			if strings.Contains(m.Text+m.HTML, "://") {
				t.Error("a notice should not train people to follow links")
			}
		})
	}
}

// A notice that the accounts do not admit is not queued. A notice about a changed password always is.
func TestNoticeNotAdmitted(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	known := newAccounts()
	known.refused = map[mail.Notice]bool{mail.NewDeviceLogin: true, mail.PasswordChanged: true}
	outbox, _ := newOutbox(t, config(pool, known, mail.NewMailbox(0, nil)))
	for notice, want := range map[mail.Notice]int{mail.NewDeviceLogin: 0, mail.SignUpAttempted: 1, mail.PasswordChanged: 1} {
		notify(t, outbox, notice, uuid.New())
		if n := count(t, pool, "SELECT count(*) FROM river_job WHERE args->>'notice' = $1", string(notice)); n != want {
			t.Errorf("%s: %d jobs, want %d", notice, n, want)
		}
	}
	if err := outbox.Notify(t.Context(), nil, "invented", uuid.New(), ""); err == nil {
		t.Error("an unknown notice was queued")
	}
}

// During a rolling upgrade the table has jobs of the version before and of the version after. The former are sent. The
// latter are left for their version, without counting attempts, but not for ever.
func TestJobsOfOtherVersions(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	box := mail.NewMailbox(0, nil)
	known := newAccounts("bob@example.org")
	ada := uuid.New()
	known.users[ada] = "ada@example.org"
	insert := func(kind, queue, args, age string) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), `INSERT INTO river_job (kind, queue, args, max_attempts, created_at)
			VALUES ($1, $2, $3, 5, now() - $4::interval)`, kind, queue, args, age); err != nil {
			t.Fatal(err)
		}
	}
	insert("password_changed", "mail", `{"user_id":"`+ada.String()+`","changed_at":"2026-11-24T03:41:00Z"}`, "0")
	insert("password_reset", "mail", `{"email":"bob@example.org","trace_id":"trace-1"}`, "0")
	insert("notice", "mail_notices", `{"user_id":"`+ada.String()+`","notice":"moved","happened_at":"2026-11-24T03:41:00Z"}`, "0")
	insert("notice", "mail_notices", `{"user_id":"`+ada.String()+`","notice":"flown","happened_at":"2026-11-24T03:41:00Z"}`, "25 hours")
	outbox, _ := newOutbox(t, config(pool, known, box))
	start(t, outbox)
	eventually(t, "the old ones are sent", func() bool { return len(box.Messages()) == 2 && jobsIn(t, pool, "completed") == 3 })
	eventually(t, "one of the new ones waits", func() bool {
		return count(t, pool, "SELECT count(*) FROM river_job WHERE args->>'notice' = 'moved' AND state = 'scheduled' AND attempt = 0") == 1
	})
	eventually(t, "the other is given up on", func() bool { return jobsIn(t, pool, "cancelled") == 1 })
	for _, m := range box.Messages() {
		switch m.To {
		case "ada@example.org":
			if m.Subject != "Your password for app.example.com was changed" || !strings.Contains(m.Text, "24 November 2026 at 03:41 UTC") {
				t.Errorf("%v", m)
			}
		case "bob@example.org":
			link(t, m.Text)
		default:
			t.Errorf("%v", m)
		}
	}
}

// TestNotifyFormer checks that a notice goes to the address that it names, whatever account has it, and that an address to
// which no mail can be sent stops nothing.
func TestNotifyFormer(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	box := mail.NewMailbox(0, nil)
	outbox, _ := newOutbox(t, config(pool, newAccounts(), box))
	start(t, outbox)
	for _, to := range []string{"ada@example.org", "no\nline"} {
		err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
			return outbox.NotifyFormer(t.Context(), tx, mail.EmailChanged, to, "trace-1")
		})
		if err != nil {
			t.Errorf("%q: %v", to, err)
		}
	}
	eventually(t, "the mail is sent", func() bool { return jobsIn(t, pool, "completed") == 1 })
	if got := box.Messages(); len(got) != 1 || got[0].To != "ada@example.org" {
		t.Errorf("%v", got)
	}
}
