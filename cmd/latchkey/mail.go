package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/mail"
)

func mailGroup() command {
	return command{
		name: "mail", about: "test: send a mail with the settings in force",
		more: `It needs LATCHKEY_SMTP_URL, and LATCHKEY_MAIL_FROM or LATCHKEY_RESET_URL; no database.
Exit codes: 0 the server has taken the mail, 1 it has not, 2 usage or settings.`,
		group: []command{{
			name: "test", usage: "ADDRESS", run: mailTest,
			about: "send a mail to ADDRESS with the settings in force, and print each step with the server's answer",
		}},
	}
}

func mailTest(ctx context.Context, words, environ []string, stdout io.Writer) error {
	if len(words) != 1 {
		return &usageError{mailGroup().help()}
	}
	cfg, err := app.LoadSettings(environ, config.Tool, app.JudgeSMTPCA, func(cfg *config.Config) error {
		if cfg.SMTPURL == "" {
			return config.Reject("LATCHKEY_SMTP_URL", "is not set")
		}
		return nil
	})
	if err != nil {
		return err
	}
	sender, err := app.NewSMTP(cfg)
	if err != nil {
		return err
	}
	m, err := mail.TestMessage(app.ProductName(cfg), address.Mailbox(words[0]), time.Now())
	if err != nil {
		return err
	}
	var failed error
	say := func(line string) {
		_, err := fmt.Fprintln(stdout, line)
		failed = errors.Join(failed, err)
	}
	if err := sender.Try(ctx, m, say); err != nil {
		return err
	}
	say("sent to " + m.To + ": check that it arrives, and that it is not taken for spam")
	return failed
}
