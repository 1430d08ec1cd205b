package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// SignUp implements latchkey.v1.AuthService.
func (s *Server) SignUp(ctx context.Context, req *latchkeyv1.SignUpRequest) (*latchkeyv1.SignUpResponse, error) {
	words := passwordContext(req.GetEmail(), req.GetFirstName(), req.GetLastName())
	if err := s.checkNewPassword("password", req.GetPassword(), words); err != nil {
		return nil, err
	}
	user, err := s.createAccount(ctx, req)
	if err != nil {
		return nil, err
	}
	if s.cfg.HideAccounts {
		return &latchkeyv1.SignUpResponse{}, nil
	}
	return &latchkeyv1.SignUpResponse{User: account.FromRow(user).Message()}, nil
}

// createAccount makes the account of a request whose password is good enough. Nothing
// before the hash depends on whether the address is taken, so that a short deadline does
// not tell; and what begins after it ends, whatever the deadline: whoever is told that
// an address is taken would have made the account had it been free. With HideAccounts
// the user that is returned must not be told of.
func (s *Server) createAccount(ctx context.Context, req *latchkeyv1.SignUpRequest) (user db.User, err error) {
	if err := checkNewAddress(req.GetEmail()); err != nil {
		return user, err
	}
	hash, err := s.cfg.Passwords.Hash(ctx, hashClaim(ctx, false), req.GetPassword())
	if err != nil {
		return user, hashError("hash the password", err)
	}
	ctx, cancel := besteffort.Settling(ctx)
	defer cancel()
	err = postgres.InTx(ctx, s.cfg.Pool, func(tx pgx.Tx) error {
		lookup := emailLookup(req.GetEmail())
		user, err = s.queries.CreateUser(ctx, tx, db.CreateUserParams{
			Email: req.GetEmail(), EmailLookup: lookup, PasswordHash: hash,
			FirstName: req.GetFirstName(), LastName: req.GetLastName(), Now: s.cfg.Now(),
		})
		created := err == nil
		switch {
		case err != nil && !errors.Is(err, pgx.ErrNoRows):
			return err
		case s.cfg.HideAccounts:
			return s.recordHidden(ctx, tx, req.GetEmail(), lookup, created)
		case !created:
			return refusal.EmailTaken()
		}
		return s.trail.Record(ctx, tx, audit.SignedUp, user.ID, uuid.Nil)
	})
	if err != nil && refusalIn(err) == nil {
		return user, fmt.Errorf("create the account: %w", err)
	}
	return user, err
}

// recordHidden writes what happened, with as many statements for a taken address as for
// a new account: the account is looked up, an event recorded and a notice queued, which
// goes to its owner, and for a new account to nobody. (An account that has only the
// value of the column, see findByAddress, is nobody's too.)
func (s *Server) recordHidden(ctx context.Context, tx pgx.Tx, email, lookup string, created bool) error {
	found, err := findByAddress(ctx, s.queries, tx, email, lookup)
	if err != nil {
		return err
	}
	told := found.User.ID
	if created {
		told = uuid.New()
		err = s.trail.Record(ctx, tx, audit.SignedUp, found.User.ID, uuid.Nil)
	} else {
		err = s.trail.RecordAttemptedSignUp(ctx, tx, told, string(mail.SignUpAttempted))
	}
	if err != nil {
		return err
	}
	return s.notifyOwner(ctx, tx, mail.SignUpAttempted, told)
}

// passwordRule refuses a new password; field is the request's name for it, and words
// are the account's own.
type passwordRule func(field, candidate string, words []string) error

// checkNewPassword is the passwordRule of latchkey.v1.
func (s *Server) checkNewPassword(field, candidate string, words []string) error {
	err := s.cfg.PasswordPolicy.Check(candidate, words...)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, password.ErrTooCommon):
		return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_PASSWORD_TOO_COMMON, field, "PASSWORD_TOO_COMMON",
			"is built as the passwords that are tried first are: common words, names, the account's own or the service's, or patterns, "+
				"with digits, years, marks or substitutions; choose another, such as four words that have nothing to do with each other")
	case errors.Is(err, password.ErrTooShort):
		return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, field, "PASSWORD_TOO_SHORT",
			fmt.Sprintf("must have at least %d characters", s.cfg.PasswordPolicy.MinLength))
	case errors.Is(err, password.ErrTooLong):
		return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, field, "PASSWORD_TOO_LONG",
			fmt.Sprintf("must have at most %d characters", password.MaxLength))
	}
	return fmt.Errorf("check the password: %w", err)
}

func userMessage(u db.User) *latchkeyv1.User {
	return &latchkeyv1.User{
		Id:            u.ID.String(),
		Email:         u.Email,
		FirstName:     u.FirstName,
		LastName:      u.LastName,
		EmailVerified: u.IsVerified,
		CreateTime:    timestamppb.New(u.CreatedAt),
	}
}
