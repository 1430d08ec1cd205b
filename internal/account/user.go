// Package account finds, creates and changes accounts. What it returns has no password hash, except where a
// password is about to be compared (Credential).
package account

import (
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// User is an account without its password hash.
type User struct {
	// ID is uuid.Nil when there is no such account.
	ID                         uuid.UUID
	Email, FirstName, LastName string
	// Active is false while an operator has suspended the account.
	Active   bool
	Verified bool
	// SharesLookup: another account holds the form in which this one's address is compared. Older backends took
	// addresses that differ in letter case alone.
	SharesLookup bool
	CreateTime   time.Time
	// LastLoginTime is the zero time before the first login.
	LastLoginTime time.Time
}

// FromRow leaves the hash out.
func FromRow(row db.User) User {
	u := User{
		ID: row.ID, Email: row.Email, FirstName: row.FirstName, LastName: row.LastName,
		Active: row.IsActive, Verified: row.IsVerified, SharesLookup: !row.EmailLookup.Valid, CreateTime: row.CreatedAt,
	}
	if row.LastLoginAt != nil {
		u.LastLoginTime = *row.LastLoginAt
	}
	return u
}

// Message is what the contract shows the owner and services of an account. It is made here and not in a service because
// internal/validate keeps it with each account in memory: it is made once, and not for each validation.
func (u User) Message() *latchkeyv1.User {
	return &latchkeyv1.User{
		Id: u.ID.String(), Email: u.Email, FirstName: u.FirstName, LastName: u.LastName,
		EmailVerified: u.Verified, CreateTime: timestamppb.New(u.CreateTime),
	}
}
