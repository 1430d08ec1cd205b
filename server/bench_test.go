package server_test

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

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
	req := &latchkeyv1.ValidateTokenRequest{AccessToken: login.GetTokens().GetAccessToken()}
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

// BenchmarkLogin measures what a second factor adds to a login, beside a hash that is cheap: the two calls with one
// factor and with two differ by a challenge that is kept and spent, a code that is compared, and the second call.
func BenchmarkLogin(b *testing.B) {
	for _, name := range []string{"password", "password and code"} {
		b.Run(name, func(b *testing.B) {
			s := testenv.Start(b, testenv.Options{})
			_, err := s.Auth.SignUp(b.Context(), &latchkeyv1.SignUpRequest{Email: email, Password: password, FirstName: "Ada", LastName: "Lovelace"})
			if err != nil {
				b.Fatal(err)
			}
			login := func() *latchkeyv1.LoginResponse {
				resp, err := s.Auth.Login(b.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
				if err != nil {
					b.Fatal(err)
				}
				return resp
			}
			var phone app
			if name != "password" {
				phone, _ = enrol(b, s, login().GetTokens().GetAccessToken())
			}
			s.Logs.Discard()
			for b.Loop() {
				s.Clock.Advance(totp.Period)
				resp := login()
				if resp.GetTokens() != nil {
					continue
				}
				if _, err := tryAnswer(b.Context(), s, withCode(resp.GetChallenge().GetChallengeToken(), phone.code())); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
