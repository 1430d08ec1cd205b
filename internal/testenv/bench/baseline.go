package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"time"

	"golang.org/x/crypto/argon2"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/password"
)

// The parameters of a hash are the service's defaults.
const (
	hashMemory  = 19456 // KiB
	hashTime    = 2
	hashThreads = 1
)

// echoCommand starts this program as the bare echo.
const echoCommand = "echo"

// echo answers ValidateToken with the same message each time.
type echo struct {
	latchkeyv1.UnimplementedAuthServiceServer
	answer *latchkeyv1.ValidateTokenResponse
}

// ValidateToken implements latchkey.v1.AuthService.
func (e *echo) ValidateToken(context.Context, *latchkeyv1.ValidateTokenRequest) (*latchkeyv1.ValidateTokenResponse, error) {
	return e.answer, nil
}

// echoArgument encodes the answer for the echo's command line.
func echoArgument(answer *latchkeyv1.ValidateTokenResponse) (string, error) {
	raw, err := proto.Marshal(answer)
	return base64.StdEncoding.EncodeToString(raw), err
}

// serveEcho does the least that grpc-go does for a call: no interceptor, no option.
func serveEcho(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) != 1 {
		return &usageError{errors.New("echo needs the answer")}
	}
	raw, err := base64.StdEncoding.DecodeString(args[0])
	if err != nil {
		return err
	}
	e := &echo{answer: &latchkeyv1.ValidateTokenResponse{}}
	if err := proto.Unmarshal(raw, e.answer); err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	latchkeyv1.RegisterAuthServiceServer(s, e)
	context.AfterFunc(ctx, s.Stop)
	if _, err := fmt.Fprintf(stdout, "ready grpc=%s\n", l.Addr()); err != nil {
		return err
	}
	return s.Serve(l)
}

// pureHash checks a password as Latchkey does, with its default parameters and slots, and without anything around it. It
// also returns a hash of the password.
func pureHash(ctx context.Context) (call func(ctx context.Context, worker int) error, encoded string, err error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key)                        // never fails (crypto/rand, since Go 1.24)
	hasher, err := password.New(password.Config{ //nolint:contextcheck // it measures the machine, for some milliseconds
		Params: password.Params{MemoryKiB: hashMemory, Time: hashTime, Threads: hashThreads},
		Slots:  runtime.GOMAXPROCS(0), Queue: loginWorkers, DecoyKey: key, Now: time.Now,
	})
	if err != nil {
		return nil, "", err
	}
	encoded, err = hasher.Hash(ctx, password.Claim{}, accountPassword)
	if err != nil {
		return nil, "", err
	}
	return func(ctx context.Context, _ int) error {
		checked, err := hasher.Verify(ctx, password.Claim{}, encoded, accountPassword)
		if err == nil && !checked.Match {
			err = errors.New("the hash does not match its own password")
		}
		return err
	}, encoded, nil
}

// othersHash is golang.org/x/crypto's Argon2id with the same parameters, on as many processors at a time.
func othersHash() func(ctx context.Context, worker int) error {
	salt := make([]byte, 16)
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	return func(context.Context, int) error {
		slots <- struct{}{}
		defer func() { <-slots }()
		argon2.IDKey([]byte(accountPassword), salt, hashTime, hashMemory, hashThreads, 32)
		return nil
	}
}
