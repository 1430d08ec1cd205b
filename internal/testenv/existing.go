package testenv

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// existing is a snapshot of the stores of the older backends: a dump of the database, every key in Redis, and the
// tokens of their clients.
//
//go:embed existing
var existing embed.FS

// ExistingBackend is a copy of that snapshot in stores that only this test uses.
type ExistingBackend struct {
	// DatabaseURL is the database as it was dumped, without Latchkey's migrations.
	DatabaseURL string `json:"-"`
	RedisURL    string `json:"-"`
	// PublicKey is the Go backend's, in PEM.
	PublicKey []byte `json:"-"`

	Users       []ExistingUser       `json:"users"`
	Sessions    []ExistingSession    `json:"sessions"`
	ResetTokens []ExistingResetToken `json:"reset_tokens"`
	JWT         struct {
		Rust struct {
			Secret string `json:"secret"`
		} `json:"rust"`
	} `json:"jwt"`
}

// ExistingUser is an account, and the data that its owner knows.
type ExistingUser struct {
	ID        uuid.UUID `json:"id"`
	Email     string    `json:"email"`
	Password  string    `json:"password"`
	FirstName string    `json:"first_name"`
	LastName  string    `json:"last_name"`
	// HashBy is the backend that wrote the password's hash: "go" or "rust".
	HashBy   string `json:"hash_by"`
	Disabled bool   `json:"disabled"`
	Verified bool   `json:"verified"`
}

// ExistingSession is a pair of tokens that a client has. They expire in decades.
type ExistingSession struct {
	Email        string    `json:"email"`
	UserID       uuid.UUID `json:"user_id"`
	AccessToken  string    `json:"access_token"`
	RefreshToken string    `json:"refresh_token"`
	// IssuedBy is "go" or "rust".
	IssuedBy string `json:"issued_by"`
}

// ExistingResetToken is a reset token that was mailed.
type ExistingResetToken struct {
	// Key is its key in Redis.
	Key    string    `json:"key"`
	Token  string    `json:"token"`
	UserID uuid.UUID `json:"user_id"`
}

// Existing loads the snapshot without changes.
func Existing(t testing.TB) *ExistingBackend {
	t.Helper()
	backend := &ExistingBackend{
		DatabaseURL: Database(t, loadDump, "existing"), RedisURL: Redis(t), PublicKey: existingFile(t, "jwt-public.pem"),
	}
	must(t, json.Unmarshal(existingFile(t, "accounts.json"), backend))
	var keys []struct {
		Key        string `json:"key"`
		Value      string `json:"value"`
		TTLSeconds int64  `json:"ttl_seconds"`
	}
	must(t, json.Unmarshal(existingFile(t, "redis.json"), &keys))
	client := openRedis(t, backend.RedisURL)
	for _, k := range keys {
		must(t, client.Set(t.Context(), k.Key, k.Value, time.Duration(k.TTLSeconds)*time.Second).Err())
	}
	return backend
}

// User returns the account with exactly this address.
func (b *ExistingBackend) User(t testing.TB, email string) ExistingUser {
	t.Helper()
	for _, user := range b.Users {
		if user.Email == email {
			return user
		}
	}
	t.Fatalf("testenv: the snapshot has no %s", email)
	return ExistingUser{}
}

func existingFile(t testing.TB, name string) []byte {
	t.Helper()
	content, err := existing.ReadFile("existing/" + name)
	must(t, err)
	return content
}

// LoadExisting loads the database of the snapshot into an empty one.
func LoadExisting(t testing.TB, url string) {
	t.Helper()
	must(t, loadDump(t.Context(), url))
}

// loadDump runs the dump, without the lines that are commands of psql.
func loadDump(ctx context.Context, url string) error {
	dump, err := existing.ReadFile("existing/database.sql")
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	var statements strings.Builder
	for line := range strings.Lines(string(dump)) {
		if !strings.HasPrefix(line, `\`) {
			statements.WriteString(line)
		}
	}
	if _, err := conn.Exec(ctx, statements.String(), pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("load the dump: %w", err)
	}
	return nil
}
