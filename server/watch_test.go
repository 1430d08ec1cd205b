package server_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

type revocationStream = grpc.ServerStreamingClient[latchkeyv1.WatchRevocationsResponse]

// watch opens a stream with a service key.
func watch(t *testing.T, s *testenv.Server, cursor string) revocationStream {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+testenv.ServiceKey)
	stream, err := latchkeyv1.NewRevocationServiceClient(s.Conn).WatchRevocations(ctx, &latchkeyv1.WatchRevocationsRequest{Cursor: cursor})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// catchUp reads until everything was sent, and returns the rows and the last cursor.
func catchUp(t *testing.T, stream revocationStream) (rows []*latchkeyv1.Revocation, cursor string) {
	t.Helper()
	for {
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, resp.GetRevocations()...)
		if resp.GetComplete() {
			return rows, resp.GetCursor()
		}
	}
}

// A snapshot, the next rows, and a new stream after a break.
func TestWatchRevocations(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WallClock: true})
	signUp(t, s, email)
	before := logIn(t, s, email)
	logOut(t, s, before.GetRefreshToken())

	stream := watch(t, s, "")
	rows, cursor := catchUp(t, stream)
	if len(rows) != 1 || rows[0].GetSessionId() != before.GetSessionId() || rows[0].GetKind() != latchkeyv1.RevocationKind_REVOCATION_KIND_SESSION {
		t.Fatalf("the snapshot is %v", rows)
	}
	if life := rows[0].GetExpireTime().AsTime().Sub(rows[0].GetCreateTime().AsTime()); life < testenv.AccessTokenTTL {
		t.Errorf("may be forgotten after %s, before its tokens have expired", life)
	}
	during := logIn(t, s, email)
	logOut(t, s, during.GetRefreshToken())
	rows, _ = catchUp(t, stream)
	for len(rows) == 0 { // heartbeats
		rows, _ = catchUp(t, stream)
	}
	if len(rows) != 1 || rows[0].GetSessionId() != during.GetSessionId() {
		t.Fatalf("told of %v", rows)
	}
	// After the break: the rows in between and no others.
	rows, cursor = catchUp(t, watch(t, s, cursor))
	if len(rows) != 1 || rows[0].GetSessionId() != during.GetSessionId() {
		t.Fatalf("resumed with %v", rows)
	}
	if rows, _ = catchUp(t, watch(t, s, cursor)); len(rows) != 0 {
		t.Fatalf("resumed with %v, nothing was missed", rows)
	}
}

// Heartbeats come by themselves while the replica is up to date, and the stream ends when it is not.
func TestWatchHeartbeats(t *testing.T) {
	t.Parallel()
	proxy := testenv.NewProxy(t, testenv.Migrated(t))
	s := testenv.Start(t, testenv.Options{WallClock: true, DatabaseURL: proxy.URL(), Lease: time.Second})
	stream := watch(t, s, "")
	for range 3 {
		resp, err := stream.Recv()
		if err != nil || !resp.GetComplete() || resp.GetCursor() == "" {
			t.Fatalf("%v, %v", resp, err)
		}
	}
	proxy.Cut()
	for {
		_, err := stream.Recv()
		if err != nil {
			wantRefused(t, err, codes.Unavailable, "STORE_UNAVAILABLE")
			break
		}
	}
	proxy.Restore()
}

// TestWatchRefuses checks text that is not a cursor, or not a position in this ledger.
func TestWatchRefuses(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WallClock: true})
	other := testenv.Start(t, testenv.Options{WallClock: true})
	for _, one := range []*testenv.Server{s, other} {
		tokens := account(t, one)
		logOut(t, one, tokens.GetRefreshToken())
	}
	_, good := catchUp(t, watch(t, s, ""))
	_, foreign := catchUp(t, watch(t, other, ""))
	for name, test := range map[string]struct {
		cursor, reason string
		code           codes.Code
		fields         []string
	}{
		"garbage":             {"x", "VALIDATION_FAILED", codes.InvalidArgument, []string{"cursor"}},
		"with a line break":   {good[:8] + "\n" + good[8:], "VALIDATION_FAILED", codes.InvalidArgument, []string{"cursor"}},
		"cut short":           {good[:len(good)-1], "VALIDATION_FAILED", codes.InvalidArgument, []string{"cursor"}},
		"over long":           {good + good + good + good, "VALIDATION_FAILED", codes.InvalidArgument, []string{"cursor"}},
		"another version":     {flip(good, 0), "VALIDATION_FAILED", codes.InvalidArgument, []string{"cursor"}},
		"forged":              {flip(good, len(good)-5), "CURSOR_EXPIRED", codes.OutOfRange, nil},
		"of another database": {foreign, "CURSOR_EXPIRED", codes.OutOfRange, nil},
		"a place far ahead":   {good[:2] + "B" + good[3:], "CURSOR_EXPIRED", codes.OutOfRange, nil},
	} {
		_, err := watch(t, s, test.cursor).Recv()
		t.Log(name)
		wantRefused(t, err, test.code, test.reason, test.fields...)
	}
	// Without a key, and with an unknown one.
	for _, key := range []string{"", "Bearer ", "Bearer nonsense"} {
		ctx := t.Context()
		if key != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "authorization", key)
		}
		stream, err := latchkeyv1.NewRevocationServiceClient(s.Conn).WatchRevocations(ctx, &latchkeyv1.WatchRevocationsRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		wantRefused(t, err, codes.Unauthenticated, "KEY_INVALID")
	}
}

// A watch does not hold up a stop.
func TestWatchEndsWithTheServer(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WallClock: true})
	stream := watch(t, s, "")
	catchUp(t, stream)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s.Server.Shutdown(ctx, 0, nil)
	if ctx.Err() != nil {
		t.Error("the stop had to cut it off")
	}
	wantPlannedEnd(t, stream)
}

// wantPlannedEnd reads a stream to its end.
func wantPlannedEnd(t *testing.T, stream revocationStream) (cursor string) {
	t.Helper()
	for {
		resp, err := stream.Recv()
		if err != nil {
			wantRefused(t, err, codes.Unavailable, "STREAM_ENDED")
			retryAfter(t, err)
			return cursor
		}
		cursor = resp.GetCursor()
	}
}

// The client's deadline is not a failure of a store.
func TestWatchDeadline(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WallClock: true})
	// Without gRPC's own client, which would cancel the call before the server's clock ends it.
	peer := testenv.DialRaw(t, s.Addr)
	id, err := peer.Begin("/latchkey.v1.RevocationService/WatchRevocations", "authorization", "Bearer "+testenv.ServiceKey, "grpc-timeout", "1S")
	if err != nil {
		t.Fatal(err)
	}
	if err := peer.Send(id, testenv.Message(0, 0), 5, true, patience); err != nil {
		t.Fatal(err)
	}
	// gRPC resets the stream without a status, before or after the server ends it. If the server has a status, it is in
	// its log.
	testenv.Eventually(t, patience, "the watch ends", func() bool { return bytes.Contains(s.Logs.Bytes(), []byte("/WatchRevocations")) })
	if logs := s.Logs.Bytes(); bytes.Contains(logs, []byte("store unavailable")) {
		t.Errorf("%s", logs)
	}
}

// Streams end with a code that says so. The next one takes a new connection and misses nothing.
func TestStreamsEndBeforeTheirConnection(t *testing.T) {
	t.Parallel()
	const age = 5 * time.Second
	s := testenv.Start(t, testenv.Options{WallClock: true, ConnectionAge: age})
	tokens := account(t, s)
	conn := testenv.Dial(t, s.Addr)
	ctx := testenv.WithKey(t.Context(), testenv.ServiceKey)
	watch := func(cursor string) revocationStream {
		stream, err := latchkeyv1.NewRevocationServiceClient(conn).WatchRevocations(ctx, &latchkeyv1.WatchRevocationsRequest{Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	connection := func(stream revocationStream) string {
		on, ok := peer.FromContext(stream.Context())
		if !ok {
			t.Fatal("the stream has no connection")
		}
		return on.LocalAddr.String()
	}
	first := watch("")
	catchUp(t, first)
	began := time.Now()
	health, err := healthpb.NewHealthClient(conn).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := health.Recv(); err != nil {
		t.Fatal(err)
	}
	cursor := wantPlannedEnd(t, first)
	if lived := time.Since(began); lived < age*9/10 {
		t.Errorf("ended after %s", lived)
	}
	_, err = health.Recv()
	wantRefused(t, err, codes.Unavailable, "STREAM_ENDED")
	logOut(t, s, tokens.GetRefreshToken())
	second := watch(cursor)
	rows, _ := catchUp(t, second)
	for len(rows) == 0 { // heartbeats
		rows, _ = catchUp(t, second)
	}
	if len(rows) != 1 || rows[0].GetSessionId() != tokens.GetSessionId() {
		t.Errorf("went on with %v", rows)
	}
	if connection(first) == connection(second) {
		t.Error("the second stream is on the connection of the first")
	}
}

// Pings every 6 s, from a client that sends nothing else, are allowed.
func TestKeepalive(t *testing.T) {
	t.Parallel()
	const each, pings = 6 * time.Second, 4
	s := testenv.Start(t, testenv.Options{WallClock: true})
	peer := testenv.DialRaw(t, s.Addr)
	ticker := time.NewTicker(each)
	defer ticker.Stop()
	for range pings { // gRPC forgives two that come too soon
		if err := peer.Frames(func(f *http2.Framer) error { return f.WritePing(false, [8]byte{1}) }); err != nil {
			t.Fatal(err)
		}
		<-ticker.C
	}
	if peer.Closed() {
		t.Error("the server has closed the connection")
	}
}

// TestManyWatchers checks that all of them get one revocation.
func TestManyWatchers(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{WallClock: true})
	tokens := account(t, s)
	heard := make(chan string, 200)
	conn := s.Conn
	for i := range cap(heard) {
		if i%100 == 0 { // a connection has up to 128 streams
			conn = testenv.Dial(t, s.Addr)
		}
		ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+testenv.ServiceKey)
		stream, err := latchkeyv1.NewRevocationServiceClient(conn).WatchRevocations(ctx, &latchkeyv1.WatchRevocationsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		catchUp(t, stream)
		go func() {
			for {
				resp, err := stream.Recv()
				if err != nil {
					heard <- err.Error()
					return
				}
				for _, row := range resp.GetRevocations() {
					heard <- row.GetSessionId()
					return
				}
			}
		}()
	}
	logOut(t, s, tokens.GetRefreshToken())
	for range cap(heard) {
		if got := <-heard; got != tokens.GetSessionId() {
			t.Fatalf("heard %q", got)
		}
	}
}
