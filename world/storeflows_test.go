//go:build world

package world

import (
	"bufio"
	"io"
	"net"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// catcher is a mail server that keeps its mails.
type catcher struct {
	addr  string
	mu    sync.Mutex
	mails []string
}

func catchMails(t *testing.T) *catcher {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	check(t, err)
	c := &catcher{addr: listener.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { c.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
	return c
}

// serve implements as much of RFC 5321 as a client without extensions needs.
func (c *catcher) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(startTime))
	say := func(text string) { _, _ = io.WriteString(conn, text+"\r\n") }
	lines := bufio.NewScanner(conn)
	say("220 mail.example.com")
	for lines.Scan() {
		verb, _, _ := strings.Cut(strings.ToUpper(lines.Text()), " ")
		switch verb {
		case "DATA":
			say("354 go on")
			var mail strings.Builder
			for lines.Scan() && lines.Text() != "." {
				mail.WriteString(lines.Text() + "\n")
			}
			c.mu.Lock()
			c.mails = append(c.mails, mail.String())
			c.mu.Unlock()
			say("250 kept")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 mail.example.com")
		}
	}
}

var resetLink = regexp.MustCompile(`https://app\.example\.com/reset\?token=[\w%.-]+`)

// resetToken waits for the link that was mailed to an address.
func (c *catcher) resetToken(t *testing.T, email string) string {
	t.Helper()
	link := ""
	testenv.Eventually(t, startTime, "the reset mail is there", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, mail := range c.mails {
			// Quoted-printable: lines are broken by "=", and "=" is "=3D".
			mail = strings.ReplaceAll(strings.ReplaceAll(mail, "=\n", ""), "=3D", "=")
			if found := resetLink.FindString(mail); found != "" && strings.Contains(mail, "<"+email+">") {
				link = found
			}
		}
		return link != ""
	})
	page, err := url.Parse(link)
	check(t, err)
	return page.Query().Get("token")
}

// storeEnviron is serveEnviron with a catcher of mails and the cheapest hashes that are allowed.
func storeEnviron(t *testing.T, database, redisURL string, mails *catcher, settings ...string) []string {
	t.Helper()
	return serveEnviron(t, redisURL, append([]string{
		"LATCHKEY_DATABASE_URL=" + database, "LATCHKEY_SMTP_URL=smtp://" + mails.addr + "?starttls=never", "LATCHKEY_ARGON2_MEMORY_KIB=7168", "LATCHKEY_ARGON2_TIME=5",
	}, settings...)...)
}

// customer is a person with sessions on two replicas.
type customer struct {
	t          *testing.T
	email      string
	one, other latchkeyv1.AuthServiceClient
	sessions   latchkeyv1.SessionServiceClient // of other
	ended      []*latchkeyv1.Tokens
}

func newCustomer(t *testing.T, one, other *service, email string) *customer {
	t.Helper()
	there := testenv.Dial(t, other.grpc)
	return &customer{
		t: t, email: email, one: latchkeyv1.NewAuthServiceClient(testenv.Dial(t, one.grpc)), other: latchkeyv1.NewAuthServiceClient(there),
		sessions: latchkeyv1.NewSessionServiceClient(there),
	}
}

func (c *customer) login(at latchkeyv1.AuthServiceClient, password string) *latchkeyv1.Tokens {
	c.t.Helper()
	got, err := at.Login(c.t.Context(), &latchkeyv1.LoginRequest{Email: c.email, Password: password})
	check(c.t, err)
	return got.GetTokens()
}

func (c *customer) isRefused(password string) {
	c.t.Helper()
	for _, at := range []latchkeyv1.AuthServiceClient{c.one, c.other} {
		if _, err := at.Login(c.t.Context(), &latchkeyv1.LoginRequest{Email: c.email, Password: password}); status.Code(err) != codes.Unauthenticated {
			c.t.Errorf("a former password: %v", err)
		}
	}
}

// are checks at a replica that every one of these tokens is valid, or none.
func (c *customer) are(at latchkeyv1.AuthServiceClient, valid bool, tokens ...*latchkeyv1.Tokens) {
	c.t.Helper()
	for _, one := range tokens {
		got, err := at.ValidateToken(c.t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: one.GetAccessToken()})
		if err != nil || got.GetValid() != valid {
			c.t.Errorf("a token that should be valid: %t, is: %v, %v", valid, got, err)
		}
	}
}

// end records tokens that must be refused on both replicas from now on.
func (c *customer) end(tokens ...*latchkeyv1.Tokens) {
	c.t.Helper()
	c.ended = append(c.ended, tokens...)
	c.staysEnded()
}

func (c *customer) staysEnded() {
	c.t.Helper()
	for _, at := range []latchkeyv1.AuthServiceClient{c.other, c.one} {
		c.are(at, false, c.ended...)
		for _, tokens := range c.ended {
			if _, err := at.RefreshToken(c.t.Context(), &latchkeyv1.RefreshTokenRequest{RefreshToken: tokens.GetRefreshToken()}); status.Code(err) != codes.Unauthenticated {
				c.t.Errorf("the refresh token of an ended session: %v", err)
			}
		}
	}
}

// live does everything that a person does, each step on another replica than the one before. It returns the tokens of a
// session that stays, and the password of the account.
func (c *customer) live(mails *catcher) (stays *latchkeyv1.Tokens, password string) {
	t := c.t
	t.Helper()
	ctx := t.Context()
	first, second, third := "correct horse battery", "another horse battery", "yet another horse battery"
	_, err := c.one.SignUp(ctx, &latchkeyv1.SignUpRequest{Email: c.email, Password: first, FirstName: "Ada", LastName: "L"})
	check(t, err)
	phone, laptop, tablet := c.login(c.other, first), c.login(c.one, first), c.login(c.other, first)
	c.are(c.one, true, phone, laptop, tablet)

	attempt := &latchkeyv1.RefreshTokenRequest{RefreshToken: laptop.GetRefreshToken(), RequestId: uuid.NewString()}
	refreshed, err := c.one.RefreshToken(ctx, attempt)
	check(t, err)
	repeated, err := c.other.RefreshToken(ctx, attempt)
	check(t, err)
	if refreshed.GetTokens().GetRefreshToken() != repeated.GetTokens().GetRefreshToken() {
		t.Error("a repeated refresh has another answer")
	}
	laptop = refreshed.GetTokens()

	asPhone := metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+phone.GetAccessToken())
	list, err := c.sessions.ListSessions(asPhone, &latchkeyv1.ListSessionsRequest{})
	if err != nil || len(list.GetSessions()) != 3 {
		t.Fatalf("%d sessions: %v", len(list.GetSessions()), err)
	}
	_, err = c.one.Logout(ctx, &latchkeyv1.LogoutRequest{RefreshToken: tablet.GetRefreshToken()})
	check(t, err)
	c.end(tablet)

	_, err = c.one.ChangePassword(asPhone, &latchkeyv1.ChangePasswordRequest{CurrentPassword: first, NewPassword: second})
	check(t, err)
	c.end(laptop)
	c.are(c.other, true, phone)
	c.isRefused(first)

	_, err = c.other.ForgotPassword(ctx, &latchkeyv1.ForgotPasswordRequest{Email: c.email})
	check(t, err)
	_, err = c.one.ResetPassword(ctx, &latchkeyv1.ResetPasswordRequest{Token: mails.resetToken(t, c.email), NewPassword: third})
	check(t, err)
	c.end(phone)
	c.isRefused(second)
	return c.login(c.other, third), third
}

// allFlows describes live in the table.
const allFlows = "two replicas: sign up, log in, refresh and repeat it, list, log out, change and reset the password; ends seen by both at once"

// outage calls lose, which ends the primary that has a session, and returns for how long from then on the session's
// writes were refused. It refreshes the session on both replicas in turn, as a client does, with the same request id
// until there is an answer. The session's access token must be valid all the time.
func (c *customer) outage(session *latchkeyv1.Tokens, lose func()) (refused time.Duration, newest *latchkeyv1.Tokens) {
	t := c.t
	t.Helper()
	lose()
	began := time.Now()
	refusals := 0
	for streak := 0; streak < 20; {
		attempt := &latchkeyv1.RefreshTokenRequest{RefreshToken: session.GetRefreshToken(), RequestId: uuid.NewString()}
		for answered := false; !answered; {
			for _, at := range []latchkeyv1.AuthServiceClient{c.one, c.other} {
				got, err := at.RefreshToken(t.Context(), attempt)
				switch {
				case err == nil && streak == 0:
					refused = time.Since(began)
					fallthrough
				case err == nil:
					session, answered = got.GetTokens(), true
					streak++
				case status.Code(err) == codes.Unavailable && time.Since(began) < startTime:
					refusals, streak = refusals+1, 0
					c.are(at, true, session)
				default:
					t.Fatalf("a refresh %s after the failure: %v", time.Since(began), err)
				}
			}
		}
	}
	if refusals == 0 {
		t.Error("nothing was refused: nothing failed")
	}
	return refused.Round(100 * time.Millisecond), session
}
