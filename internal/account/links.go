package account

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/postgres"
)

const (
	// linksInWindow bounds the mails to one account, which any number of networks may ask
	// for. The link in the newest one is good meanwhile.
	linksInWindow = 5
	linkWindow    = 15 * time.Minute
	// resetLinkKind is what they are counted as, beside the notices.
	resetLinkKind = "reset_link"
)

// Resets makes reset tokens for the sender of mails.
type Resets struct {
	// Pool is the database.
	Pool *pgxpool.Pool
	// TTL is how long a token can be used, counted from its newest mail: twice that at
	// most, from the first.
	TTL time.Duration
	// Key makes the tokens, with what is stored: 32 bytes that the database does not have,
	// the same on all replicas.
	Key []byte
	// Now is the clock.
	Now func() time.Time
}

// FindResetAccounts implements mail.Accounts. An account that was sent links enough lately
// is left out: the newest has to do. Where nobody has the exact text its bare form counts, as in Login.
func (r Resets) FindResetAccounts(ctx context.Context, tx pgx.Tx, emails []string) (map[int]uuid.UUID, error) {
	rows, err := findAll(ctx, tx, emails, func(i int) string { return emails[i] })
	if err != nil {
		return nil, err
	}
	held := make(map[int]bool, len(rows))
	for _, row := range rows {
		held[int(row.Place)] = true
	}
	others, err := findAll(ctx, tx, emails, func(i int) string {
		if trimmed := bare(emails[i]); !held[i] && trimmed != emails[i] {
			return trimmed
		}
		return ""
	})
	if err != nil {
		return nil, err
	}
	rows = append(rows, others...)
	slices.SortFunc(rows, func(a, b db.FindResetAccountsRow) int { return bytes.Compare(a.User.ID[:], b.User.ID[:]) }) // replicas that count the same accounts do not deadlock
	found := make(map[int]uuid.UUID, len(rows))
	for _, row := range rows {
		i := int(row.Place)
		if !row.User.IsActive {
			continue
		}
		admitted, err := db.New().AdmitNotice(ctx, tx, db.AdmitNoticeParams{
			UserID: row.User.ID, Kind: resetLinkKind, Now: r.Now(), WindowSeconds: linkWindow.Seconds(), WindowLimit: linksInWindow,
		})
		if err != nil {
			return nil, fmt.Errorf("count the links: %w", err)
		}
		if admitted > 0 {
			found[i] = row.User.ID
		}
	}
	return found, nil
}

// findAll looks up what form makes of each place; "" leaves it out.
func findAll(ctx context.Context, tx pgx.Tx, places []string, form func(i int) string) ([]db.FindResetAccountsRow, error) {
	var asked db.FindResetAccountsParams
	forms := map[int32]string{}
	for i := range places {
		email := form(i)
		if email == "" {
			continue
		}
		forms[int32(i)] = email
		asked.Places = append(asked.Places, int32(i))
		asked.Emails = append(asked.Emails, email)
		asked.EmailLookups = append(asked.EmailLookups, address.Lookup(email))
	}
	if len(asked.Places) == 0 {
		return nil, nil
	}
	rows, err := db.New().FindResetAccounts(ctx, tx, asked)
	if err != nil {
		return nil, fmt.Errorf("look the addresses up: %w", err)
	}
	return slices.DeleteFunc(rows, func(row db.FindResetAccountsRow) bool {
		email := forms[row.Place]
		return !hasAddress(row.User, email, address.Lookup(email))
	}), nil
}

// IssueReset returns the one live reset token of the account, the same one while it lives. ok is false when it must not be
// sent to anybody: the account is gone or disabled, or its sessions were ended after the position.
func (r Resets) IssueReset(ctx context.Context, link mail.ResetLink) (to, token string, ok bool, err error) {
	queries := db.New()
	now := r.Now()
	err = postgres.InTx(ctx, r.Pool, func(tx pgx.Tx) error {
		// The lock keeps the address from changing before the row is there to be deleted.
		user, err := queries.LockUser(ctx, tx, link.UserID)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && !user.IsActive {
			return nil
		}
		if err != nil {
			return err
		}
		isEnded, err := queries.EndedSince(ctx, tx, db.EndedSinceParams{UserID: link.UserID, Position: link.Position})
		if err != nil || isEnded {
			return err
		}
		resets := secrets{purpose: passwordReset(), ttl: r.TTL, key: r.Key, now: r.Now}
		if token, err = resets.issue(ctx, tx, owner{link.UserID, nobody()}, link.Position); err != nil {
			return err
		}
		to, ok = user.Email, true
		return r.trail().Write(ctx, tx, audit.Event{
			Time: now, Kind: audit.ResetRequested, UserID: link.UserID, TraceID: link.TraceID, CallID: link.CallID,
		})
	})
	if err != nil {
		return "", "", false, fmt.Errorf("store the reset token: %w", err)
	}
	if !ok {
		return "", "", false, nil
	}
	return to, token, true, nil
}

func (r Resets) trail() *audit.Trail { return audit.New(r.Now) }

// Address returns the address of an account; ok is false when it is gone.
func (r Resets) Address(ctx context.Context, userID uuid.UUID) (to string, ok bool, err error) {
	user, err := db.New().FindUser(ctx, r.Pool, userID)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("look the account up: %w", err)
	}
	return user.Email, true, nil
}
