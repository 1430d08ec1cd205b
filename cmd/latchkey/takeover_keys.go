package main

import (
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/legacy"
	"github.com/latchkey-auth/latchkey/internal/legacy/takeover"
)

// takeoverKeys reads those of the older backends' keys that are set. A fault in a key is a finding, beside those of the
// stores; the error is for a fault in the command line.
func takeoverKeys(cfg *config.Config, tokenFile string) (takeover.Keys, error) {
	k := takeover.Keys{
		Settings:        takeover.Settings{Enabled: cfg.LegacyEnabled, RustSecret: len(cfg.LegacyHS256Secret) > 0},
		RustSecretBytes: len(cfg.LegacyHS256Secret),
		Store:           legacy.StoreConfig{ResetLife: cfg.LegacyResetTokenTTL, Attempts: cfg.LegacyLoginAttempts, AttemptsWindow: cfg.LegacyLoginWindow},
		RefreshLife:     cfg.LegacyRefreshTokenTTL,
	}
	if !cfg.LegacyAcceptUntil.IsZero() {
		until := cfg.LegacyAcceptUntil.UTC()
		k.Settings.AcceptUntil = &until
	}
	public, err := app.ReadKey(app.LegacyPublicKeyFile, cfg.LegacyRS256PublicKeyFile, legacy.ParsePublicKey)
	if err != nil {
		k.Problems = append(k.Problems, takeover.Finding{Code: "public_key", Text: err.Error()})
	}
	private, err := app.ReadKey(app.LegacyPrivateKeyFile, cfg.LegacyRS256PrivateKeyFile, legacy.ParsePrivateKey)
	if err != nil {
		k.Problems = append(k.Problems, takeover.Finding{Code: "private_key", Text: err.Error()})
	}
	if public != nil && private != nil && !private.PublicKey.Equal(public) {
		k.Problems = append(k.Problems, takeover.Finding{
			Code: "key_pair", Text: app.LegacyPrivateKeyFile + " and " + app.LegacyPublicKeyFile + " hold different keys",
			Right: "the private and the public file of one key: openssl rsa -in PRIVATE -pubout prints the public one",
		})
	}
	k.Settings.GoKey, k.Settings.GoSigning = public != nil, private != nil
	if k.Settings.RustSecret {
		k.IsRust = func(token string) bool {
			t, err := verifyOld(cfg, nil, cfg.LegacyHS256Secret, token)
			return errors.Is(err, legacy.ErrExpired) || err == nil && t.Backend == legacy.Rust
		}
	}
	if tokenFile == "" {
		return k, nil
	}
	return k, judgeToken(&k, cfg, public, tokenFile)
}

// verifyOld checks a signature as if all tokens were accepted for ever.
func verifyOld(cfg *config.Config, public *rsa.PublicKey, secret []byte, token string) (*legacy.Token, error) {
	tokens, err := legacy.NewTokens(legacy.TokensConfig{
		RS256: public, HS256: secret, AcceptUntil: time.Now().AddDate(100, 0, 0), Now: time.Now, Issuer: cfg.LegacyIssuer,
	})
	if err != nil {
		return nil, err
	}
	return tokens.Verify(token)
}

// judgeToken checks the one token in a file. It is not an argument, since other users of the machine could read that.
func judgeToken(k *takeover.Keys, cfg *config.Config, public *rsa.PublicKey, file string) error {
	f, err := os.Open(file) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return &usageError{"latchkey takeover: --token: " + err.Error()}
	}
	defer f.Close() //nolint:errcheck // it was only read
	text, err := io.ReadAll(io.LimitReader(f, legacy.MaxTokenBytes+2))
	if err != nil {
		return &usageError{"latchkey takeover: --token: " + err.Error()}
	}
	token := strings.TrimSpace(string(text))
	t, err := verifyOld(cfg, public, cfg.LegacyHS256Secret, token)
	if other, ok := errors.AsType[*legacy.IssuerError](err); ok {
		k.Problems = append(k.Problems, takeover.Finding{
			Code: "token_refused", Text: fmt.Sprintf("the token in %s is signed with the Go backend's key and has the issuer %q, but LATCHKEY_LEGACY_ISSUER is %q: Latchkey would refuse all of that backend's tokens", file, other.Said, cfg.LegacyIssuer), Count: 1,
			Right: "LATCHKEY_LEGACY_ISSUER=" + other.Said,
		})
		return nil
	}
	if err != nil && !errors.Is(err, legacy.ErrExpired) {
		k.Problems = append(k.Problems, takeover.Finding{
			Code: "token_refused", Text: fmt.Sprintf("the token in %s is refused: %s", file, err), Count: 1,
			Right: "a token of an older backend, and that backend's key or secret",
		})
		return nil
	}
	k.GoProved = err == nil && t.Backend == legacy.Go || err != nil && verifiesAsGo(cfg, public, token)
	return nil
}

// verifiesAsGo reports whether an expired token is the Go backend's.
func verifiesAsGo(cfg *config.Config, public *rsa.PublicKey, token string) bool {
	if public == nil {
		return false
	}
	_, err := verifyOld(cfg, public, nil, token)
	return errors.Is(err, legacy.ErrExpired)
}
