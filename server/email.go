package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/net/idna"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// emailLookup is the form in which addresses are compared.
func emailLookup(email string) string { return address.Lookup(email) }

// findByAddress reads the account with the address, or none (its id is nil), which is no
// error. What the column says is not enough: an earlier version wrote other forms into
// it, or somebody by hand, and nobody must get the account of another.
func findByAddress(ctx context.Context, queries *db.Queries, on db.DBTX, email, lookup string) (db.FindUserByEmailRow, error) {
	found, err := queries.FindUserByEmail(ctx, on, db.FindUserByEmailParams{Email: email, EmailLookup: lookup})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return db.FindUserByEmailRow{}, nil
	case err != nil:
		return db.FindUserByEmailRow{}, fmt.Errorf("look the address up: %w", err)
	case !hasAddress(found.User, email, lookup):
		return db.FindUserByEmailRow{}, nil
	}
	return found, nil
}

// bare is a typed address without the white space around it, which autofill and pasting
// bring along. The exact text comes first: older backends may have stored such spaces.
func bare(email string) string { return strings.TrimSpace(email) }

// findTyped is findByAddress for what somebody typed, and for the bare form of it where nobody has the exact text. The
// lookup form is the one to count with: the bare one's unless somebody has the exact text, so that spaces are no way
// around a count.
func findTyped(ctx context.Context, queries *db.Queries, on db.DBTX, email string) (found db.FindUserByEmailRow, lookup string, err error) {
	lookup = emailLookup(email)
	found, err = findByAddress(ctx, queries, on, email, lookup)
	trimmed := bare(email)
	if err != nil || found.User.ID != uuid.Nil || trimmed == "" || trimmed == email {
		return found, lookup, err
	}
	lookup = emailLookup(trimmed)
	found, err = findByAddress(ctx, queries, on, trimmed, lookup)
	return found, lookup, err
}

func hasAddress(user db.User, email, lookup string) bool {
	return user.ID != uuid.Nil && (user.Email == email || emailLookup(user.Email) == lookup)
}

// checkNewAddress refuses what no new account may have.
func checkNewAddress(email string) error {
	err := address.Check(email)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, address.ErrLookAlike):
		return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "email", "EMAIL_LOOK_ALIKE", err.Error())
	default:
		return refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "email", "EMAIL_DOMAIN", err.Error())
	}
}

// passwordContext lists the words that a new password must not be made of. Nobody types
// the A-label form of a domain in a password.
func passwordContext(email, firstName, lastName string) []string {
	local, domain, _ := strings.Cut(email, "@")
	readable, err := idna.ToUnicode(domain)
	if err != nil {
		readable = domain
	}
	return []string{email, local, readable, firstName, lastName, "latchkey"}
}
