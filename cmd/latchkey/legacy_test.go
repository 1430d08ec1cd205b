package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// keyFiles writes files of keys, and returns a function from a name to its path.
func keyFiles(t *testing.T, files map[string][]byte) func(name string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func(name string) string { return filepath.Join(dir, name) }
}

func rsaPEM(t *testing.T, bits int) (private, public []byte) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	private = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
}

// TestLegacyKeysAreChecked: each fault in a key of the older backends is reported in one line that names the setting.
func TestLegacyKeysAreChecked(t *testing.T) {
	t.Parallel()
	private, public := rsaPEM(t, 2048)
	_, stranger := rsaPEM(t, 2048)
	smallPrivate, smallPublic := rsaPEM(t, 1024)
	path := keyFiles(t, map[string][]byte{
		"private": private, "public": public, "stranger": stranger, "small private": smallPrivate, "small public": smallPublic,
		"garbage":   []byte("hunter2secret"),
		"encrypted": pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte("hunter2secret")}),
		"broken":    pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: []byte("hunter2secret")}),
	})
	complete := serveSettings(t)
	complete["LATCHKEY_LEGACY_ENABLED"] = "true"
	complete["LATCHKEY_LEGACY_ACCEPT_UNTIL"] = "2099-01-01T00:00:00Z"
	for _, test := range []struct{ public, private, blamed, says string }{
		{"none such", "", app.LegacyPublicKeyFile, "no such file"},
		{"garbage", "", app.LegacyPublicKeyFile, "no PEM block"},
		{"private", "", app.LegacyPublicKeyFile, "private key"},
		{"small public", "", app.LegacyPublicKeyFile, "1024 bits"},
		{"", "none such", app.LegacyPrivateKeyFile, "no such file"},
		{"", "garbage", app.LegacyPrivateKeyFile, "no PEM block"},
		{"", "public", app.LegacyPrivateKeyFile, "public key"},
		{"", "small private", app.LegacyPrivateKeyFile, "1024 bits"},
		{"", "encrypted", app.LegacyPrivateKeyFile, "passphrase"},
		{"", "broken", app.LegacyPrivateKeyFile, "no RSA private key"},
		{"stranger", "private", app.LegacyPrivateKeyFile, app.LegacyPublicKeyFile},
	} {
		t.Run(test.public+" "+test.private, func(t *testing.T) {
			t.Parallel()
			settings := maps.Clone(complete)
			if test.public != "" {
				settings[app.LegacyPublicKeyFile] = path(test.public)
			}
			if test.private != "" {
				settings[app.LegacyPrivateKeyFile] = path(test.private)
			}
			err := run(t.Context(), []string{"serve"}, pairs(settings), io.Discard)
			if exitCode(err) != exitUsage || !strings.HasPrefix(err.Error(), test.blamed+" ") || !strings.Contains(err.Error(), test.says) ||
				strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "hunter2secret") {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestAttack15LegacyNeedsADate: without a date, the keys in Redis would be accepted for ever, with or without the
// backends' signing keys.
func TestAttack15LegacyNeedsADate(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	settings["LATCHKEY_LEGACY_ENABLED"] = "true"
	for _, command := range []string{"serve", "dev"} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // one that starts would not end
		err := run(ctx, []string{command}, pairs(settings), io.Discard)
		cancel()
		if exitCode(err) != exitUsage || !strings.HasPrefix(err.Error(), "LATCHKEY_LEGACY_ACCEPT_UNTIL ") {
			t.Errorf("%s: %v", command, err)
		}
	}
}

// TestServeTakesOver: the settings reach the code that checks tokens, signs them and keeps revocations.
func TestServeTakesOver(t *testing.T) {
	t.Parallel()
	backend := testenv.Existing(t)
	private, _ := rsaPEM(t, 2048)
	path := keyFiles(t, map[string][]byte{"public": backend.PublicKey, "private": private})
	settings := serveSettings(t)
	maps.Copy(settings, map[string]string{
		"LATCHKEY_DATABASE_URL": backend.DatabaseURL, "LATCHKEY_REDIS_URL": backend.RedisURL,
		"LATCHKEY_LEGACY_ENABLED": "true", "LATCHKEY_LEGACY_ACCEPT_UNTIL": "2099-01-01T00:00:00Z",
		"LATCHKEY_LEGACY_HS256_SECRET": backend.JWT.Rust.Secret, app.LegacyPublicKeyFile: path("public"),
	})
	p := start(t, pairs(settings), "serve")
	auth := latchkeyv1.NewAuthServiceClient(testenv.Dial(t, p.addrs(t)["grpc"]))
	validate := func(token string) *latchkeyv1.ValidateTokenResponse {
		t.Helper()
		resp, err := auth.ValidateToken(t.Context(), &latchkeyv1.ValidateTokenRequest{AccessToken: token})
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for _, sess := range backend.Sessions {
		if resp := validate(sess.AccessToken); !resp.GetValid() || resp.GetUser().GetId() != sess.UserID.String() {
			t.Errorf("%s of %s: %v", sess.Email, sess.IssuedBy, resp)
		}
		if resp := validate(sess.RefreshToken); resp.GetValid() {
			t.Errorf("the refresh token of %s by %s passed", sess.Email, sess.IssuedBy)
		}
	}
	db, err := pgx.Connect(t.Context(), backend.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // only read from
	var until string
	if err := db.QueryRow(t.Context(), "SELECT to_char(legacy_until AT TIME ZONE 'UTC', 'YYYY-MM-DD') FROM ledger_head").Scan(&until); err != nil || until != "2099-01-01" {
		t.Errorf("the ledger keeps what refuses old tokens until %q, %v", until, err)
	}
	// Side by side with the Go backend, with a key of its own.
	delete(settings, app.LegacyPublicKeyFile)
	settings[app.LegacyPrivateKeyFile] = path("private")
	p = start(t, pairs(settings), "serve")
	auth = latchkeyv1.NewAuthServiceClient(testenv.Dial(t, p.addrs(t)["grpc"]))
	user := backend.User(t, "nora0@example.com")
	login, err := auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: user.Email, Password: user.Password})
	if err != nil {
		t.Fatal(err)
	}
	access := login.GetTokens().GetAccessToken()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(access, ".")[1])
	if err != nil || !strings.Contains(string(payload), `"iss":"saas-platform"`) || !strings.Contains(string(payload), user.Email) {
		t.Errorf("signed as %s, %v", payload, err)
	}
	if resp := validate(access); resp.GetSessionId() != login.GetTokens().GetSessionId() {
		t.Errorf("judged as %v", resp)
	}
}
