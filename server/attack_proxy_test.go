package server_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// forgetful calls ForgotPassword for another account each time, so that only the limit of the address can apply.
type forgetful struct {
	s *testenv.Server
	n int
}

func (f *forgetful) call(ctx context.Context, headers ...string) error {
	f.n++
	ctx = metadata.AppendToOutgoingContext(ctx, headers...)
	_, err := f.s.Auth.ForgotPassword(ctx, &latchkeyv1.ForgotPasswordRequest{Email: fmt.Sprintf("u%d@example.com", f.n)})
	return err
}

// exhaust uses up the limit of an address, and returns how many calls were answered.
func (f *forgetful) exhaust(t *testing.T, headers ...string) int {
	t.Helper()
	for answered := range 1000 {
		err := f.call(t.Context(), headers...)
		if err == nil {
			continue
		}
		wantRefused(t, err, codes.ResourceExhausted, "RATE_LIMITED")
		return answered
	}
	t.Fatalf("%v: 1000 calls were answered", headers)
	return 0
}

func forgotBurst(s *testenv.Server) int {
	return int(s.Server.Policies()[latchkeyv1.AuthService_ForgotPassword_FullMethodName].GetAddressRate().GetBurst())
}

// Behind an untrusted proxy on the same host, all calls come from loopback. They count as one client, whatever their
// headers say. Once an hour the log says which setting is missing.
func TestAttack10LoopbackIsCounted(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{AddressLimit: true})
	f := &forgetful{s: s}
	if n := f.exhaust(t, "x-forwarded-for", "203.0.113.7"); n != forgotBurst(s) {
		t.Errorf("%d calls were answered", n)
	}
	for _, other := range []string{"198.51.100.1", "127.0.0.2", "::1", "garbage"} {
		wantRefused(t, f.call(t.Context(), "x-forwarded-for", other), codes.ResourceExhausted, "RATE_LIMITED")
	}
	warned := func() int { return strings.Count(string(s.Logs.Bytes()), "LATCHKEY_TRUSTED_PROXIES") }
	if n := warned(); n != 1 {
		t.Errorf("the log has %d warnings", n)
	}
	s.Clock.Advance(time.Hour)
	for range 3 {
		_ = f.call(t.Context(), "x-forwarded-for", "203.0.113.7")
	}
	if n := warned(); n != 2 {
		t.Errorf("after an hour the log has %d warnings", n)
	}
}

// Operators and services are known by their keys, not by their addresses. An unknown key, a session's token and two
// headers do not count as keys.
func TestAttack10KeysAreExempt(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{AddressLimit: true})
	tokens := account(t, s)
	f := &forgetful{s: s}
	f.exhaust(t)
	for _, key := range []string{testenv.AdminKey, testenv.ServiceKey} {
		for range 5 {
			if err := f.call(t.Context(), "authorization", "Bearer "+key); err != nil {
				t.Fatalf("with a key: %v", err)
			}
		}
	}
	for _, headers := range [][]string{
		{"authorization", "Bearer wrong"},
		{"authorization", "Bearer "},
		{"authorization", "Bearer " + tokens.GetAccessToken()},
		{"authorization", "Bearer " + testenv.AdminKey, "authorization", "Bearer " + testenv.AdminKey},
		{"authorization", testenv.AdminKey},
	} {
		wantRefused(t, f.call(t.Context(), headers...), codes.ResourceExhausted, "RATE_LIMITED")
	}
	// Calls of operators' methods without a key are limited.
	for range 2000 {
		_, err := s.Admin.GetUser(t.Context(), &latchkeyv1.GetUserRequest{})
		if status.Code(err) == codes.ResourceExhausted {
			if _, err := s.Admin.ListUsers(testenv.WithKey(t.Context(), testenv.AdminKey), &latchkeyv1.ListUsersRequest{}); err != nil {
				t.Errorf("an operator at the address of a guesser: %v", err)
			}
			return
		}
		wantRefused(t, err, codes.Unauthenticated, "KEY_INVALID")
	}
	t.Error("guesses of a key are not bounded")
}

// If a trusted proxy names no client, or the name does not parse, the call counts for the address of the proxy,
// whatever is to the left in the header.
func TestAttack10ProxyOfItsOwn(t *testing.T) {
	t.Parallel()
	for name, spoilt := range map[string][][]string{
		"none":                    {{}},
		"empty":                   {{""}, {","}, {" , "}},
		"unknown":                 {{"unknown"}, {"1.2.3.4, unknown"}, {"_hidden"}},
		"garbage at the right":    {{"1.2.3.4,garbage"}, {"5.6.7.8, 999.1.1.1"}, {"1.2.3.4:x"}},
		"garbage in a later line": {{"1.2.3.4", "garbage"}, {"5.6.7.8", ""}},
		"broken brackets":         {{"[2001:db8::1"}, {"[1.2.3.4]"}, {"2001:db8::1]"}, {"[]"}},
		"only the proxy itself":   {{"127.0.0.1"}, {"127.0.0.1, 127.0.0.1"}, {"::ffff:127.0.0.1"}},
		"a thousand times itself": {{strings.Repeat("127.0.0.1,", 1000) + "127.0.0.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t, testenv.Options{AddressLimit: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
			f := &forgetful{s: s}
			lines := func(values []string) (headers []string) {
				for _, value := range values {
					headers = append(headers, "x-forwarded-for", value)
				}
				return headers
			}
			if n := f.exhaust(t, lines(spoilt[0])...); n != forgotBurst(s) {
				t.Errorf("%d calls were answered", n)
			}
			for _, values := range spoilt {
				wantRefused(t, f.call(t.Context(), lines(values)...), codes.ResourceExhausted, "RATE_LIMITED")
			}
			if err := f.call(t.Context(), "x-forwarded-for", "203.0.113.7"); err != nil {
				t.Errorf("a client that is named: %v", err)
			}
		})
	}
}

// An address is one client, in whatever way a proxy writes it.
func TestAttack10SpellingsOfOneClient(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{AddressLimit: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	f := &forgetful{s: s}
	for first, same := range map[string][][]string{
		"203.0.113.7": {
			{"203.0.113.7:4711"},
			{"::ffff:203.0.113.7"},
			{"[::ffff:203.0.113.7]:1"},
			{"1.2.3.4,203.0.113.7"},
			{"1.2.3.4", "203.0.113.7"},
			{"203.0.113.7", "127.0.0.1"},
			{"garbage, 203.0.113.7"},
			{" 203.0.113.7 "},
		},
		"2001:db8::1":  {{"[2001:db8::2]:443"}, {"[2001:db8::3]"}, {"2001:db8::ffff:1"}, {"2001:DB8:0:0::9"}},
		"fe80::1%eth0": {{"fe80::1"}, {"fe80::1%eth1"}},
	} {
		f.exhaust(t, "x-forwarded-for", first)
		for _, values := range same {
			var headers []string
			for _, value := range values {
				headers = append(headers, "x-forwarded-for", value)
			}
			if err := f.call(t.Context(), headers...); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("%s, then %q: %v", first, values, err)
			}
		}
	}
}
