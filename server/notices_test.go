package server_test

import (
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	accounts "github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/jobs"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// At most one of a kind in an hour and five in a day, however many transactions ask at once on all replicas. One that
// fails does not count.
func TestNoticesAreBounded(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	counter := accounts.Resets{Pool: s.Pool, Now: s.Clock.Now}
	admit := func(user uuid.UUID, notice mail.Notice, end func(pgx.Tx) error) bool {
		t.Helper()
		tx, err := s.Pool.Begin(t.Context())
		if err != nil {
			t.Error(err)
			return false
		}
		admitted, err := counter.AdmitNotice(t.Context(), tx, notice, user)
		if err != nil {
			t.Error(err)
		}
		if err := end(tx); err != nil {
			t.Error(err)
		}
		return admitted
	}
	commit := func(tx pgx.Tx) error { return tx.Commit(t.Context()) }
	ada, bob := uuid.New(), uuid.New()
	if !admit(ada, mail.NewDeviceLogin, func(tx pgx.Tx) error { return tx.Rollback(t.Context()) }) {
		t.Error("the first one was refused")
	}
	at := func() (admitted int) {
		var (
			wg sync.WaitGroup
			mu sync.Mutex
		)
		for range 8 {
			wg.Go(func() {
				if admit(ada, mail.NewDeviceLogin, commit) {
					mu.Lock()
					defer mu.Unlock()
					admitted++
				}
			})
		}
		wg.Wait()
		return admitted
	}
	for hour, want := range []int{1, 1, 1, 1, 1, 0, 0} {
		if n := at(); n != want {
			t.Errorf("hour %d: %d admitted, want %d", hour, n, want)
		}
		s.Clock.Advance(59*time.Minute + 59*time.Second)
		if hour == 0 {
			if n := at(); n != 0 {
				t.Errorf("%d admitted a second before the hour is over", n)
			}
		}
		s.Clock.Advance(time.Second)
	}
	if !admit(ada, mail.RefreshTokenReused, commit) || !admit(bob, mail.NewDeviceLogin, commit) {
		t.Error("another kind or another account was bounded too")
	}
	s.Clock.Advance(17 * time.Hour)
	if n := at(); n != 1 {
		t.Errorf("a day later: %d admitted, want 1", n)
	}
	// A clock that was far ahead must not stop notices for long.
	s.Clock.Advance(-48 * time.Hour)
	if n := at(); n != 1 {
		t.Errorf("with the clock set back: %d admitted, want 1", n)
	}
	if err := (jobs.Upkeep{Pool: s.Pool, AuditRetention: time.Hour, Now: func() time.Time { return s.Clock.Now().Add(26 * time.Hour) }}).Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := count(t, s, "SELECT count(*) FROM mail_notices WHERE user_id = $1 AND kind = 'new_device_login'", ada); n != 0 {
		t.Errorf("%d rows are left after the sweep", n)
	}
}

// resetsOf makes reset links in the same way as the server's sender of mails.
func resetsOf(s *testenv.Server) accounts.Resets {
	return accounts.Resets{Pool: s.Pool, TTL: testenv.ResetTTL, Key: make([]byte, 32), Now: s.Clock.Now}
}
