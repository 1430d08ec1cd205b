package server_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// behindProxy lets the test name the network of each call.
func behindProxy() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

func forgotFrom(ctx context.Context, s *testenv.Server, network, address string) error {
	_, err := s.Auth.ForgotPassword(from(ctx, network), &latchkeyv1.ForgotPasswordRequest{Email: address})
	return err
}

// senderFunc sends mails.
type senderFunc func(ctx context.Context, m mail.Message) error

func (f senderFunc) Send(ctx context.Context, m mail.Message) error { return f(ctx, m) }

func hasLink(m mail.Message) bool { return strings.Contains(m.Text, "token=") }

func waitForLink(t *testing.T, s *testenv.Server) {
	t.Helper()
	testenv.Eventually(t, patience, "the owner's link", func() bool {
		for _, m := range s.Mailbox.Messages() {
			if m.To == email && hasLink(m) {
				return true
			}
		}
		return false
	})
}

// 4,000 requests for addresses that nobody has, from many networks, do not delay the owner's link.
func TestAttack09InventedAddresses(t *testing.T) {
	t.Parallel()
	for name, networks := range map[string]int{"from a thousand networks": 1000, "each from its own": 4000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{AddressLimit: true, TrustedProxies: behindProxy()})
			signUp(t, s, email)
			var (
				next    atomic.Int32
				refused atomic.Int32
				wg      sync.WaitGroup
			)
			begun := time.Now()
			for range 64 {
				wg.Go(func() {
					for i := int(next.Add(1)); i <= 4000; i = int(next.Add(1)) {
						network := fmt.Sprintf("2001:db8:%x::1", i%networks)
						if forgotFrom(t.Context(), s, network, fmt.Sprintf("invented%d@example.com", i)) != nil {
							refused.Add(1)
						}
					}
				})
			}
			wg.Wait()
			flood := time.Since(begun)
			begun = time.Now()
			if err := forgotFrom(t.Context(), s, "198.51.100.9", email); err != nil {
				t.Fatal(err)
			}
			waitForLink(t, s)
			took := time.Since(begun)
			t.Logf("4,000 requests in %v, %d refused, the owner's link after %v", flood, refused.Load(), took)
			// It takes two seconds on an idle machine. It took 49 s when each look-up was a job among the mails.
			if took > 10*time.Second {
				t.Errorf("the owner's link came after %v", took)
			}
		})
	}
}

// One network asks for many accounts, whose mails are slow. That does not delay the link of somebody else.
func TestAttack09KnownAddresses(t *testing.T) {
	t.Parallel()
	var (
		mu   sync.Mutex
		sent []string
	)
	s := testenv.Start(t, testenv.Options{AddressLimit: true, TrustedProxies: behindProxy(), Sender: senderFunc(func(ctx context.Context, m mail.Message) error {
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, m.To)
		return nil
	})})
	const flood = 60
	execSQL(t, s, `INSERT INTO users (email, email_lookup, password_hash, first_name, last_name)
		SELECT 'victim' || i || '@example.com', 'victim' || i || '@example.com', 'x', '', '' FROM generate_series(0, $1::int - 1) i`, flood)
	signUp(t, s, email)
	for i := range flood {
		if err := forgotFrom(t.Context(), s, "203.0.113.7", fmt.Sprintf("victim%d@example.com", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := forgotFrom(t.Context(), s, "198.51.100.9", email); err != nil {
		t.Fatal(err)
	}
	place := -1
	testenv.Eventually(t, patience, "the owner's link is sent", func() bool {
		mu.Lock()
		defer mu.Unlock()
		for i, to := range sent {
			if to == email {
				place = i
			}
		}
		return place >= 0
	})
	// Some mails were sent while the flood came, and some were being sent. In turn the owner's is the 61st.
	if place > flood/2 {
		t.Errorf("the owner's link was number %d", place+1)
	}
}

// A mail server that accepts links and never answers holds up neither look-ups nor notices.
func TestAttack09MailServerHangs(t *testing.T) {
	t.Parallel()
	box := mail.NewMailbox(10, nil)
	s := testenv.Start(t, testenv.Options{Sender: senderFunc(func(ctx context.Context, m mail.Message) error {
		if hasLink(m) {
			<-ctx.Done()
			return ctx.Err()
		}
		return box.Send(ctx, m)
	})})
	by := account(t, s)
	for i := range 20 {
		address := fmt.Sprintf("victim%d@example.com", i)
		signUp(t, s, address)
		forgot(t, s, address)
	}
	forgot(t, s, "invented@example.com")
	if err := tryChange(t.Context(), s, by, password, newPassword); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, patience, "the owner is told", func() bool { return len(box.Messages()) == 1 })
	testenv.Eventually(t, patience, "all are looked up", func() bool {
		return count(t, s, "SELECT count(*) FROM reset_requests") == 0
	})
}

// The requests of one network are limited, over all addresses of an IPv6 /48 and both contracts. Other networks are not
// affected.
func TestAttack09Networks(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{AddressLimit: true, TrustedProxies: behindProxy(), Legacy: testenv.Existing(t)})
	old := authpb.NewAuthServiceClient(s.Conn)
	signUp(t, s, email)
	passed := 0
	for i := range 200 {
		network := fmt.Sprintf("2001:db8:7:%x::1", i)
		if i%2 == 1 {
			resp, err := old.ForgotPassword(from(t.Context(), network), &authpb.ForgotPasswordRequest{Email: fmt.Sprintf("invented%d@example.com", i)})
			if err != nil || !resp.GetSuccess() {
				t.Fatalf("the old contract has one answer: %v, %v", resp, err)
			}
			continue
		}
		if err := forgotFrom(t.Context(), s, network, fmt.Sprintf("invented%d@example.com", i)); err != nil {
			wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
			if after := retryAfter(t, err); after > time.Minute {
				t.Errorf("retry after %v", after)
			}
			continue
		}
		passed++
	}
	if passed < 30 || passed > 70 {
		t.Errorf("%d of 100 passed", passed)
	}
	// Refused requests use up nothing of the owner's limit.
	for range 10 {
		wantRefused(t, forgotFrom(t.Context(), s, "2001:db8:7:ffff::1", email), codes.ResourceExhausted, "RATE_LIMITED")
	}
	if err := forgotFrom(t.Context(), s, "2001:db8:8::1", email); err != nil {
		t.Fatal(err)
	}
	waitForLink(t, s)
}

// Many networks that ask again and again are limited together. A network that has not asked lately is not.
func TestAttack09InAll(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{AddressLimit: true, TrustedProxies: behindProxy()})
	signUp(t, s, email)
	refused := 0
	for i := range 1000 {
		if err := forgotFrom(t.Context(), s, fmt.Sprintf("203.0.113.%d", i%20), fmt.Sprintf("invented%d@example.com", i)); err != nil {
			wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
			refused++
		}
	}
	if refused < 300 {
		t.Errorf("%d of 1,000 were refused", refused)
	}
	for i := range 3 {
		if err := forgotFrom(t.Context(), s, "198.51.100.9", email); err != nil {
			t.Errorf("request %d of a network that has not asked: %v", i+1, err)
		}
	}
	waitForLink(t, s)
}

// Many networks that ask for one account all the time do not fill its owner's mailbox, and do not end the link that the
// owner already has.
func TestAttack09OneAccount(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{AddressLimit: true, TrustedProxies: behindProxy()})
	signUp(t, s, email)
	ask := func(networks int) {
		t.Helper()
		for i := range networks {
			if err := forgotFrom(t.Context(), s, fmt.Sprintf("203.0.113.%d", i%20), email); err != nil {
				t.Fatal(err)
			}
		}
		testenv.Eventually(t, patience, "all have come to an end", func() bool {
			return count(t, s, "SELECT count(*) FROM reset_requests") == 0 &&
				count(t, s, "SELECT count(*) FROM river_job WHERE kind = 'reset_link' AND finalized_at IS NULL") == 0
		})
	}
	ask(1)
	inHand := linkToken(t, s.Mailbox.Messages()[0])
	ask(80)
	if n := len(s.Mailbox.Messages()); n < 1 || n > 5 {
		t.Errorf("%d mails", n)
	}
	s.Clock.Advance(15 * time.Minute)
	ask(20)
	if n := len(s.Mailbox.Messages()); n > 10 {
		t.Errorf("%d mails in half an hour", n)
	}
	s.Clock.Advance(14 * time.Minute)
	if err := tryReset(t.Context(), s, inHand, newPassword); err != nil {
		t.Errorf("the link in the first mail: %v", err)
	}
}

// An account gets at most five links in 15 minutes, in whatever spelling of its address.
func TestAttack09Mailbox(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	user := uuid.MustParse(signUp(t, s, email).GetId())
	admitted := func(emails ...string) (n int) {
		t.Helper()
		err := pgx.BeginFunc(t.Context(), s.Pool, func(tx pgx.Tx) error {
			found, err := resetsOf(s).FindResetAccounts(t.Context(), tx, emails)
			for _, id := range found {
				if id != user {
					t.Errorf("found %v", id)
				}
			}
			n = len(found)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	lower := strings.ToLower(email)
	for _, step := range []struct {
		after  time.Duration
		emails []string
		want   int
	}{
		{0, []string{email, lower}, 2},
		{time.Minute, []string{lower, "nobody@example.com", email, email, email}, 3},
		{14*time.Minute - time.Second, []string{email}, 0},
		{time.Second, []string{email}, 1},
	} {
		s.Clock.Advance(step.after)
		if n := admitted(step.emails...); n != step.want {
			t.Errorf("%d of %v may be sent, want %d", n, step.emails, step.want)
		}
	}
}
