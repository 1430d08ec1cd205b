package app

import (
	"crypto/x509"
	"errors"
	"net/url"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/mail"
)

// NewSMTP returns the sender of mails that the settings describe.
func NewSMTP(cfg *config.Config) (*mail.SMTP, error) {
	from := mailFrom(cfg)
	if from == "" {
		return nil, config.Reject("LATCHKEY_MAIL_FROM", "is not set, and LATCHKEY_RESET_URL names no host to take it from")
	}
	roots, err := smtpRoots(cfg)
	if err != nil {
		return nil, err
	}
	sender, err := mail.NewSMTP(mail.SMTPConfig{URL: string(cfg.SMTPURL), From: from, RootCAs: roots, OAuth: smtpOAuth(cfg)})
	switch {
	case errors.Is(err, mail.ErrFrom):
		return nil, config.Reject("LATCHKEY_MAIL_FROM", "is not usable ("+err.Error()+")")
	case errors.Is(err, mail.ErrOAuth):
		return nil, config.Reject("LATCHKEY_SMTP_OAUTH_TOKEN_URL", "and the other LATCHKEY_SMTP_OAUTH_… are not usable with ?auth=xoauth2 ("+err.Error()+")")
	case err != nil:
		return nil, config.Reject("LATCHKEY_SMTP_URL", "is not usable ("+err.Error()+")")
	}
	return sender, nil
}

// mailTemplates returns nil if mails have Latchkey's own text.
func mailTemplates(cfg *config.Config) (*mail.Templates, error) {
	if cfg.MailTemplates == "" {
		return nil, nil //nolint:nilnil // no templates are a setting, not an error
	}
	templates, err := mail.LoadTemplates(cfg.MailTemplates, cfg.MailLanguage)
	return templates, unusable("LATCHKEY_MAIL_TEMPLATES", err)
}

func smtpOAuth(cfg *config.Config) mail.OAuth {
	return mail.OAuth{
		TokenURL: cfg.SMTPOAuthTokenURL, ClientID: cfg.SMTPOAuthClientID, ClientSecret: string(cfg.SMTPOAuthClientSecret),
		RefreshToken: string(cfg.SMTPOAuthRefreshToken), Scope: cfg.SMTPOAuthScope,
	}
}

// smtpRoots returns nil for the authorities of the system.
func smtpRoots(cfg *config.Config) (*x509.CertPool, error) {
	if cfg.SMTPCAFile == "" {
		return nil, nil //nolint:nilnil // the system's are a setting, not an error
	}
	roots, err := mail.RootCAs(cfg.SMTPCAFile)
	return roots, unusable("LATCHKEY_SMTP_CA_FILE", err)
}

// mailFrom returns the sender of mails: the one that is set, or no-reply at the host of the links, or "" if
// the links name no host.
func mailFrom(cfg *config.Config) string {
	if cfg.MailFrom != "" {
		return cfg.MailFrom
	}
	if host := webHost(cfg.ResetURL); host != "" {
		return "no-reply@" + host
	}
	return ""
}

// ProductName returns the name of the service in mails: the one that is set, or the host that people know
// from links.
func ProductName(cfg *config.Config) string {
	for _, name := range []string{cfg.ProductName, webHost(cfg.ResetURL), webHost(cfg.Issuer)} {
		if name != "" {
			return name
		}
	}
	return "Latchkey"
}

// webHost returns the host of a web page, or "" if page is not one.
func webHost(page string) string {
	u, err := url.Parse(page)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.Hostname()
}
