package benchkit

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os/exec"
)

// Issuer is the issuer of the tokens of each Latchkey that is measured.
const Issuer = "https://auth.example.com"

// NewSecret returns a value for LATCHKEY_SECRET_KEY.
func NewSecret() (string, error) {
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(secret), nil
}

// Settings returns those without which serve does not start, free ports, and no bound for the one address that all
// calls come from. It returns nothing else: a run measures the defaults.
func Settings(databaseURL, redisURL, secret string) []string {
	return []string{
		"LATCHKEY_DATABASE_URL=" + databaseURL,
		"LATCHKEY_REDIS_URL=" + redisURL,
		"LATCHKEY_SECRET_KEY=" + secret,
		"LATCHKEY_ISSUER=" + Issuer,
		"LATCHKEY_SMTP_URL=smtp://127.0.0.1:9?starttls=never", // no mail is sent
		"LATCHKEY_RESET_URL=https://app.example.com/reset",
		"LATCHKEY_GRPC_ADDR=127.0.0.1:0",
		"LATCHKEY_HTTP_ADDR=127.0.0.1:0",
		"LATCHKEY_OPS_ADDR=127.0.0.1:0",
		"LATCHKEY_ADDRESS_RATE_LIMIT=false",
	}
}

// Build makes the binary as it is shipped, in the file program.
func Build(ctx context.Context, program string) error {
	const release = "github.com/latchkey-auth/latchkey/internal/release"
	cmd := exec.CommandContext(ctx, "go", "run", release, "-version", "bench", "-o", program) //nolint:gosec // G204: fixed words and a path of ours
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build latchkey: %w: %s", err, text)
	}
	return nil
}

// Latchkey is a running `latchkey serve`, with the addresses of its listeners.
type Latchkey struct {
	*Child

	GRPC, HTTP, Ops string
}

// Serve starts a `latchkey serve` and returns when it is ready. If it does not become ready, it is killed.
func Serve(ctx context.Context, name, log string, environ []string, program string) (*Latchkey, error) {
	c, err := Start(ctx, name, log, environ, program, "serve")
	if err != nil {
		return nil, err
	}
	addrs, err := c.Ready()
	if err != nil {
		_ = c.Kill() // it may have ended
		return nil, err
	}
	return &Latchkey{Child: c, GRPC: addrs["grpc"], HTTP: addrs["http"], Ops: addrs["ops"]}, nil
}
