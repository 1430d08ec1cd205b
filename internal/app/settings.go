package app

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/passkey"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
)

// LoadSettings reads the settings, and has the packages that will use them check their form, so that
// everything that is wrong is reported at once, before anything starts.
func LoadSettings(environ []string, profile config.Profile, judges ...config.Judge) (*config.Config, error) {
	judges = append(judges, judgeDatabaseURL, judgeDirectURL, judgeSMTPURL, judgeResetURL, judgeVerifyURL, judgeEmailChangeURL, judgeMailFrom, judgeProductName, judgeHashes, judgePasskeys)
	if profile == config.Serve || profile == config.Dev {
		judges = append(judges, judgeTLS, JudgeSMTPCA, judgeMailTemplates, judgeRedisCA, judgeAccountPages) // these files need not exist for other commands
		judges = append(judges, judgesOfOlder()...)
	}
	return config.Load(environ, profile, judges...)
}

func judgeDatabaseURL(cfg *config.Config) error {
	if cfg.DatabaseURL == "" {
		return nil
	}
	return unusable("LATCHKEY_DATABASE_URL", postgres.CheckURL(string(cfg.DatabaseURL)))
}

func judgeDirectURL(cfg *config.Config) error {
	switch {
	case cfg.DatabaseDirectURL == "":
		return nil
	case cfg.DatabaseURL == "":
		return config.Reject("LATCHKEY_DATABASE_DIRECT_URL", "is set though LATCHKEY_DATABASE_URL is not")
	}
	return unusable("LATCHKEY_DATABASE_DIRECT_URL", postgres.CheckURL(string(cfg.DatabaseDirectURL)))
}

func judgeSMTPURL(cfg *config.Config) error {
	if cfg.SMTPURL == "" {
		return nil
	}
	_, err := mail.ParseSMTPURL(string(cfg.SMTPURL))
	return unusable("LATCHKEY_SMTP_URL", err)
}

func judgeResetURL(cfg *config.Config) error {
	if cfg.ResetURL == "" {
		return nil
	}
	_, err := mail.ParseResetURL(cfg.ResetURL, cfg.InsecureLinks)
	return unusable("LATCHKEY_RESET_URL", err)
}

func judgeVerifyURL(cfg *config.Config) error {
	if cfg.VerifyURL == "" {
		return nil
	}
	_, err := mail.ParseResetURL(cfg.VerifyURL, cfg.InsecureLinks)
	return unusable("LATCHKEY_VERIFY_URL", err)
}

func judgeEmailChangeURL(cfg *config.Config) error {
	if cfg.EmailChangeURL == "" {
		return nil
	}
	_, err := mail.ParseEmailChangeURL(cfg.EmailChangeURL, cfg.InsecureLinks)
	return unusable("LATCHKEY_EMAIL_CHANGE_URL", err)
}

func judgeMailFrom(cfg *config.Config) error {
	if cfg.MailFrom == "" {
		return nil
	}
	_, err := mail.ParseFrom(cfg.MailFrom)
	return unusable("LATCHKEY_MAIL_FROM", err)
}

func judgeProductName(cfg *config.Config) error {
	if strings.ContainsFunc(cfg.ProductName, unicode.IsControl) || !utf8.ValidString(cfg.ProductName) {
		return config.Reject("LATCHKEY_PRODUCT_NAME", "must be one line of text")
	}
	return nil
}

// judgePasskeys checks the settings of passkeys, and brings them into the form in which browsers have them.
func judgePasskeys(cfg *config.Config) error {
	switch {
	case cfg.PasskeyRPID == "" && len(cfg.PasskeyOrigins) == 0:
		return nil
	case cfg.PasskeyRPID == "":
		return config.Reject("LATCHKEY_PASSKEY_RP_ID", "is not set though LATCHKEY_PASSKEY_ORIGINS is")
	case len(cfg.PasskeyOrigins) == 0:
		return config.Reject("LATCHKEY_PASSKEY_ORIGINS", "is not set though LATCHKEY_PASSKEY_RP_ID is")
	}
	id, err := passkey.ParseID(cfg.PasskeyRPID)
	if err != nil {
		return unusable("LATCHKEY_PASSKEY_RP_ID", err)
	}
	cfg.PasskeyRPID = id
	for i, origin := range cfg.PasskeyOrigins {
		if cfg.PasskeyOrigins[i], err = passkey.ParseOrigin(id, origin); err != nil {
			return unusable("LATCHKEY_PASSKEY_ORIGINS", err)
		}
	}
	return nil
}

// JudgeSMTPCA checks the file of LATCHKEY_SMTP_CA_FILE, for commands other than serve and dev that read it.
func JudgeSMTPCA(cfg *config.Config) error {
	_, err := smtpRoots(cfg)
	return err
}

func judgeRedisCA(cfg *config.Config) error {
	_, err := RedisURL(cfg)
	return err
}

// RedisURL returns the URL of Redis, with the authorities that must have signed its servers' certificates.
func RedisURL(cfg *config.Config) (config.RedisURL, error) {
	if cfg.RedisCAFile == "" {
		return cfg.RedisURL, nil
	}
	if !cfg.RedisURL.IsZero() && !cfg.RedisURL.IsTLS() {
		return cfg.RedisURL, config.Reject("LATCHKEY_REDIS_CA_FILE", "is set though LATCHKEY_REDIS_URL asks for no TLS (rediss://)")
	}
	roots, err := mail.RootCAs(cfg.RedisCAFile)
	return cfg.RedisURL.WithRoots(roots), unusable("LATCHKEY_REDIS_CA_FILE", err)
}

func judgeMailTemplates(cfg *config.Config) error {
	_, err := mailTemplates(cfg)
	return err
}

func judgeHashes(cfg *config.Config) error {
	if cfg.Argon2MemoryKiB == 0 || cfg.Argon2Time == 0 || cfg.Argon2Threads == 0 {
		return nil
	}
	if err := hashParams(cfg).Validate(); err != nil {
		return config.Reject("LATCHKEY_ARGON2_MEMORY_KIB", "with LATCHKEY_ARGON2_TIME is not usable ("+err.Error()+")")
	}
	return nil
}

func judgeTLS(cfg *config.Config) error {
	if cfg.TLSCertFile == "" || cfg.TLSKeyFile == "" {
		return nil
	}
	_, err := loadTLS(cfg)
	return err
}

func unusable(variable string, err error) error {
	if err == nil {
		return nil
	}
	return config.Reject(variable, "is not usable ("+err.Error()+")")
}

func hashParams(cfg *config.Config) password.Params {
	return password.Params{
		MemoryKiB: uint32(cfg.Argon2MemoryKiB), //nolint:gosec // G115: config bounds all three
		Time:      uint32(cfg.Argon2Time),      //nolint:gosec // G115
		Threads:   uint8(cfg.Argon2Threads),    //nolint:gosec // G115
	}
}
