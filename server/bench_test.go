package server_test

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/internal/totp"
)

// transport replaces gRPC's, which `task bench` measures.
type transport struct{ grpc.ServerTransportStream }

// SetTrailer implements grpc.ServerTransportStream.
func (transport) SetTrailer(metadata.MD) error { return nil }

// BenchmarkValidateToken measures the work of the interceptors and the handler, without gRPC's own: the time, and the
// allocations that `task bench` cannot distinguish.
func BenchmarkValidateToken(b *testing.B) {
	s, req := validation(b)
	ctx := peer.NewContext(b.Context(), &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}})
	ctx = metadata.NewIncomingContext(ctx, metadata.Pairs(":authority", "localhost", "content-type", "application/grpc", "user-agent", "grpc-go/1.85.0"))
	ctx = grpc.NewContextWithServerTransportStream(ctx, transport{})
	chain := s.Server.UnaryChain("/latchkey.v1.AuthService/ValidateToken", func(ctx context.Context, req any) (any, error) {
		return s.App.Auth.ValidateToken(ctx, req.(*latchkeyv1.ValidateTokenRequest)) //nolint:forcetypeassert // it is what is called with below
	})
	b.ReportAllocs()
	for b.Loop() {
		got, err := chain(ctx, req)
		if resp, ok := got.(*latchkeyv1.ValidateTokenResponse); err != nil || !ok || !resp.GetValid() {
			b.Fatal(got, err)
		}
	}
}

// validation starts a service and returns a call of ValidateToken that it accepts.
func validation(b *testing.B) (*testenv.Server, *latchkeyv1.ValidateTokenRequest) {
	b.Helper()
	s := testenv.Start(b, testenv.Options{WallClock: true})
	_, err := s.Auth.SignUp(b.Context(), &latchkeyv1.SignUpRequest{Email: email, Password: password, FirstName: "Ada", LastName: "Lovelace"})
	if err != nil {
		b.Fatal(err)
	}
	login, err := s.Auth.Login(b.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		b.Fatal(err)
	}
	s.Logs.Discard()
	return s, &latchkeyv1.ValidateTokenRequest{AccessToken: login.GetTokens().GetAccessToken()}
}

// BenchmarkValidateTokenOverHTTP measures the same call through the HTTP handler, without net/http's own work.
func BenchmarkValidateTokenOverHTTP(b *testing.B) {
	s, req := validation(b)
	handler := s.Server.Handler()
	for contentType, marshal := range map[string]func(proto.Message) ([]byte, error){"application/proto": proto.Marshal, "application/json": protojson.Marshal} {
		body, err := marshal(req)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(contentType, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, latchkeyv1.AuthService_ValidateToken_FullMethodName, bytes.NewReader(body))
				r.Header.Set("Content-Type", contentType)
				w := httptest.NewRecorder()
				if handler.ServeHTTP(w, r); w.Code != http.StatusOK {
					b.Fatal(w.Code, w.Body)
				}
			}
		})
	}
}

// BenchmarkLogin measures a login with the password, and one with a code of an app after it, which takes two calls. Both
// take turns, so that what else the machine does weighs on both; the medians are compared.
func BenchmarkLogin(b *testing.B) {
	s := testenv.Start(b, testenv.Options{SessionLimit: 1000})
	login := func(address string) *latchkeyv1.LoginResponse {
		resp, err := s.Auth.Login(b.Context(), &latchkeyv1.LoginRequest{Email: address, Password: password})
		if err != nil {
			b.Fatal(err)
		}
		return resp
	}
	const plain = "plain@example.com"
	for _, address := range []string{plain, email} {
		_, err := s.Auth.SignUp(b.Context(), &latchkeyv1.SignUpRequest{Email: address, Password: password, FirstName: "Ada", LastName: "Lovelace"})
		if err != nil {
			b.Fatal(err)
		}
	}
	phone, _ := enrol(b, s, login(email).GetTokens().GetAccessToken())
	s.Logs.Discard()
	var without, with []time.Duration
	timed := func(took *[]time.Duration, do func()) {
		began := time.Now()
		do()
		*took = append(*took, time.Since(began))
	}
	for b.Loop() {
		s.Clock.Advance(totp.Period)
		timed(&without, func() { login(plain) })
		timed(&with, func() {
			answer := withCode(login(email).GetChallenge().GetChallengeToken(), phone.code())
			if _, err := tryAnswer(b.Context(), s, answer); err != nil {
				b.Fatal(err)
			}
		})
	}
	median := func(all []time.Duration) float64 {
		slices.Sort(all)
		return float64(all[len(all)/2].Microseconds()) / 1000
	}
	b.ReportMetric(median(without), "ms/password")
	b.ReportMetric(median(with), "ms/password+code")
	b.ReportMetric(median(with)-median(without), "ms-more")
}
