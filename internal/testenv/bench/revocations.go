package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/latchkey-auth/latchkey/authverify"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
)

const (
	// logouts are measured one after the other.
	logouts = 100
	// watcherConnections is the number of connections for the watchers: a connection has at most 128 streams.
	watcherConnections = 100
	serviceKey         = "the service key of a bench"
	// deadTime bounds the logout beside a killed replica. It is above the longest lease.
	deadTime = 30 * time.Second
)

// revocations has the times in which an ended session is ended everywhere.
type revocations struct {
	// Logout is the time of the call on one of two replicas.
	Logout latency `json:"logout"`
	// Verifier is the time from the logout's call until authverify in another process, which watches the other replica,
	// refuses the token.
	Verifier latency `json:"verifier"`
	// KilledMillis is the time of a logout right after the other replica was killed. LeaseMillis is the lease that it
	// waits for at most.
	KilledMillis float64 `json:"killed_replica_logout_ms"`
	// Watchers is how many watched at the end. ToldMillis is the time from a logout's call until the last of them had
	// received the row. WatcherBytes is the server's memory for each.
	Watchers     int     `json:"watchers"`
	ToldMillis   float64 `json:"all_watchers_told_ms"`
	WatcherBytes float64 `json:"memory_bytes_per_watcher"`
}

type latency struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

func latencyOf(took []time.Duration) latency {
	r := benchkit.Summarise(took, 1)
	return latency{r.P50, r.P99}
}

// serviceSettings let the bench watch revocations.
func serviceSettings() []string {
	sum := sha256.Sum256([]byte(serviceKey))
	return []string{"LATCHKEY_SERVICE_KEY_SHA256=" + hex.EncodeToString(sum[:])}
}

// measureRevocations starts a second replica beside the one that was measured.
func (s *stack) measureRevocations(ctx context.Context, o options, first *benchkit.Latchkey, accounts []account) (_ *revocations, err error) {
	second, err := s.startLatchkey(ctx, "second", o.latchkey)
	if err != nil {
		return nil, err
	}
	b := &ender{accounts: accounts}
	if b.conn, err = dialOne(first.GRPC); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.conn.Close()) }()
	r := &revocations{Watchers: o.watchers}
	if r.Logout, r.Verifier, err = b.logoutsSeen(ctx, second); err != nil {
		return nil, fmt.Errorf("logouts: %w", err)
	}
	if err := second.Kill(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, deadTime)
	defer cancel()
	_, took, err := b.end(ctx)
	if err != nil {
		return nil, fmt.Errorf("logout beside a killed replica: %w", err)
	}
	r.KilledMillis = benchkit.Millis(took)
	return r, nil
}

func dialOne(addr string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

// ender ends sessions on one replica.
type ender struct {
	conn     *grpc.ClientConn
	accounts []account
	next     int
}

// logIn starts a session, of a different account each time.
func (e *ender) logIn(ctx context.Context) (*latchkeyv1.Tokens, error) {
	a := e.accounts[e.next%len(e.accounts)]
	e.next++
	resp, err := latchkeyv1.NewAuthServiceClient(e.conn).Login(ctx, &latchkeyv1.LoginRequest{Email: a.email, Password: accountPassword})
	return resp.GetTokens(), err
}

func (e *ender) logOut(ctx context.Context, tokens *latchkeyv1.Tokens) (time.Duration, error) {
	began := time.Now()
	_, err := latchkeyv1.NewAuthServiceClient(e.conn).Logout(ctx, &latchkeyv1.LogoutRequest{RefreshToken: tokens.GetRefreshToken()})
	return time.Since(began), err
}

// end starts a session and ends it.
func (e *ender) end(ctx context.Context) (*latchkeyv1.Tokens, time.Duration, error) {
	tokens, err := e.logIn(ctx)
	if err != nil {
		return nil, 0, err
	}
	took, err := e.logOut(ctx, tokens)
	return tokens, took, err
}

// logoutsSeen measures logouts, and how soon a verifier that watches the other replica refuses the ended tokens.
func (e *ender) logoutsSeen(ctx context.Context, other *benchkit.Latchkey) (logout, seen latency, err error) {
	conn, err := dialOne(other.GRPC)
	if err != nil {
		return logout, seen, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	verifier, err := newVerifier(conn, other.HTTP) //nolint:contextcheck // what it does in the background ends with Close
	if err != nil {
		return logout, seen, err
	}
	defer verifier.Close()
	if err := verifier.Ready(ctx); err != nil {
		return logout, seen, err
	}
	var calls, refusals []time.Duration
	for range logouts {
		tokens, err := e.logIn(ctx)
		if err != nil {
			return logout, seen, err
		}
		if _, err := verifier.Verify(ctx, tokens.GetAccessToken()); err != nil {
			return logout, seen, fmt.Errorf("a good token: %w", err)
		}
		began := time.Now()
		refused := make(chan time.Duration, 1)
		failed := make(chan error, 1)
		go func() {
			failed <- untilRefused(ctx, verifier, tokens.GetAccessToken())
			refused <- time.Since(began)
		}()
		took, err := e.logOut(ctx, tokens)
		if err := errors.Join(err, <-failed); err != nil {
			return logout, seen, err
		}
		calls, refusals = append(calls, took), append(refusals, <-refused)
	}
	return latencyOf(calls), latencyOf(refusals), nil
}

// newVerifier returns one that asks the replica with these addresses.
func newVerifier(conn *grpc.ClientConn, http string) (*authverify.Verifier, error) {
	return authverify.NewVerifier(authverify.Config{
		Issuer: benchkit.Issuer, Audience: "latchkey", JWKSURL: "http://" + http + "/.well-known/jwks.json", Conn: conn, ServiceKey: serviceKey,
	})
}

func untilRefused(ctx context.Context, verifier *authverify.Verifier, token string) error {
	for {
		_, err := verifier.Verify(ctx, token)
		if errors.Is(err, authverify.ErrRevoked) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := benchkit.Pause(ctx, 200*time.Microsecond); err != nil {
			return err
		}
	}
}

// measureWatchers opens many streams, and measures how soon all have received one logout.
func (s *stack) measureWatchers(ctx context.Context, r *revocations, l *benchkit.Latchkey, accounts []account) (err error) {
	e := &ender{accounts: accounts}
	if e.conn, err = dialOne(l.GRPC); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.conn.Close()) }()
	tokens, err := e.logIn(ctx)
	if err != nil {
		return err
	}
	before, err := inUse(ctx, l.Ops)
	if err != nil {
		return err
	}
	crowd := &crowd{heard: make(chan error, r.Watchers), session: tokens.GetSessionId()}
	defer func() { err = errors.Join(err, crowd.leave()) }()
	if err := crowd.gather(ctx, l.GRPC, r.Watchers); err != nil {
		return fmt.Errorf("%d watchers: %w", r.Watchers, err)
	}
	after, err := inUse(ctx, l.Ops)
	if err != nil {
		return err
	}
	r.WatcherBytes = (after - before) / float64(r.Watchers)
	// Watchers receive the row when it is committed, and the caller gets its answer when the row is final. The replica
	// that was killed before may delay that.
	began := time.Now()
	final := make(chan error, 1)
	go func() {
		_, err := e.logOut(ctx, tokens)
		final <- err
	}()
	for range r.Watchers {
		if err := <-crowd.heard; err != nil {
			return err
		}
	}
	r.ToldMillis = benchkit.Millis(time.Since(began))
	return <-final
}

// inUse is the memory of the heap and the stacks after a collection. The resident memory still includes memory that
// earlier rounds have freed.
func inUse(ctx context.Context, ops string) (float64, error) {
	if _, err := benchkit.Get(ctx, "http://"+ops+"/debug/pprof/heap?gc=1"); err != nil {
		return 0, err
	}
	values, err := benchkit.Scrape(ctx, ops)
	return values["go_memstats_heap_inuse_bytes"] + values["go_memstats_stack_inuse_bytes"], err
}

// crowd is many watchers that wait for the end of one session.
type crowd struct {
	session string
	heard   chan error // one for each watcher
	conns   []*grpc.ClientConn
}

func (c *crowd) gather(ctx context.Context, addr string, watchers int) error {
	for range watcherConnections {
		conn, err := dialOne(addr)
		if err != nil {
			return err
		}
		c.conns = append(c.conns, conn)
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+serviceKey)
	failed := make(chan error, watchers)
	var ready sync.WaitGroup
	for i := range watchers {
		ready.Go(func() { failed <- c.watch(ctx, c.conns[i%len(c.conns)]) })
	}
	ready.Wait()
	close(failed)
	for err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// watch returns when the snapshot is complete, and continues to listen.
func (c *crowd) watch(ctx context.Context, conn *grpc.ClientConn) error {
	stream, err := latchkeyv1.NewRevocationServiceClient(conn).WatchRevocations(ctx, &latchkeyv1.WatchRevocationsRequest{})
	if err != nil {
		return err
	}
	for complete := false; !complete; {
		resp, err := stream.Recv()
		if err != nil {
			return err
		}
		complete = resp.GetComplete()
	}
	go func() {
		for {
			resp, err := stream.Recv()
			told := slices.ContainsFunc(resp.GetRevocations(), func(row *latchkeyv1.Revocation) bool { return row.GetSessionId() == c.session })
			if err != nil || told {
				c.heard <- err
				return
			}
		}
	}()
	return nil
}

func (c *crowd) leave() error {
	var errs []error
	for _, conn := range c.conns {
		errs = append(errs, conn.Close())
	}
	return errors.Join(errs...)
}

// write writes the lines for people.
func (r *revocations) write(w io.Writer) error {
	ms := func(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) + " ms" }
	_, err := fmt.Fprintf(w, `
Revocations, two replicas

  Logout returns after                              %s (median), %s (p99)
  authverify in another process refuses after       %s (median), %s (p99)
  Logout right after the other replica was killed   %s
  %d watchers have all heard of a logout after   %s, %.0f KiB of server memory for each watcher
`, ms(r.Logout.P50), ms(r.Logout.P99), ms(r.Verifier.P50), ms(r.Verifier.P99), ms(r.KilledMillis), r.Watchers, ms(r.ToldMillis), r.WatcherBytes/1024)
	return err
}
