package account

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
)

// ErrSecret is the error for a token that is not good.
var ErrSecret = errSecret

// Nobody is the asker of a secret that everybody who has it may use.
func Nobody() []byte { return nobody() }

// Secrets has the secrets of one purpose.
type Secrets struct{ s secrets }

// ResetSecrets returns the secrets with which passwords are reset.
func ResetSecrets(ttl time.Duration, key []byte, now func() time.Time) Secrets {
	return Secrets{secrets{purpose: passwordReset(), ttl: ttl, key: key, now: now}}
}

// OtherSecrets returns secrets of a second purpose, which only tests have.
func OtherSecrets(ttl time.Duration, key []byte, now func() time.Time) Secrets {
	return Secrets{secrets{purpose: purpose{name: "verify_address", label: "latchkey verify token\x00"}, ttl: ttl, key: key, now: now}}
}

// Issue calls issue.
func (s Secrets) Issue(ctx context.Context, tx pgx.Tx, userID uuid.UUID, asker []byte, position int64) (string, error) {
	return s.s.issue(ctx, tx, owner{userID: userID, asker: asker}, position)
}

// Find calls find.
func (s Secrets) Find(ctx context.Context, on db.DBTX, asker []byte, token string) (User, error) {
	return s.s.find(ctx, on, asker, token)
}

// Spend calls spend.
func (s Secrets) Spend(ctx context.Context, tx pgx.Tx, userID uuid.UUID, asker []byte, token string) error {
	return s.s.spend(ctx, tx, owner{userID: userID, asker: asker}, token)
}
