package server

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
)

const (
	// resetTokenSize is 256 bits: nobody guesses one while it lives.
	resetTokenSize = 32
	// linksInWindow bounds the mails to one account, which many networks may ask for:
	// twelve as often as one network may.
	linksInWindow = 60
	linkWindow    = 15 * time.Minute
	// resetLinkKind is what they are counted as, beside the notices.
	resetLinkKind = "reset_link"
)

// ForgotPassword implements latchkey.v1.AuthService. It does the same for every
// address, one insert, so that neither the answer nor its time tells whether there
// is an account: the sender of mails finds that out later.
func (s *Server) ForgotPassword(ctx context.Context, req *latchkeyv1.ForgotPasswordRequest) (*latchkeyv1.ForgotPasswordResponse, error) {
	source := guessSource(callFrom(ctx).address)
	later, err := s.admitResetRequest(ctx, source)
	if err != nil {
		return nil, fmt.Errorf("count the network's requests: %w", err)
	}
	// By network alone: no number of others must keep the owner from asking.
	if err := s.cfg.ResetRequests.Take(ctx, emailLookup(req.GetEmail())+" "+source, source); err != nil {
		return nil, fmt.Errorf("count the request: %w", err)
	}
	err = s.cfg.Mailer.RequestReset(ctx, mail.ResetRequest{Email: req.GetEmail(), Later: later, TraceID: callFrom(ctx).traceID})
	if errors.Is(err, mail.ErrAddress) {
		return nil, refuseField(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "email", "EMAIL_FORM", "is not an address")
	}
	if err != nil {
		return nil, fmt.Errorf("queue the mail: %w", err)
	}
	return &latchkeyv1.ForgotPasswordResponse{}, nil
}

// admitResetRequest bounds what one network asks for, whatever the addresses: a flood of
// requests must not keep others waiting for their links. Whoever has not asked lately is
// served first and not counted among all, so that nobody can use up what is left for
// others; later says that this is not such a one.
func (s *Server) admitResetRequest(ctx context.Context, source string) (later bool, err error) {
	if !s.cfg.AddressLimit || s.showsKey(ctx) {
		return false, nil
	}
	rates := s.cfg.Rates
	err = rates.Allow(ctx, "ForgotPassword-first", source, ratelimit.Rate{PerMinute: 1, Burst: 3})
	if _, lately := errors.AsType[*ratelimit.LimitedError](err); !lately {
		return false, err
	}
	err = rates.Allow(ctx, "ForgotPassword-network", source, ratelimit.Rate{PerMinute: 60, Burst: 120})
	if err != nil {
		return false, err
	}
	return true, rates.Allow(ctx, "ForgotPassword-all", "all", ratelimit.Rate{PerMinute: 300, Burst: 600})
}

// ResetPassword implements latchkey.v1.AuthService.
func (s *Server) ResetPassword(ctx context.Context, req *latchkeyv1.ResetPasswordRequest) (*latchkeyv1.ResetPasswordResponse, error) {
	if err := s.reset(ctx, req.GetToken(), req.GetNewPassword(), s.checkNewPassword); err != nil {
		return nil, err
	}
	return &latchkeyv1.ResetPasswordResponse{}, nil
}

// reset sets a new password that meets the rule. The token is looked at before the
// password is hashed, so that guesses cost no hash, and spent with the change of the
// password, so that a refused password leaves it good.
func (s *Server) reset(ctx context.Context, resetToken, newPassword string, rule passwordRule) error {
	account, spend, err := s.findReset(ctx, resetToken)
	if err != nil {
		return err
	}
	if err := rule("new_password", newPassword, passwordContext(account.Email, account.FirstName, account.LastName)); err != nil {
		return err
	}
	passwordHash, err := s.cfg.Passwords.Hash(ctx, hashClaim(ctx, true), newPassword)
	if err != nil {
		return hashError("hash the password", err)
	}
	err = s.revokeUser(ctx, uuid.Nil, func(ctx context.Context, tx pgx.Tx) (uuid.UUID, int64, error) {
		position, err := s.resetPassword(ctx, tx, account.ID, passwordHash, spend.inTx)
		return account.ID, position, err
	})
	if err != nil {
		return err
	}
	s.tidy(ctx, func(ctx context.Context) {
		spend.afterwards(ctx)
		s.forgetCarried(ctx, account.Email)
	})()
	return nil
}

// resetSpending is how a reset token is spent.
type resetSpending struct {
	// inTx does it for one caller, once the account is locked.
	inTx func(ctx context.Context, tx pgx.Tx) error
	// afterwards tidies up.
	afterwards func(ctx context.Context)
}

// findReset is the account whose password the token may set, and how it is spent.
func (s *Server) findReset(ctx context.Context, resetToken string) (db.User, resetSpending, error) {
	tokenHash := hashResetToken(resetToken)
	found, err := s.queries.FindPasswordReset(ctx, s.cfg.Pool, db.FindPasswordResetParams{TokenHash: tokenHash, Now: s.cfg.Now()})
	if errors.Is(err, pgx.ErrNoRows) {
		user, err := s.findLegacyReset(ctx, resetToken)
		return user, resetSpending{
			inTx:       func(ctx context.Context, tx pgx.Tx) error { return s.spendLegacyReset(ctx, tx, user.ID, resetToken) },
			afterwards: func(ctx context.Context) { s.forgetLegacyReset(ctx, resetToken) },
		}, err
	}
	if err != nil {
		return db.User{}, resetSpending{}, fmt.Errorf("look the reset token up: %w", err)
	}
	return found.User, resetSpending{
		inTx:       func(ctx context.Context, tx pgx.Tx) error { return s.spendReset(ctx, tx, found.User.ID, tokenHash) },
		afterwards: func(context.Context) {},
	}, nil
}

func (s *Server) spendReset(ctx context.Context, tx pgx.Tx, userID uuid.UUID, tokenHash []byte) error {
	spent, err := s.queries.SpendPasswordReset(ctx, tx, db.SpendPasswordResetParams{
		TokenHash: tokenHash, UserID: userID, Now: s.cfg.Now(),
	})
	if err != nil {
		return fmt.Errorf("spend the reset token: %w", err)
	}
	if spent == 0 {
		return errResetTokenInvalid()
	}
	return nil
}

// resetPassword spends the token, sets the password and ends all sessions, or does
// none of it; it returns the ledger's position. The account's row is locked first and the ledger's head last.
func (s *Server) resetPassword(
	ctx context.Context, tx pgx.Tx, userID uuid.UUID, passwordHash string, spend func(context.Context, pgx.Tx) error,
) (position int64, err error) {
	account, err := s.queries.LockUser(ctx, tx, userID)
	if errors.Is(err, pgx.ErrNoRows) || err == nil && !account.IsActive {
		return 0, errResetTokenInvalid()
	}
	if err != nil {
		return 0, fmt.Errorf("lock the account: %w", err)
	}
	if err := spend(ctx, tx); err != nil {
		return 0, err
	}
	err = s.queries.SetPassword(ctx, tx, db.SetPasswordParams{ID: userID, PasswordHash: passwordHash})
	if err != nil {
		return 0, fmt.Errorf("set the password: %w", err)
	}
	err = s.queries.NoteReset(ctx, tx, db.NoteResetParams{
		UserID: userID, ResetAt: s.cfg.Now(),
		ResetNetwork: []byte(s.cfg.LoginFailures.SourceHash(guessSource(callFrom(ctx).address))),
	})
	if err != nil {
		return 0, fmt.Errorf("note where the password was reset from: %w", err)
	}
	if err := s.notifyOwner(ctx, tx, mail.PasswordChanged, userID); err != nil {
		return 0, err
	}
	if err := s.audit(ctx, tx, auditPasswordReset, userID, uuid.Nil); err != nil {
		return 0, fmt.Errorf("record the reset: %w", err)
	}
	position, err = s.queries.AppendUserRevocation(ctx, tx, db.AppendUserRevocationParams{UserID: userID})
	if err != nil {
		return 0, fmt.Errorf("end the sessions: %w", err)
	}
	return position, nil
}

func hashResetToken(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// Resets makes reset tokens for the sender of mails.
type Resets struct {
	// Pool is the database.
	Pool *pgxpool.Pool
	// TTL is how long a token can be used.
	TTL time.Duration
	// Now is the clock.
	Now func() time.Time
}

// FindResetAccounts implements mail.Accounts.
func (r Resets) FindResetAccounts(ctx context.Context, tx pgx.Tx, emails []string) (map[int]uuid.UUID, error) {
	asked := db.FindResetAccountsParams{Emails: emails}
	for i, email := range emails {
		asked.Places = append(asked.Places, int32(i))
		asked.EmailLookups = append(asked.EmailLookups, emailLookup(email))
	}
	rows, err := db.New().FindResetAccounts(ctx, tx, asked)
	if err != nil {
		return nil, fmt.Errorf("look the addresses up: %w", err)
	}
	found := make(map[int]uuid.UUID, len(rows))
	for _, row := range rows {
		if i := int(row.Place); row.User.IsActive && hasAddress(row.User, emails[i], asked.EmailLookups[i]) {
			found[i] = row.User.ID
		}
	}
	return found, nil
}

// IssueReset makes the one live reset token of the account; ok is false when there is
// nobody to whom it may be sent: the account is gone or disabled, its sessions were ended
// after the position, or it was sent so many that the newest one has to do: nobody then
// can go on replacing it. The token is returned and its hash stored.
func (r Resets) IssueReset(ctx context.Context, userID uuid.UUID, ledger int64) (to, token string, ok bool, err error) {
	queries := db.New()
	var raw [resetTokenSize]byte
	_, _ = rand.Read(raw[:]) // never fails (crypto/rand, since Go 1.24)
	token = base64.RawURLEncoding.EncodeToString(raw[:])
	now := r.Now()
	err = postgres.InTx(ctx, r.Pool, func(tx pgx.Tx) error {
		// The lock keeps the address from changing before the row is there to be deleted.
		user, err := queries.LockUser(ctx, tx, userID)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && !user.IsActive {
			return nil
		}
		if err != nil {
			return err
		}
		isEnded, err := queries.EndedSince(ctx, tx, db.EndedSinceParams{UserID: userID, Ledger: ledger})
		if err != nil || isEnded {
			return err
		}
		admitted, err := queries.AdmitNotice(ctx, tx, db.AdmitNoticeParams{
			UserID: userID, Kind: resetLinkKind, Now: now, WindowSeconds: linkWindow.Seconds(), WindowLimit: linksInWindow,
		})
		if err != nil || admitted == 0 {
			return err
		}
		err = queries.ReplacePasswordReset(ctx, tx, db.ReplacePasswordResetParams{
			UserID: userID, TokenHash: hashResetToken(token), Ledger: ledger, CreatedAt: now, ExpiresAt: now.Add(r.TTL),
		})
		if err != nil {
			return err
		}
		to, ok = user.Email, true
		return queries.RecordAuditEvent(ctx, tx, db.RecordAuditEventParams{
			CreatedAt: now, Kind: string(auditResetRequested), UserID: userID,
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
