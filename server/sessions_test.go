package server_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// as makes calls with the session's access token.
func as(t *testing.T, tokens *latchkeyv1.Tokens) context.Context {
	t.Helper()
	return testenv.WithKey(t.Context(), tokens.GetAccessToken())
}

// listPage lists the sessions. It must succeed.
func listPage(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens, size int32, token string) ([]*latchkeyv1.Session, string) {
	t.Helper()
	resp, err := s.SessionService.ListSessions(as(t, by), &latchkeyv1.ListSessionsRequest{PageSize: size, PageToken: token})
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	return resp.GetSessions(), resp.GetNextPageToken()
}

func wantListed(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens, want ...*latchkeyv1.Tokens) {
	t.Helper()
	sessions, next := listPage(t, s, by, 0, "")
	var got, ids []string
	for _, sess := range sessions {
		got = append(got, sess.GetId())
	}
	for _, tokens := range want {
		ids = append(ids, tokens.GetSessionId())
	}
	if !slices.Equal(got, ids) || next != "" {
		t.Fatalf("listed %v, want %v", got, ids)
	}
}

func tryGetSession(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens, id string) (*latchkeyv1.Session, error) {
	t.Helper()
	resp, err := s.SessionService.GetSession(as(t, by), &latchkeyv1.GetSessionRequest{SessionId: id})
	return resp.GetSession(), err
}

func revokeSession(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens, id string) {
	t.Helper()
	if _, err := s.SessionService.RevokeSession(as(t, by), &latchkeyv1.RevokeSessionRequest{SessionId: id}); err != nil {
		t.Fatalf("revoke %s: %v", id, err)
	}
}

func tryRevokeOthers(t *testing.T, s *testenv.Server, by *latchkeyv1.Tokens) error {
	t.Helper()
	_, err := s.SessionService.RevokeOtherSessions(as(t, by), &latchkeyv1.RevokeOtherSessionsRequest{})
	return err
}

// wantEnded checks that neither token of the session is accepted.
func wantEnded(t *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens) {
	t.Helper()
	wantValid(t, s, tokens.GetAccessToken(), ended)
	_, err := tryRefresh(t.Context(), s, tokens.GetRefreshToken(), "")
	wantRefused(t, err, codes.Unauthenticated, "SESSION_ENDED")
}

// wantLive checks that both tokens of the session are accepted, and returns the next ones.
func wantLive(t *testing.T, s *testenv.Server, tokens *latchkeyv1.Tokens) *latchkeyv1.Tokens {
	t.Helper()
	wantValid(t, s, tokens.GetAccessToken(), 0)
	next := refresh(t, s, tokens.GetRefreshToken(), "")
	wantValid(t, s, next.GetAccessToken(), 0)
	return next
}

// device logs in with a name, a second later than the login before.
func device(t *testing.T, s *testenv.Server, name string) *latchkeyv1.Tokens {
	t.Helper()
	s.Clock.Advance(time.Second)
	resp, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password, DeviceName: name})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetTokens()
}

func TestListSessions(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	start := s.Clock.Now()
	laptop, phone := device(t, s, "laptop"), device(t, s, "Ada's téléphone")
	signUp(t, s, "bob@example.com")
	bob := logIn(t, s, "bob@example.com")
	s.Clock.Advance(time.Minute)
	laptop = refresh(t, s, laptop.GetRefreshToken(), "")
	wantListed(t, s, laptop, phone, laptop)
	wantListed(t, s, bob, bob)

	sessions, _ := listPage(t, s, laptop, 0, "")
	want := []*latchkeyv1.Session{sessions[0], sessions[1]}
	for i, shown := range []struct {
		name    string
		login   time.Time
		use     time.Time
		current bool
	}{
		{"Ada's téléphone", start.Add(2 * time.Second), start.Add(2 * time.Second), false},
		{"laptop", start.Add(time.Second), s.Clock.Now(), true},
	} {
		sess := want[i]
		if sess.GetDeviceName() != shown.name || sess.GetAddress() != "127.0.0.1" || sess.GetCurrent() != shown.current ||
			!sess.GetCreateTime().AsTime().Equal(shown.login) || !sess.GetLastUseTime().AsTime().Equal(shown.use) ||
			!sess.GetExpireTime().AsTime().Equal(shown.use.Add(testenv.IdleTTL)) {
			t.Errorf("%s is shown as %v", shown.name, sess)
		}
		got, err := tryGetSession(t, s, laptop, sess.GetId())
		if err != nil || got.String() != sess.String() {
			t.Errorf("%s alone is %v, %v", shown.name, got, err)
		}
	}
	// A session that has expired is not shown, even before Redis deletes it.
	s.Clock.Advance(testenv.IdleTTL - time.Minute)
	laptop = refresh(t, s, laptop.GetRefreshToken(), "")
	wantListed(t, s, laptop, laptop)
	_, err := tryGetSession(t, s, laptop, phone.GetSessionId())
	wantRefused(t, err, codes.NotFound, "SESSION_NOT_FOUND")
}

func TestSessionAddressBehindAProxy(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	signUp(t, s, email)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-forwarded-for", "198.51.100.9, 2001:db8::7")
	resp, err := s.Auth.Login(ctx, &latchkeyv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		t.Fatal(err)
	}
	got, err := tryGetSession(t, s, resp.GetTokens(), resp.GetTokens().GetSessionId())
	if err != nil || got.GetAddress() != "2001:db8::7" || got.GetDeviceName() != "" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestSessionPages(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	signUp(t, s, email)
	var all []*latchkeyv1.Tokens
	for i := range 7 {
		if i%2 == 0 { // some in the same millisecond
			s.Clock.Advance(time.Second)
		}
		all = append(all, logIn(t, s, email))
	}
	by := all[0]
	whole, next := listPage(t, s, by, 0, "")
	if len(whole) != 7 || next != "" {
		t.Fatalf("%d sessions, next %q", len(whole), next)
	}
	for _, size := range []int32{1, 2, 3, 6, 7, 8, 100} {
		var got []string
		token, pages := "", 0
		for pages == 0 || token != "" {
			var page []*latchkeyv1.Session
			page, token = listPage(t, s, by, size, token)
			if len(page) == 0 || len(page) > int(size) {
				t.Fatalf("a page of %d for %d", len(page), size)
			}
			for _, sess := range page {
				got = append(got, sess.GetId())
			}
			pages++
		}
		for i, sess := range whole {
			if len(got) != 7 || got[i] != sess.GetId() {
				t.Fatalf("in pages of %d: %v", size, got)
			}
		}
	}
	// Sessions that start or end between two pages do not shift the pages.
	first, token := listPage(t, s, by, 3, "")
	s.Clock.Advance(time.Second)
	logIn(t, s, email)
	revokeSession(t, s, by, first[2].GetId())
	if second, _ := listPage(t, s, by, 3, token); second[0].GetId() != whole[3].GetId() {
		t.Error("the second page is another one")
	}

	signUp(t, s, "bob@example.com")
	bob := logIn(t, s, "bob@example.com")
	for name, test := range map[string]struct {
		by    *latchkeyv1.Tokens
		size  int32
		token string
		field string
	}{
		"another account's": {bob, 0, token, "page_token"},
		"forged":            {by, 0, flip(token, 20), "page_token"},
		"truncated":         {by, 0, token[:len(token)-1], "page_token"},
		"garbage":           {by, 0, "garbage", "page_token"},
		"long":              {by, 0, strings.Repeat("a", 257), "page_token"},
		"a page of 101":     {by, 101, "", "page_size"},
		"a page of -1":      {by, -1, "", "page_size"},
	} {
		t.Log(name)
		_, err := s.SessionService.ListSessions(as(t, test.by), &latchkeyv1.ListSessionsRequest{PageSize: test.size, PageToken: test.token})
		wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", test.field)
	}
}

// TestForeignSessionsLookUnknown checks that the answers have the same bytes, except the trace id.
func TestForeignSessionsLookUnknown(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	ada := account(t, s)
	signUp(t, s, "bob@example.com")
	bob := logIn(t, s, "bob@example.com")
	logOut(t, s, logIn(t, s, email).GetRefreshToken())
	out := logIn(t, s, email)
	logOut(t, s, out.GetRefreshToken())
	var messages []string
	for _, id := range []string{bob.GetSessionId(), uuid.NewString(), out.GetSessionId(), uuid.Nil.String()} {
		_, err := tryGetSession(t, s, ada, id)
		wantRefused(t, err, codes.NotFound, "SESSION_NOT_FOUND")
		messages = append(messages, err.Error())
	}
	if slices.ContainsFunc(messages, func(m string) bool { return m != messages[0] }) {
		t.Errorf("they differ: %q", messages)
	}
	if _, err := tryGetSession(t, s, ada, strings.ToUpper(ada.GetSessionId())); err != nil {
		t.Errorf("the own one, in capitals: %v", err)
	}
	for _, bad := range []string{"", "garbage", ada.GetSessionId()[1:]} {
		_, err := tryGetSession(t, s, ada, bad)
		wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "session_id")
		_, err = s.SessionService.RevokeSession(as(t, ada), &latchkeyv1.RevokeSessionRequest{SessionId: bad})
		wantRefused(t, err, codes.InvalidArgument, "VALIDATION_FAILED", "session_id")
	}
	// The call succeeds and changes nothing: not the ledger, not Redis, not the index.
	revokeSession(t, s, ada, bob.GetSessionId())
	bob = wantLive(t, s, bob)
	wantListed(t, s, bob, bob)
}

// Every method needs a good access token.
func TestSessionServiceWantsAToken(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	good := account(t, s)
	out := logIn(t, s, email)
	logOut(t, s, out.GetRefreshToken())
	calls := map[string]func(ctx context.Context) error{
		"ListSessions": func(ctx context.Context) error {
			_, err := s.SessionService.ListSessions(ctx, &latchkeyv1.ListSessionsRequest{})
			return err
		},
		"GetSession": func(ctx context.Context) error {
			_, err := s.SessionService.GetSession(ctx, &latchkeyv1.GetSessionRequest{SessionId: good.GetSessionId()})
			return err
		},
		"RevokeSession": func(ctx context.Context) error {
			_, err := s.SessionService.RevokeSession(ctx, &latchkeyv1.RevokeSessionRequest{SessionId: good.GetSessionId()})
			return err
		},
		"RevokeOtherSessions": func(ctx context.Context) error {
			_, err := s.SessionService.RevokeOtherSessions(ctx, &latchkeyv1.RevokeOtherSessionsRequest{})
			return err
		},
		"ChangePassword": func(ctx context.Context) error {
			_, err := s.Auth.ChangePassword(ctx, &latchkeyv1.ChangePasswordRequest{CurrentPassword: password, NewPassword: newPassword})
			return err
		},
	}
	refuses := func(code codes.Code, reason string, ctx func() context.Context) {
		t.Helper()
		for name, call := range calls {
			t.Log(name, reason)
			wantRefused(t, call(ctx()), code, reason)
		}
	}
	refuses(codes.Unauthenticated, "TOKEN_INVALID", func() context.Context { return t.Context() })
	refuses(codes.Unauthenticated, "TOKEN_INVALID", func() context.Context { return testenv.WithKey(t.Context(), good.GetRefreshToken()) })
	refuses(codes.Unauthenticated, "SESSION_ENDED", func() context.Context { return as(t, out) })
	wantLive(t, s, good)
	execSQL(t, s, "UPDATE users SET is_active = false")
	settled(t, s)
	refuses(codes.PermissionDenied, "ACCOUNT_DISABLED", func() context.Context { return as(t, good) })
	execSQL(t, s, "DELETE FROM users")
	settled(t, s)
	refuses(codes.Unauthenticated, "USER_NOT_FOUND", func() context.Context { return as(t, good) })
	s.Clock.Advance(testenv.AccessTokenTTL)
	refuses(codes.Unauthenticated, "TOKEN_EXPIRED", func() context.Context { return as(t, good) })
}
