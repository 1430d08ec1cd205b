package server_test

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	argon "github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// Each benchmark has a bare thing beside it that was measured in the same run: their
// ratio says something on any machine, the numbers alone do not.

// defaultParams are those of the settings.
func defaultParams() argon.Params { return argon.Params{MemoryKiB: 19456, Time: 2, Threads: 1} }

// echo answers ValidateToken with the same answer each time.
type echo struct {
	latchkeyv1.UnimplementedAuthServiceServer
	answer *latchkeyv1.ValidateTokenResponse
}

func (e *echo) ValidateToken(context.Context, *latchkeyv1.ValidateTokenRequest) (*latchkeyv1.ValidateTokenResponse, error) {
	return e.answer, nil
}

// inParallel calls over 16 connections with 4 calls under way on each.
func inParallel(b *testing.B, addr string, call func(latchkeyv1.AuthServiceClient) error) {
	b.Helper()
	clients := make([]latchkeyv1.AuthServiceClient, 16)
	for i := range clients {
		conn, err := grpc.NewClient("passthrough:///"+addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // measured already
		clients[i] = latchkeyv1.NewAuthServiceClient(conn)
	}
	var next atomic.Int64
	b.SetParallelism(32)
	b.ResetTimer()
	start := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		client := clients[int(next.Add(1))%len(clients)]
		for pb.Next() {
			if err := call(client); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "calls/s")
}

func BenchmarkValidateToken(b *testing.B) {
	s := testenv.Start(b, testenv.Options{})
	tokens, answer := benchAccount(b, s)
	req := &latchkeyv1.ValidateTokenRequest{AccessToken: tokens.GetAccessToken()}
	b.Run("bare echo", func(b *testing.B) {
		var lc net.ListenConfig
		l, err := lc.Listen(b.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		bare := grpc.NewServer()
		latchkeyv1.RegisterAuthServiceServer(bare, &echo{answer: answer})
		go bare.Serve(l) //nolint:errcheck // ends with Stop
		defer bare.Stop()
		inParallel(b, l.Addr().String(), func(client latchkeyv1.AuthServiceClient) error {
			_, err := client.ValidateToken(context.WithoutCancel(b.Context()), req)
			return err
		})
	})
	b.Run("Latchkey", func(b *testing.B) {
		inParallel(b, s.Addr, func(client latchkeyv1.AuthServiceClient) error {
			resp, err := client.ValidateToken(context.WithoutCancel(b.Context()), req)
			if err == nil && !proto.Equal(resp, answer) {
				err = fmt.Errorf("got %v", resp.GetReason())
			}
			return err
		})
	})
}

func BenchmarkLogin(b *testing.B) {
	s := testenv.Start(b, testenv.Options{Argon2: defaultParams()})
	const accounts = 32 // one account logs in at most five times at once
	for i := range accounts {
		_, err := s.Auth.SignUp(b.Context(), &latchkeyv1.SignUpRequest{Email: fmt.Sprintf("u%d@example.com", i), Password: password, FirstName: "A", LastName: "B"})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Run("pure hash", func(b *testing.B) {
		hasher, err := argon.New(argon.Config{Params: defaultParams(), Slots: 2, Queue: 1000, DecoyKey: make([]byte, 32), Now: time.Now})
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := hasher.VerifyUnknown(b.Context(), email, password); err != nil {
					b.Error(err)
				}
			}
		})
		b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "calls/s")
	})
	b.Run("Latchkey", func(b *testing.B) {
		var next atomic.Int64
		inParallel(b, s.Addr, func(client latchkeyv1.AuthServiceClient) error {
			address := fmt.Sprintf("u%d@example.com", next.Add(1)%accounts)
			_, err := client.Login(context.WithoutCancel(b.Context()), &latchkeyv1.LoginRequest{Email: address, Password: password})
			return err
		})
	})
}

func benchAccount(b *testing.B, s *testenv.Server) (*latchkeyv1.Tokens, *latchkeyv1.ValidateTokenResponse) {
	b.Helper()
	_, err := s.Auth.SignUp(b.Context(), &latchkeyv1.SignUpRequest{Email: email, Password: password, FirstName: "Ada", LastName: "Lovelace"})
	if err != nil {
		b.Fatal(err)
	}
	login, err := s.Auth.Login(b.Context(), &latchkeyv1.LoginRequest{Email: email, Password: password})
	if err != nil {
		b.Fatal(err)
	}
	answer, err := s.Auth.ValidateToken(b.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: login.GetTokens().GetAccessToken()})
	if err != nil {
		b.Fatal(err)
	}
	return login.GetTokens(), answer
}
