package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/userfile"
)

// exportPage is how many accounts are in memory at once, about half a megabyte.
const exportPage = 1000

func (u *usersCommand) exportFile(ctx context.Context) (err error) {
	out := u.stdout
	if u.file != "" && u.file != "-" {
		file, err := os.OpenFile(u.file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Sync(), file.Close()) }()
		out = file
	}
	buffered := bufio.NewWriterSize(out, 64<<10)
	writer, err := userfile.NewWriter(buffered, u.format, u.withHashes)
	if err != nil {
		return err
	}
	start := time.Now()
	n, err := u.export(ctx, writer)
	err = errors.Join(err, writer.Flush(), buffered.Flush())
	if err != nil {
		return fmt.Errorf("the export stopped after %d accounts, the others are missing: %w", n, err)
	}
	u.log.LogAttrs(ctx, slog.LevelInfo, "accounts exported", slog.Int64("accounts", n), slog.Bool("with_hashes", u.withHashes),
		slog.String("took", since(start).String()))
	return nil
}

// export writes the accounts as they are at one moment. It does not contain later changes.
func (u *usersCommand) export(ctx context.Context, writer *userfile.Writer) (int64, error) {
	var n int64
	err := pgx.BeginTxFunc(ctx, u.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		// The program that reads the other end of a pipe may pause.
		if _, err := tx.Exec(ctx, "SET LOCAL idle_in_transaction_session_timeout = 0"); err != nil {
			return err
		}
		queries := db.New()
		total, err := queries.CountUsers(ctx, tx)
		if err != nil {
			return fmt.Errorf("count the accounts: %w", err)
		}
		bar := newProgress(u.stderr, isTerminal(u.stderr) && !isTerminal(u.stdout), u.log, total, "accounts")
		defer bar.Done()
		page := db.ExportUsersParams{After: time.Time{}, AfterID: uuid.Nil, PageSize: exportPage}
		for {
			accounts, err := queries.ExportUsers(ctx, tx, page)
			if err != nil {
				return fmt.Errorf("read the accounts: %w", err)
			}
			for _, account := range accounts {
				if err := writer.Write(exported(account)); err != nil {
					return err
				}
			}
			n += int64(len(accounts))
			bar.Set(n)
			if len(accounts) < exportPage {
				return nil
			}
			last := accounts[len(accounts)-1]
			page.After, page.AfterID = last.CreatedAt, last.ID
		}
	})
	return n, err
}

func exported(account db.User) userfile.User {
	u := userfile.User{
		ID: account.ID, Email: account.Email, PasswordHash: account.PasswordHash, FirstName: account.FirstName, LastName: account.LastName,
		CreatedAt: account.CreatedAt, Suspended: !account.IsActive, EmailVerified: account.IsVerified,
	}
	if u.PasswordHash == password.None {
		u.PasswordHash = ""
	}
	if account.LastLoginAt != nil {
		u.LastLoginAt = *account.LastLoginAt
	}
	return u
}
