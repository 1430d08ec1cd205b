// Package account finds, creates and changes accounts. Its results have no password hash, except Credential, with which
// a password is compared.
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
	// ID is uuid.Nil if there is no such account.
	ID                         uuid.UUID
	Email, FirstName, LastName string
	// Active is false if an operator has suspended the account.
	Active   bool
	Verified bool
	// SharesLookup is true if another account has the same lookup form of the address. Older backends accepted
	// addresses that differ only in letter case.
	SharesLookup bool
	CreateTime   time.Time
	// LastLoginTime is zero before the first login.
	LastLoginTime time.Time
}

// FromRow copies a row without its hash.
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

// Message returns the account as the contract shows it to its owner and to services. It is here, and not in a service,
// because internal/validate keeps the message with each account in memory. So it is made once, and not for each
// validation.
func (u User) Message() *latchkeyv1.User {
	return &latchkeyv1.User{
		Id: u.ID.String(), Email: u.Email, FirstName: u.FirstName, LastName: u.LastName,
		EmailVerified: u.Verified, CreateTime: timestamppb.New(u.CreateTime),
	}
}
