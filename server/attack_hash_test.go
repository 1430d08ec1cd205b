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

	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	argon "github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// bcrypt reads only 72 bytes, so a longer password logs in with any end. Such a login must not rewrite the hash, with
// either contract: then the owner's own password would be refused.
func TestAttack06LongPasswords(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{Legacy: testenv.Existing(t)})
	old := authpb.NewAuthServiceClient(s.Conn)
	first := strings.Repeat("correct horse ", 6)[:72]
	owners := first + "their end"
	made, err := bcrypt.GenerateFromPassword([]byte(first), bcrypt.MinCost) // as PHP, Python and others do without asking
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"$2a", "$2b", "$2y"} {
		address, hash := kind[1:]+"@example.com", kind+string(made[3:])
		insertHash(t, s, address, hash)
		for _, typed := range []string{first + "a wrong end", first, owners} {
			logInWith(t, s, address, typed)
			if _, err := old.Login(t.Context(), &authpb.LoginRequest{Email: address, Password: typed}); err != nil {
				t.Errorf("%s, old contract: %v", kind, err)
			}
			if got := storedHash(t, s, address); got != hash {
				t.Fatalf("%s: %q is written down: %s", kind, typed, got)
			}
		}
		ours := logInWith(t, s, address, owners)
		wantRefused(t, tryChange(t.Context(), s, ours, "x"+owners, "an entirely new one"), codes.Unauthenticated, "INVALID_CREDENTIALS")
		if err := tryChange(t.Context(), s, ours, owners, "an entirely new one"); err != nil {
			t.Errorf("%s: change: %v", kind, err)
		}
		logInWith(t, s, address, "an entirely new one")
		wantRefused(t, tryLogin(t.Context(), s, address, owners), codes.Unauthenticated, "INVALID_CREDENTIALS")
	}
}

// attackBusy starts a server with two slots and the default queue for two slots. x-forwarded-for names its clients.
func attackBusy(t *testing.T) *testenv.Server {
	t.Helper()
	return testenv.Start(t, testenv.Options{
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		HashSlots:      2, HashQueue: 64,
		Argon2:    argon.Params{MemoryKiB: 4096, Time: 1, Threads: 1},
		WallClock: true,
	})
}

// attackFlood guesses passwords of accounts that do not exist, or makes accounts, from each of the addresses without a
// pause. It returns when the queue is full.
func attackFlood(t *testing.T, s *testenv.Server, signUps bool, addresses []string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	var calls atomic.Int64
	var auth latchkeyv1.AuthServiceClient
	for i, address := range addresses {
		if i%80 == 0 { // a connection has up to 100 calls at once
			conn, err := grpc.NewClient(s.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			auth = latchkeyv1.NewAuthServiceClient(conn)
		}
		group.Go(func() {
			for ctx.Err() == nil {
				ctx, name := attackFrom(ctx, address), fmt.Sprintf("nobody%d@%s.example", calls.Add(1), address[:4])
				if signUps {
					_, _ = auth.SignUp(ctx, &latchkeyv1.SignUpRequest{Email: name, Password: password, FirstName: "N", LastName: "N"})
				} else {
					_, _ = auth.Login(ctx, &latchkeyv1.LoginRequest{Email: name, Password: "a wrong password"})
				}
			}
		})
	}
	for begun := time.Now(); metric(t, s, "latchkey_hash_waiting") < 60; time.Sleep(time.Millisecond) {
		if time.Since(begun) > patience {
			t.Fatal("the queue does not fill")
		}
	}
	return func() {
		cancel()
		group.Wait()
	}
}

func attackFrom(ctx context.Context, address string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "x-forwarded-for", address)
}

// Calls from one network, from all its addresses, get no more turns at the hasher than those of an owner elsewhere. Ten
// owners who log in at the same time are all answered.
func TestAttack07OneNetwork(t *testing.T) {
	t.Parallel()
	s := attackBusy(t)
	owner := func(i int) string { return fmt.Sprintf("owner%d@example.com", i) }
	for i := range 10 {
		signUp(t, s, owner(i))
	}
	for name, attack := range map[string]struct {
		address func(i int) string
		signUps bool
		atHome  bool // the owners share a /48 with each other and the attack
	}{
		"one address":             {address: func(int) string { return "2001:db8:1::1" }},
		"a hundred /64s of a /48": {address: func(i int) string { return fmt.Sprintf("2001:db8:2:%x::1", i) }},
		"a hundred of a /24":      {address: func(i int) string { return fmt.Sprintf("198.51.100.%d", i+1) }},
		"ten networks":            {address: func(i int) string { return fmt.Sprintf("2001:db8:3%x:%x::1", i%10, i) }},
		"new accounts":            {address: func(i int) string { return fmt.Sprintf("2001:db8:4:%x::1", i) }, signUps: true},
		"in the owners' /48":      {address: func(i int) string { return fmt.Sprintf("2001:db8:ffff:%x::1", 100+i/50) }, atHome: true},
	} {
		var addresses []string
		for i := range 100 {
			addresses = append(addresses, attack.address(i))
		}
		stop := attackFlood(t, s, attack.signUps, addresses)
		var owners sync.WaitGroup
		for i := range 10 {
			owners.Go(func() {
				home := fmt.Sprintf("2001:db8:f0%x::1", i)
				if attack.atHome {
					home = fmt.Sprintf("2001:db8:ffff:%x::1", i)
				}
				ctx, cancel := context.WithTimeout(attackFrom(t.Context(), home), patience)
				defer cancel()
				if err := tryLogin(ctx, s, owner(i), password); err != nil {
					t.Errorf("%s: owner %d: %v", name, i, err)
				}
			})
		}
		owners.Wait()
		stop()
	}
}

// The owner of a live session can change the password, which takes two hashes, while 400 strangers wait in the queue,
// each from a network of its own.
func TestAttack07LiveSession(t *testing.T) {
	t.Parallel()
	s := attackBusy(t)
	ours := account(t, s)
	var addresses []string
	for i := range 400 {
		addresses = append(addresses, fmt.Sprintf("2001:db8:%x::1", i))
	}
	stop := attackFlood(t, s, false, addresses)
	defer stop()
	current := password
	for i := range 10 {
		next := fmt.Sprintf("an entirely new one %d", i)
		ctx, cancel := context.WithTimeout(attackFrom(t.Context(), "2001:db8:1::2"), patience)
		err := tryChange(ctx, s, ours, current, next)
		cancel()
		if err != nil {
			t.Fatalf("change %d: %v", i, err)
		}
		current = next
	}
	if refused := metric(t, s, "latchkey_hash_known_turned_away_total"); refused != 0 || metric(t, s, "latchkey_hash_turned_away_total") == 0 {
		t.Errorf("%v known clients turned away", refused)
	}
}

// A /48 of IPv6 has 65,536 /64s, but may make only as many calls as eight of them.
func TestAttack07RateOfA48(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{AddressLimit: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	f := &forgetful{s: s}
	answered, most := 0, 8*forgotBurst(s)
	for i := range most + 200 {
		if f.call(t.Context(), "x-forwarded-for", fmt.Sprintf("2001:db8:1:%x::1", i%400)) == nil {
			answered++
		}
	}
	if answered > most {
		t.Errorf("%d calls of one /48 were answered, more than %d", answered, most)
	}
	if err := f.call(t.Context(), "x-forwarded-for", "2001:db8:2::1"); err != nil {
		t.Errorf("the /48 beside it: %v", err)
	}
	for i := range 200 {
		if err := f.call(t.Context(), "x-forwarded-for", fmt.Sprintf("192.0.2.%d", i)); err != nil {
			t.Fatalf("strangers in an IPv4 /24: %v", err)
		}
	}
}

// metric returns the value of a gauge or counter without labels.
func metric(t *testing.T, s *testenv.Server, name string) float64 {
	t.Helper()
	families, _ := s.Metrics.Gather() // like the metrics page, it shows the rest while a store does not answer
	for _, family := range families {
		if family.GetName() == name {
			m := family.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	t.Fatalf("there is no %s", name)
	return 0
}
