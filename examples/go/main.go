// Command go is a client of Latchkey in Go. It signs up, logs in, watches revocations, refreshes with a request id that
// it keeps, reads refusals and logs out. See ../README.md.
//
// A service that checks access tokens need not watch by itself: the package authverify does that.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// deadline limits one call.
const deadline = 10 * time.Second

func main() {
	if err := run(context.Background(), os.Getenv, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, describe(err))
		if errors.Is(err, errNoKey) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

var errNoKey = errors.New("LATCHKEY_SERVICE_KEY is not set: the watch of revocations needs a service key. `latchkey dev` " +
	"keeps one in the file service-key of its folder: see examples/README.md")

func run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	address := getenv("LATCHKEY_ADDR")
	if address == "" {
		address = "127.0.0.1:50051"
	}
	key := getenv("LATCHKEY_SERVICE_KEY")
	if key == "" {
		return errNoKey
	}
	conn, err := grpc.NewClient(address,
		// In production: credentials.NewTLS. Passwords and tokens go over this connection.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// The client notices a dead connection after 13 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	c := &client{
		auth: latchkeyv1.NewAuthServiceClient(conn), revocations: latchkeyv1.NewRevocationServiceClient(conn), key: key, stdout: stdout,
		email: "ada-" + uuid.NewString() + "@example.com", password: "correct horse battery",
	}
	return c.show(ctx)
}

// client shows the life of one account.
type client struct {
	auth            latchkeyv1.AuthServiceClient
	revocations     latchkeyv1.RevocationServiceClient
	key             string
	stdout          io.Writer
	email, password string
}

func (c *client) say(words ...any) { _, _ = fmt.Fprintln(c.stdout, words...) }

func (c *client) show(ctx context.Context) error {
	if err := signUp(ctx, c.auth, c.email, c.password); err != nil {
		return err
	}
	c.say("signed up:", c.email)
	login, err := logIn(ctx, c.auth, c.email, c.password)
	if err != nil {
		return err
	}
	tokens := login.GetTokens()
	c.say("logged in: session", tokens.GetSessionId())

	ctx, stop := context.WithCancel(ctx) // the watch ends with this function
	defer stop()
	heard := make(chan *latchkeyv1.Revocation, 1)
	w := &watcher{
		revocations: c.revocations, key: c.key, ready: make(chan struct{}),
		onRevocation: func(r *latchkeyv1.Revocation) {
			if r.GetSessionId() == tokens.GetSessionId() {
				heard <- r
			}
		},
	}
	ended := make(chan error, 1)
	go func() { ended <- w.watch(ctx) }()
	select {
	case <-w.ready:
		c.say("watching revocations")
	case err := <-ended:
		return err
	}
	next, err := c.refreshTwice(ctx, tokens.GetRefreshToken())
	if err != nil {
		return err
	}
	c.showRefusals(ctx)
	if err := logOut(ctx, c.auth, next); err != nil {
		return err
	}
	select {
	case r := <-heard:
		c.say("revoked:", r.GetKind(), r.GetSessionId())
		return nil
	case err := <-ended:
		return err
	}
}

// refreshTwice returns the next refresh token. It throws the first answer away, as if it had been lost on the way.
func (c *client) refreshTwice(ctx context.Context, token string) (next string, err error) {
	requestID := uuid.NewString()
	lost, err := refresh(ctx, c.auth, token, requestID)
	if err != nil {
		return "", err
	}
	again, err := refresh(ctx, c.auth, token, requestID)
	if err != nil {
		return "", err
	}
	if lost.GetRefreshToken() != again.GetRefreshToken() {
		return "", errors.New("the repeat was answered with another refresh token")
	}
	c.say("refreshed: the repeat has the same refresh token")
	return again.GetRefreshToken(), nil
}

func (c *client) showRefusals(ctx context.Context) {
	_, wrongPassword := logIn(ctx, c.auth, c.email, "not the password")
	for _, err := range []error{wrongPassword, signUp(ctx, c.auth, "no address", c.password)} {
		r := refusalOf(err)
		c.say("refused:", r.code, r.reason, "["+strings.Join(r.fields, "; ")+"]", "trace id", r.traceID)
	}
}

func signUp(ctx context.Context, auth latchkeyv1.AuthServiceClient, email, password string) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	_, err := auth.SignUp(ctx, &latchkeyv1.SignUpRequest{Email: email, Password: password, FirstName: "Ada", LastName: "Lovelace"})
	return err
}

func logIn(ctx context.Context, auth latchkeyv1.AuthServiceClient, email, password string) (*latchkeyv1.LoginResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	return auth.Login(ctx, &latchkeyv1.LoginRequest{Email: email, Password: password, DeviceName: "Go example"})
}

func logOut(ctx context.Context, auth latchkeyv1.AuthServiceClient, refreshToken string) error {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	_, err := auth.Logout(ctx, &latchkeyv1.LogoutRequest{RefreshToken: refreshToken})
	return err
}

// refresh trades the refresh token for the next pair of tokens. If no answer comes, it asks again with the same request
// id: the service recognises the repeat and answers with the same tokens. An app stores the id beside the token until
// the answer is there.
func refresh(ctx context.Context, auth latchkeyv1.AuthServiceClient, token, requestID string) (*latchkeyv1.Tokens, error) {
	for attempt := 0; ; attempt++ {
		call, cancel := context.WithTimeout(ctx, deadline)
		response, err := auth.RefreshToken(call, &latchkeyv1.RefreshTokenRequest{RefreshToken: token, RequestId: requestID})
		cancel()
		if err == nil {
			return response.GetTokens(), nil
		}
		lost := status.Code(err) == codes.Unavailable || status.Code(err) == codes.DeadlineExceeded
		if !lost || attempt == 4 {
			return nil, err
		}
		if err := sleep(ctx, max(refusalOf(err).retryAfter, 100*time.Millisecond<<attempt)); err != nil {
			return nil, err
		}
	}
}

// refusal has the contents of an error of Latchkey: a reason that a program can act on, the fields that are wrong, when
// to try again, and the trace id, with which operators find the call in the log.
type refusal struct {
	code       codes.Code
	reason     string
	fields     []string
	retryAfter time.Duration
	traceID    string
}

func refusalOf(err error) refusal {
	st := status.Convert(err)
	r := refusal{code: st.Code()}
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			if d.GetDomain() == "latchkey" {
				r.reason = d.GetReason()
			}
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				r.fields = append(r.fields, v.GetField()+": "+v.GetDescription())
			}
		case *errdetails.RetryInfo:
			r.retryAfter = d.GetRetryDelay().AsDuration()
		case *errdetails.RequestInfo:
			r.traceID = d.GetRequestId()
		}
	}
	return r
}

// describe returns one line about the error that ended the program.
func describe(err error) string {
	if _, isStatus := status.FromError(err); !isStatus {
		return err.Error()
	}
	r := refusalOf(err)
	return strings.TrimSpace(fmt.Sprintf("%s %s", r.code, r.reason)) + ": " + status.Convert(err).Message()
}

// watcher calls onRevocation for each revocation.
type watcher struct {
	revocations  latchkeyv1.RevocationServiceClient
	key          string
	ready        chan struct{} // closed when the snapshot is complete
	onRevocation func(*latchkeyv1.Revocation)

	cursor string
	synced bool
}

// watch reads one stream after another until ctx ends. The service ends a stream when its connection is too old; the
// next stream continues after the last cursor, so that no revocation is missed.
func (w *watcher) watch(ctx context.Context) error {
	for failures := 0; ; failures++ {
		before := w.cursor
		err := w.follow(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if w.cursor != before {
			failures = 0
		}
		r := refusalOf(err)
		switch r.reason {
		case "KEY_INVALID", "VALIDATION_FAILED":
			return err // trying again would not help
		case "CURSOR_EXPIRED":
			w.cursor = "" // start with a snapshot
		}
		if err := sleep(ctx, max(r.retryAfter, min(100*time.Millisecond<<min(failures, 6), 5*time.Second))); err != nil {
			return err
		}
	}
}

// follow reads one stream to its end.
func (w *watcher) follow(ctx context.Context) error {
	stream, err := w.revocations.WatchRevocations(
		metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+w.key), &latchkeyv1.WatchRevocationsRequest{Cursor: w.cursor},
	)
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		for _, r := range response.GetRevocations() {
			w.onRevocation(r)
		}
		w.cursor = response.GetCursor()
		if response.GetComplete() && !w.synced {
			w.synced = true
			close(w.ready)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
