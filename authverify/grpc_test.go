package authverify_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/latchkey-auth/latchkey/authverify"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// app is a service with a method of each class: Latchkey's own protos declare them. It answers with the
// caller's session, where there is one.
type app struct {
	latchkeyv1.UnimplementedAuthServiceServer
	latchkeyv1.UnimplementedSessionServiceServer
	latchkeyv1.UnimplementedRevocationServiceServer
	healthpb.UnimplementedHealthServer

	entered chan struct{} // each stream that has begun
	ended   chan error    // what the handler of a stream heard last
	heard   chan string   // each message of a stream
}

func session(ctx context.Context) string {
	if claims, ok := authverify.ClaimsFrom(ctx); ok {
		return claims.SessionID.String()
	}
	return "nobody"
}

func (a *app) Login(ctx context.Context, _ *latchkeyv1.LoginRequest) (*latchkeyv1.LoginResponse, error) {
	return &latchkeyv1.LoginResponse{User: &latchkeyv1.User{Id: session(ctx)}}, nil
}

func (a *app) RevokeSession(ctx context.Context, _ *latchkeyv1.RevokeSessionRequest) (*latchkeyv1.RevokeSessionResponse, error) {
	return nil, status.Error(codes.Aborted, session(ctx))
}

func (a *app) Check(ctx context.Context, _ *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	return &healthpb.HealthCheckResponse{}, status.Error(codes.Aborted, session(ctx))
}

// Watch sends once and then waits for its context.
func (a *app) Watch(_ *healthpb.HealthCheckRequest, ss grpc.ServerStreamingServer[healthpb.HealthCheckResponse]) error {
	if err := ss.Send(&healthpb.HealthCheckResponse{}); err != nil {
		return err
	}
	<-ss.Context().Done()
	a.ended <- ss.Send(&healthpb.HealthCheckResponse{})
	return ss.Context().Err()
}

// echo is a service without a descriptor, so without a policy.
func echo(a *app) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "test.Echo", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Who", Handler: func(_ any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
			if err := decode(&emptypb.Empty{}); err != nil {
				return nil, err
			}
			return intercept(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/test.Echo/Who"}, func(ctx context.Context, _ any) (any, error) {
				return wrapperspb.String(session(ctx)), nil
			})
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Talk", ServerStreams: true, ClientStreams: true, Handler: func(_ any, ss grpc.ServerStream) error {
			a.entered <- struct{}{}
			for {
				var text wrapperspb.StringValue
				if err := ss.RecvMsg(&text); err != nil {
					a.ended <- err
					return err
				}
				a.heard <- text.GetValue()
				if err := ss.SendMsg(wrapperspb.String(text.GetValue() + " " + session(ss.Context()))); err != nil {
					a.ended <- err
					return err
				}
			}
		}}},
	}
}

func newApp(t testing.TB, v *authverify.Verifier) (*app, *grpc.ClientConn) {
	t.Helper()
	a := &app{entered: make(chan struct{}, 2), ended: make(chan error, 2), heard: make(chan string, 9)}
	return a, serve(t, func(s *grpc.Server) {
		latchkeyv1.RegisterAuthServiceServer(s, a)
		latchkeyv1.RegisterSessionServiceServer(s, a)
		latchkeyv1.RegisterRevocationServiceServer(s, a)
		healthpb.RegisterHealthServer(s, a)
		s.RegisterService(echo(a), a)
	}, grpc.UnaryInterceptor(v.UnaryInterceptor()), grpc.StreamInterceptor(v.StreamInterceptor()))
}

func withToken(ctx context.Context, values ...string) context.Context {
	return metadata.NewOutgoingContext(ctx, metadata.MD{"authorization": values})
}

// wantRefusal checks code and reason, and that nothing of the token is quoted.
func wantRefusal(t testing.TB, err error, code codes.Code, reason string) {
	t.Helper()
	st := status.Convert(err)
	got := ""
	retry := false
	for _, detail := range st.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			got = detail.GetDomain() + "/" + detail.GetReason()
		case *errdetails.RetryInfo:
			retry = true
		}
	}
	if st.Code() != code || got != "latchkey/"+reason || retry != (code == codes.Unavailable) || strings.Contains(st.Message(), "ey") && strings.Contains(st.Message(), ".") {
		t.Errorf("got %v %q (%s), want %v %s", st.Code(), got, st.Message(), code, reason)
	}
}

// What each class of method asks for.
func TestPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, _ := w.ready(t, nil)
	_, conn := newApp(t, v)
	p := newPerson(t)
	bare, good := t.Context(), withToken(t.Context(), "Bearer "+w.token(t, p))
	calls := map[string]func(ctx context.Context) (string, error){
		"public": func(ctx context.Context) (string, error) {
			resp, err := latchkeyv1.NewAuthServiceClient(conn).Login(ctx, &latchkeyv1.LoginRequest{})
			return resp.GetUser().GetId(), err
		},
		"session": func(ctx context.Context) (string, error) {
			_, err := latchkeyv1.NewSessionServiceClient(conn).RevokeSession(ctx, &latchkeyv1.RevokeSessionRequest{})
			return aborted(err)
		},
		"health": func(ctx context.Context) (string, error) {
			_, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
			return aborted(err)
		},
		"no policy": func(ctx context.Context) (string, error) {
			var resp wrapperspb.StringValue
			err := conn.Invoke(ctx, "/test.Echo/Who", &emptypb.Empty{}, &resp)
			return resp.GetValue(), err
		},
		"service": func(ctx context.Context) (string, error) {
			stream, err := latchkeyv1.NewRevocationServiceClient(conn).WatchRevocations(ctx, &latchkeyv1.WatchRevocationsRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return "", err
		},
	}
	for range 2 { // the second time the policy is remembered
		for _, name := range []string{"public", "health"} {
			for _, ctx := range []context.Context{bare, good, withToken(bare, "Bearer x")} {
				if who, err := calls[name](ctx); who != "nobody" || err != nil {
					t.Errorf("%s: got %q, %v", name, who, err)
				}
			}
		}
		for _, name := range []string{"session", "no policy"} {
			if who, err := calls[name](good); who != p.session.String() || err != nil {
				t.Errorf("%s: got %q, %v", name, who, err)
			}
			_, err := calls[name](bare)
			wantRefusal(t, err, codes.Unauthenticated, "TOKEN_INVALID")
		}
		for _, ctx := range []context.Context{bare, good} {
			if _, err := calls["service"](ctx); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "WatchRevocations") {
				t.Errorf("service: got %v", err)
			}
		}
	}
}

// aborted turns the answer of a method that answers with an error into a value.
func aborted(err error) (string, error) {
	if status.Code(err) == codes.Aborted {
		return status.Convert(err).Message(), nil
	}
	return "", err
}

// The services that need no token are the Config's when it names any.
func TestPublicServices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		services             []string
		health, echo, revoke bool
	}{
		"default":                 {nil, true, false, false},
		"none":                    {[]string{}, false, false, false},
		"another":                 {[]string{"test.Echo"}, false, true, false},
		"a declared policy holds": {[]string{"latchkey.v1.SessionService"}, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			v, _ := w.ready(t, func(config *authverify.Config) { config.PublicServices = c.services })
			_, conn := newApp(t, v)
			_, err := healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
			if got := status.Code(err) == codes.Aborted; got != c.health {
				t.Errorf("health: %v", err)
			}
			err = conn.Invoke(t.Context(), "/test.Echo/Who", &emptypb.Empty{}, &wrapperspb.StringValue{})
			if got := err == nil; got != c.echo {
				t.Errorf("echo: %v", err)
			}
			_, err = latchkeyv1.NewSessionServiceClient(conn).RevokeSession(t.Context(), &latchkeyv1.RevokeSessionRequest{})
			if got := status.Code(err) == codes.Aborted; got != c.revoke {
				t.Errorf("session: %v", err)
			}
		})
	}
}

// Each refusal as a client sees it, for calls and for streams.
func TestInterceptorRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, s := w.ready(t, nil)
	_, conn := newApp(t, v)
	p, gone := newPerson(t), newPerson(t)
	s.send(t, v, complete(2, sessionRow(2, gone)))
	expired := w.claims(p)
	expired["iat"], expired["exp"] = w.Now().Unix()-10, w.Now().Unix()
	good := w.token(t, p)
	for name, c := range map[string]struct {
		values []string
		reason string
	}{
		"nothing":        {nil, "TOKEN_INVALID"},
		"twice":          {[]string{"Bearer " + good, "Bearer " + good}, "TOKEN_INVALID"},
		"no scheme":      {[]string{good}, "TOKEN_INVALID"},
		"another scheme": {[]string{"Basic " + good}, "TOKEN_INVALID"},
		"scheme alone":   {[]string{"Bearer "}, "TOKEN_INVALID"},
		"two spaces":     {[]string{"Bearer  " + good}, "TOKEN_INVALID"},
		"forged":         {[]string{"Bearer " + good + "x"}, "TOKEN_INVALID"},
		"expired":        {[]string{"Bearer " + w.sign(t, "k1", nil, expired)}, "TOKEN_EXPIRED"},
		"revoked":        {[]string{"Bearer " + w.token(t, gone)}, "SESSION_ENDED"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRefused(t, conn, c.values, codes.Unauthenticated, c.reason)
		})
	}
	if err := conn.Invoke(withToken(t.Context(), "bEARER "+good), "/test.Echo/Who", &emptypb.Empty{}, &wrapperspb.StringValue{}); err != nil {
		t.Errorf("the scheme in other letters: %v", err)
	}
}

func TestInterceptorStale(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, _ := w.ready(t, nil)
	_, conn := newApp(t, v)
	w.advance(authverify.DefaultMaxStaleness + 1)
	wantRefused(t, conn, []string{"Bearer " + w.token(t, newPerson(t))}, codes.Unavailable, "STORE_UNAVAILABLE")
}

// wantRefused makes a call and opens a stream with these credentials.
func wantRefused(t *testing.T, conn *grpc.ClientConn, values []string, code codes.Code, reason string) {
	t.Helper()
	ctx := withToken(t.Context(), values...)
	err := conn.Invoke(ctx, "/test.Echo/Who", &emptypb.Empty{}, &wrapperspb.StringValue{})
	wantRefusal(t, err, code, reason)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Echo/Talk")
	if err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, stream.RecvMsg(&wrapperspb.StringValue{}), code, reason)
}

// A stream ends with its token, whatever its handler waits for.
func TestStreamEndsWithItsToken(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		happens func(t *testing.T, w *world, v *authverify.Verifier, s *stream, p person)
		code    codes.Code
		reason  string
	}{
		"revoked": {func(t *testing.T, _ *world, v *authverify.Verifier, s *stream, p person) {
			t.Helper()
			s.send(t, v, complete(2, sessionRow(2, p)))
		}, codes.Unauthenticated, "SESSION_ENDED"},
		"expired": {func(_ *testing.T, w *world, _ *authverify.Verifier, _ *stream, _ person) {
			w.advance(600 * time.Second)
		}, codes.Unauthenticated, "TOKEN_EXPIRED"},
		"stale": {func(_ *testing.T, w *world, _ *authverify.Verifier, _ *stream, _ person) {
			w.advance(authverify.DefaultMaxStaleness + 1)
		}, codes.Unavailable, "STORE_UNAVAILABLE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			v, s := w.ready(t, func(config *authverify.Config) { config.PublicServices = []string{} })
			a, conn := newApp(t, v)
			p := newPerson(t)
			ctx := withToken(t.Context(), "Bearer "+w.token(t, p))
			talk := talkTo(ctx, t, conn, p)
			<-a.entered
			watch, err := healthpb.NewHealthClient(conn).Watch(ctx, &healthpb.HealthCheckRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := watch.Recv(); err != nil {
				t.Fatal(err)
			}
			c.happens(t, w, v, s, p)
			// One waits for a message of a client that is silent, one for its context.
			wantRefusal(t, talk.RecvMsg(&wrapperspb.StringValue{}), c.code, c.reason)
			wantRefusal(t, <-a.ended, c.code, c.reason)
			_, err = watch.Recv()
			wantRefusal(t, err, c.code, c.reason)
			wantRefusal(t, <-a.ended, c.code, c.reason)
		})
	}
}

// talkTo opens a stream and exchanges one message.
func talkTo(ctx context.Context, t *testing.T, conn *grpc.ClientConn, p person) grpc.ClientStream {
	t.Helper()
	talk, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/test.Echo/Talk")
	if err != nil {
		t.Fatal(err)
	}
	var answer wrapperspb.StringValue
	if err := errors.Join(talk.SendMsg(wrapperspb.String("hello")), talk.RecvMsg(&answer)); err != nil {
		t.Fatal(err)
	}
	if answer.GetValue() != "hello "+p.session.String() {
		t.Fatalf("got %q", answer.GetValue())
	}
	return talk
}

// No message is taken after a revocation is known, not even within the second until the next periodic check;
// and a client that is done ends its stream as ever.
func TestStreamChecksEachMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	v, s := w.ready(t, nil)
	a, conn := newApp(t, v)
	p, other := newPerson(t), newPerson(t)
	talk := talkTo(withToken(t.Context(), "Bearer "+w.token(t, p)), t, conn, p)
	<-a.entered
	done := talkTo(withToken(t.Context(), "Bearer "+w.token(t, other)), t, conn, other)
	<-a.entered
	s.send(t, v, complete(2, sessionRow(2, p)))
	if err := talk.SendMsg(wrapperspb.String("still there?")); err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	var answer wrapperspb.StringValue
	wantRefusal(t, talk.RecvMsg(&answer), codes.Unauthenticated, "SESSION_ENDED")
	wantRefusal(t, <-a.ended, codes.Unauthenticated, "SESSION_ENDED")
	if len(a.heard) != 2 { // one hello of each
		t.Error("the handler heard the message")
	}
	if err := done.CloseSend(); err != nil {
		t.Fatal(err)
	}
	wantError(t, <-a.ended, io.EOF)
}
