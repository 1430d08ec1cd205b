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
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
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
	return &latchkeyv1.SignUpResponse{User: userMessage(user)}, nil
}

// createAccount makes the account of a request whose password is good enough.
func (s *Server) createAccount(ctx context.Context, req *latchkeyv1.SignUpRequest) (user db.User, err error) {
	if err := checkNewAddress(req.GetEmail()); err != nil {
		return user, err
	}
	lookup := emailLookup(req.GetEmail())
	// Asked first so that a taken address costs no hash; the insert decides.
	taken, err := s.queries.EmailTaken(ctx, s.cfg.Pool, db.EmailTakenParams{Email: req.GetEmail(), EmailLookup: lookup})
	if err != nil {
		return user, fmt.Errorf("look the address up: %w", err)
	}
	if taken {
		return user, errEmailTaken()
	}
	hash, err := s.cfg.Passwords.Hash(ctx, hashClaim(ctx, false), req.GetPassword())
	if err != nil {
		return user, hashError("hash the password", err)
	}
	err = postgres.InTx(ctx, s.cfg.Pool, func(tx pgx.Tx) error {
		user, err = s.queries.CreateUser(ctx, tx, db.CreateUserParams{
			Email: req.GetEmail(), EmailLookup: lookup, PasswordHash: hash,
			FirstName: req.GetFirstName(), LastName: req.GetLastName(), Now: s.cfg.Now(),
		})
		if err != nil {
			return err
		}
		return s.audit(ctx, tx, auditSignedUp, user.ID, uuid.Nil)
	})
	if postgres.IsUniqueViolation(err, "users_email_key", "users_email_lookup_key") {
		return user, errEmailTaken()
	}
	if err != nil {
		return user, fmt.Errorf("create the account: %w", err)
	}
	return user, nil
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
		return refuseField(latchkeyv1.ErrorReason_ERROR_REASON_PASSWORD_TOO_COMMON, field, "PASSWORD_TOO_COMMON",
			"is built as the passwords that are tried first are: common words, names, the account's own or the service's, or patterns, "+
				"with digits, years, marks or substitutions; choose another, such as four words that have nothing to do with each other")
	case errors.Is(err, password.ErrTooShort):
		return refuseField(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, field, "PASSWORD_TOO_SHORT",
			fmt.Sprintf("must have at least %d characters", s.cfg.PasswordPolicy.MinLength))
	case errors.Is(err, password.ErrTooLong):
		return refuseField(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, field, "PASSWORD_TOO_LONG",
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
