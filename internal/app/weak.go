package app

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
)

const (
	// writtenBits is the least number of bits for each character of a random secret key, as password.Guesses
	// estimates it, which estimates low. Sentences have 1.8 to 2.7, and 20,000 random keys in base64 at least
	// 3.4. Hexadecimal digits have fewer: 32 of them have 78 in all. Nobody writes sentences in them, so
	// hexBits in all are enough there.
	writtenBits = 2.9
	hexBits     = 60
	// leastStoreGuesses is the least number of guesses that the password of a store must take: nobody counts
	// failed guesses there.
	leastStoreGuesses = 1e8
	// longTakeover: tokens of an older backend may be accepted for this long from now on without a warning.
	longTakeover = 180 * 24 * time.Hour
)

// Weaknesses returns the settings that can be used and are too weak to be intended: those of config.Weak, and
// those that other packages judge.
func Weaknesses(cfg *config.Config, profile config.Profile) (refused, warned []config.Problem) {
	refused, warned = cfg.Weak(profile)
	refused, warned = guessedKeys(cfg, refused, warned)
	warn := func(variable, wrong string) {
		if wrong != "" {
			warned = append(warned, config.Problem{Variable: variable, Wrong: wrong})
		}
	}
	if cfg.DatabaseURL != "" { // dev starts its own
		weakness, secret := postgres.Weakness(string(cfg.DatabaseURL))
		warn("LATCHKEY_DATABASE_URL", weakness)
		warn("LATCHKEY_DATABASE_URL", easyPassword(secret))
	}
	if cfg.DatabaseDirectURL != "" {
		weakness, secret := postgres.Weakness(string(cfg.DatabaseDirectURL))
		warn("LATCHKEY_DATABASE_DIRECT_URL", weakness)
		warn("LATCHKEY_DATABASE_DIRECT_URL", easyPassword(secret))
	}
	warn("LATCHKEY_REDIS_URL", easyPassword(cfg.RedisURL.RemotePassword()))
	if smtp, err := mail.ParseSMTPURL(string(cfg.SMTPURL)); err == nil {
		warn("LATCHKEY_SMTP_URL", smtp.Weakness())
	}
	if page, err := mail.ParseResetURL(cfg.ResetURL, cfg.InsecureLinks); err == nil {
		warn("LATCHKEY_RESET_URL", mail.LinkWeakness(page))
	}
	if page, err := mail.ParseResetURL(cfg.VerifyURL, cfg.InsecureLinks); err == nil {
		warn("LATCHKEY_VERIFY_URL", mail.LinkWeakness(page))
	}
	if page, err := mail.ParseEmailChangeURL(cfg.EmailChangeURL, cfg.InsecureLinks); err == nil {
		warn("LATCHKEY_EMAIL_CHANGE_URL", mail.LinkWeakness(page))
	}
	if cfg.LegacyEnabled && time.Until(cfg.LegacyAcceptUntil) > longTakeover {
		warn("LATCHKEY_LEGACY_ACCEPT_UNTIL", fmt.Sprintf("is over %d days away, and a stolen key of an older backend can make tokens until then: choose an earlier date",
			int(longTakeover.Hours()/24)))
	}
	return refused, warned
}

func easyPassword(secret string) string {
	if secret == "" || password.Guesses(secret) >= leastStoreGuesses {
		return ""
	}
	return "has a password that is easy to guess, for a server on another machine: set a random one"
}

// guessedKeys adds the keys that a person wrote instead of drawing them at random.
func guessedKeys(cfg *config.Config, refused, warned []config.Problem) (_, _ []config.Problem) {
	known := wellKnown(cfg)
	add := func(to []config.Problem, variable, wrong string) []config.Problem {
		if slices.ContainsFunc(to, func(p config.Problem) bool { return p.Variable == variable }) {
			return to // one reason is enough
		}
		return append(to, config.Problem{Variable: variable, Wrong: wrong})
	}
	if len(cfg.SecretKey) > 0 && (isWritten(cfg.SecretKey) || known[sha256.Sum256(cfg.SecretKey)]) {
		refused = add(refused, "LATCHKEY_SECRET_KEY", "is text that can be guessed, or the hash of a common word")
	}
	if len(cfg.SecretKeyPrevious) > 0 && (isWritten(cfg.SecretKeyPrevious) || known[sha256.Sum256(cfg.SecretKeyPrevious)]) {
		warned = add(warned, "LATCHKEY_SECRET_KEY_PREVIOUS", "is text that can be guessed, or the hash of a common word, and anybody who guesses it can make refresh tokens: "+
			"remove it as soon as LATCHKEY_SESSION_IDLE_TTL has passed")
	}
	for variable, hashes := range map[string]config.KeyHashes{"LATCHKEY_ADMIN_KEY_SHA256": cfg.AdminKeySHA256, "LATCHKEY_SERVICE_KEY_SHA256": cfg.ServiceKeySHA256} {
		if slices.ContainsFunc(hashes, func(hash [sha256.Size]byte) bool { return known[hash] }) {
			refused = add(refused, variable, "has the hash of a common word or password: anybody who tries common words becomes an operator or a service")
		}
	}
	return refused, warned
}

// isWritten reports whether a person wrote the key: it looks at the key as it is set and as it is decoded.
func isWritten(key config.SecretKey) bool {
	forms := []string{base64.RawStdEncoding.EncodeToString(key)}
	if !slices.ContainsFunc(key, func(b byte) bool { return b < ' ' || b > '~' }) {
		forms = append(forms, string(key))
	}
	return slices.ContainsFunc(forms, func(text string) bool {
		bits := math.Log2(password.Guesses(text))
		if strings.Trim(text, "0123456789abcdefABCDEF") == "" {
			return bits < hexBits
		}
		return bits < writtenBits*float64(min(len(text), password.MaxLength)) // Guesses looks at no more
	})
}

// wellKnown returns those hashes of common words that the settings contain. It hashes 150,000 words, and only
// if there is something to compare.
func wellKnown(cfg *config.Config) map[[sha256.Size]byte]bool {
	wanted := make(map[[sha256.Size]byte]bool)
	for _, hash := range slices.Concat(cfg.AdminKeySHA256, cfg.ServiceKeySHA256) {
		wanted[hash] = false
	}
	// A secret key may itself be the hash of a word. wanted has the hash of such a key, so that the key is
	// not kept.
	secrets := make(map[[sha256.Size]byte]bool)
	for _, key := range []config.SecretKey{cfg.SecretKey, cfg.SecretKeyPrevious} {
		if len(key) == sha256.Size {
			secrets[[sha256.Size]byte(key)] = true
		}
	}
	if len(wanted)+len(secrets) == 0 {
		return nil
	}
	try := func(text string) {
		hash := sha256.Sum256([]byte(text))
		if _, ours := wanted[hash]; ours {
			wanted[hash] = true
		}
		if secrets[hash] {
			wanted[sha256.Sum256(hash[:])] = true
		}
	}
	for word := range password.Words() {
		try(word)
		try(word + "\n") // echo without -n
		try(strings.ToUpper(word[:1]) + word[1:])
	}
	for _, text := range []string{"", "\n", "admin-key", "admin_key", "adminkey", "service-key", "service_key", "secret-key", "change-me", "change_me", "key", "the key", "KEY", "ADMIN_KEY"} {
		try(text)
		try(text + "\n")
	}
	return wanted
}

// LoadServeSettings reads the settings for serve. Settings that are far too weak are errors, like those that
// are wrong. warned are the others, for LogWeak.
func LoadServeSettings(environ []string) (cfg *config.Config, warned []config.Problem, err error) {
	cfg, err = LoadSettings(environ, config.Serve, func(cfg *config.Config) error {
		var refused []config.Problem
		refused, warned = Weaknesses(cfg, config.Serve)
		if len(refused) > 0 {
			return &config.Error{Problems: refused}
		}
		return nil
	})
	return cfg, warned, err
}

// LogWeak logs settings that can be used but should not be, one line each.
func LogWeak(ctx context.Context, list []config.Problem, log *slog.Logger) {
	for _, one := range list {
		log.WarnContext(ctx, "weak setting", "setting", one.Variable, "weakness", one.Wrong)
	}
}
