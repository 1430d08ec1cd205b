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
	// linksInWindow limits the mails to one account, because any number of networks may ask for them. When it is
	// reached, the link in the newest mail is still good.
	linksInWindow = 5
	linkWindow    = 15 * time.Minute
	// resetLinkKind is the kind under which links are counted, beside the notices.
	resetLinkKind = "reset_link"
	// letterGap is the least time between two mails with a code, of which people often ask for several in a row.
	letterGap = time.Minute
)

// Resets makes reset tokens for the sender of mails.
type Resets struct {
	// Pool is the database.
	Pool *pgxpool.Pool
	// TTL is the life of a token, counted from its newest mail. Counted from the first mail it is at most twice that.
	TTL time.Duration
	// Key makes the tokens, together with the stored nonce. It has 32 bytes, which the database does not have, and is
	// the same on all replicas.
	Key []byte
	// Now is the clock.
	Now func() time.Time
}

// FindResetAccounts implements mail.Accounts. It leaves out an account that was sent enough links lately: its owner can
// use the newest one. If nobody has the exact text, it looks for the text without white space around it, as Login does.
func (r Resets) FindResetAccounts(ctx context.Context, tx pgx.Tx, emails []string) (map[int]uuid.UUID, error) {
	limits := db.AdmitNoticeParams{Kind: resetLinkKind, WindowSeconds: linkWindow.Seconds(), WindowLimit: linksInWindow}
	return r.admitted(ctx, tx, emails, limits, func(user db.User) bool { return user.IsActive })
}

// FindLetterAccounts implements mail.Accounts. It leaves out an account that was sent such a mail in the last minute, or
// enough of them lately.
func (r Resets) FindLetterAccounts(ctx context.Context, tx pgx.Tx, kind mail.LetterKind, emails []string) (map[int]uuid.UUID, error) {
	limits := db.AdmitNoticeParams{
		Kind: string(kind), GapSeconds: letterGap.Seconds(), WindowSeconds: linkWindow.Seconds(), WindowLimit: linksInWindow,
	}
	return r.admitted(ctx, tx, emails, limits, func(user db.User) bool {
		return user.IsActive && (kind != mail.VerifyEmail || !user.IsVerified)
	})
}

// admitted finds the accounts of typed addresses that are wanted, and counts a mail to each within the limits.
func (r Resets) admitted(
	ctx context.Context, tx pgx.Tx, emails []string, limits db.AdmitNoticeParams, wanted func(user db.User) bool,
) (map[int]uuid.UUID, error) {
	rows, err := findTypedAll(ctx, tx, emails)
	if err != nil {
		return nil, err
	}
	found := make(map[int]uuid.UUID, len(rows))
	for _, row := range rows {
		if !wanted(row.User) {
			continue
		}
		limits.UserID, limits.Now = row.User.ID, r.Now()
		admitted, err := db.New().AdmitNotice(ctx, tx, limits)
		if err != nil {
			return nil, fmt.Errorf("count the mails: %w", err)
		}
		if admitted > 0 {
			found[int(row.Place)] = row.User.ID
		}
	}
	return found, nil
}

// findTypedAll is findTyped for many addresses. Place is the index of the address.
func findTypedAll(ctx context.Context, tx pgx.Tx, emails []string) ([]db.FindResetAccountsRow, error) {
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
	// In the order of the ids, so that replicas which count the same accounts do not deadlock.
	slices.SortFunc(rows, func(a, b db.FindResetAccountsRow) int { return bytes.Compare(a.User.ID[:], b.User.ID[:]) })
	return rows, nil
}

// findAll looks up the text that form returns for each place. It skips a place for which form returns "".
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

// IssueReset returns the one live reset token of the account, the same token as long as it lives. ok is false if the
// token must not be sent to anybody: the account does not exist or is disabled, or its sessions were ended after the
// position.
func (r Resets) IssueReset(ctx context.Context, link mail.Link) (to, token string, ok bool, err error) {
	queries := db.New()
	now := r.Now()
	err = postgres.InTx(ctx, r.Pool, func(tx pgx.Tx) error {
		// Without the lock, the address could change before the row of the secret is there, and that change would not
		// delete the row.
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
		if token, err = resets.issue(ctx, tx, owner{userID: link.UserID, asker: nobody()}, link.Position); err != nil {
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

// IssueLetter implements mail.Accounts.
func (r Resets) IssueLetter(ctx context.Context, kind mail.LetterKind, link mail.Link) (letter mail.Letter, err error) {
	err = postgres.InTx(ctx, r.Pool, func(tx pgx.Tx) error {
		if kind == mail.EmailChangedUndo {
			letter, err = r.findUndo(ctx, tx, link)
			return err
		}
		user, err := db.New().LockUser(ctx, tx, link.UserID)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && !user.IsActive {
			return nil
		}
		if err != nil {
			return err
		}
		isEnded, err := db.New().EndedSince(ctx, tx, db.EndedSinceParams{UserID: link.UserID, Position: link.Position})
		if err != nil || isEnded {
			return err
		}
		switch {
		case kind == mail.VerifyEmail && !user.IsVerified:
			letter, err = r.issueVerification(ctx, tx, user, link)
		case kind == mail.LoginCode:
			letter, err = r.issueLoginCode(ctx, tx, user, link)
		case kind == mail.ChangeEmail:
			letter, err = r.issueChange(ctx, tx, user, link)
		}
		return err
	})
	if err != nil {
		return mail.Letter{}, fmt.Errorf("store the secret of a mail: %w", err)
	}
	return letter, nil
}

func (r Resets) trail() *audit.Trail { return audit.New(r.Now) }

// Address returns the address of an account. ok is false if the account does not exist.
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
