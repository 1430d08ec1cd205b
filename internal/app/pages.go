package app

import (
	"net/http"

	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/accountpages"
	"github.com/latchkey-auth/latchkey/internal/config"
)

// newAccountPages returns nil if the settings turn the pages off.
func newAccountPages(cfg *config.Config) (http.Handler, error) {
	if !cfg.AccountPages {
		return nil, nil //nolint:nilnil // no pages are a setting, not an error
	}
	var own accountpages.Own
	if cfg.PagesDir != "" {
		var err error
		if own, err = accountpages.LoadOwn(cfg.PagesDir); err != nil {
			return nil, unusable("LATCHKEY_PAGES_DIR", err)
		}
	}
	pages, err := accountpages.New(accountpages.Config{
		Product: ProductName(cfg), Issuer: cfg.Issuer, Own: own, Color: cfg.PagesColor, ReturnURLs: cfg.ReturnURLs,
		Passkeys: cfg.PasskeyRPID != "", LoginByCode: cfg.LoginByCode,
		Verification: account.Verification(cfg.EmailVerification) != account.VerificationOff,
		PasswordMin:  cfg.PasswordMinLength, DeletionGrace: cfg.DeletionGrace,
	})
	if err != nil {
		return nil, unusable("LATCHKEY_PAGES_DIR", err)
	}
	return pages, nil
}

func judgeAccountPages(cfg *config.Config) error {
	if cfg.PagesColor != "" {
		if err := accountpages.ParseColor(cfg.PagesColor); err != nil {
			return unusable("LATCHKEY_PAGES_COLOR", err)
		}
	}
	if cfg.PagesDir == "" {
		return nil
	}
	_, err := newAccountPages(cfg)
	return err
}
