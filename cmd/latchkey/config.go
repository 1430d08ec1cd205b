package main

import (
	"context"
	"fmt"
	"io"

	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/config"
)

func printConfig(_ context.Context, args, environ []string, stdout io.Writer) error {
	if err := noArguments("config", args); err != nil {
		return err
	}
	cfg, err := app.LoadSettings(environ, config.Tool)
	if err != nil {
		return err
	}
	if err := cfg.Print(stdout, environ); err != nil {
		return err
	}
	return printWeak(cfg, stdout)
}

// printWeak prints a warning for each weak setting. Settings that are too weak for `serve` are its error.
func printWeak(cfg *config.Config, stdout io.Writer) error {
	refused, warned := app.Weaknesses(cfg, config.Serve)
	for _, one := range warned {
		if _, err := fmt.Fprintf(stdout, "warning: %s %s\n", one.Variable, one.Wrong); err != nil {
			return err
		}
	}
	if len(refused) > 0 {
		return &config.Error{Problems: refused}
	}
	return nil
}

// databaseConfig reads the settings for commands that work on the database.
func databaseConfig(environ []string) (*config.Config, error) {
	return app.LoadSettings(environ, config.Tool, func(cfg *config.Config) error {
		if cfg.DatabaseURL == "" {
			return config.Reject("LATCHKEY_DATABASE_URL", "is not set")
		}
		return nil
	})
}
