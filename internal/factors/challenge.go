package factors

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
)

// LoginChallenge is the purpose of a challenge for the second factor of a login. It is stored: do not change it.
const LoginChallenge = "login"

const (
	// challengesOpen is how many challenges of one purpose an account has at a time: each is a row.
	challengesOpen = 300
	tokenBytes     = 32
)

// NewToken returns the token of a challenge, or an authorization code. It has 256 random bits.
func NewToken() string {
	var random [tokenBytes]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand, since Go 1.24)
	return base64.RawURLEncoding.EncodeToString(random[:])
}

// Kept says what became of a challenge. Present is false if its account is gone: then there is no challenge.
type Kept struct {
	Present bool
	// Recoverable is true if the account has recovery codes left.
	Recoverable bool
}

// KeepChallenge stores a challenge. It sets the time at which the row is made, and limits the challenges of an account.
func (f *Flow) KeepChallenge(ctx context.Context, on db.DBTX, challenge db.CreateChallengeParams) (Kept, error) {
	now := f.cfg.Now()
	challenge.CreatedAt, challenge.Most = now, challengesOpen
	row, err := f.queries.CreateChallenge(ctx, on, challenge)
	if err != nil {
		return Kept{}, fmt.Errorf("keep the challenge: %w", err)
	}
	if row.Present && !row.Created {
		return Kept{}, &ratelimit.LimitedError{RetryAfter: max(row.FreeAt.Sub(now), time.Second)}
	}
	return Kept{Present: row.Present, Recoverable: row.Recoverable}, nil
}

// Try is an answer to a challenge.
type Try struct {
	Token, Purpose string
	// Most is how many answers the challenge takes.
	Most int32
	// IsCode is true for a code of TOTP or RecoveryCodes: it can be guessed, so it is counted as wrong as well, for
	// ProveTried.
	IsCode bool
	// KeepsAccount is true if the answer may be of an account that is to be deleted.
	KeepsAccount bool
}

// Tried is a challenge of which an answer was counted.
type Tried struct {
	// Hash is that of the token.
	Hash []byte
	// Owner is the account. It has no Hash, and Position is from before the first factor was compared.
	Owner account.Credential
	// DeviceID is the device that the client has proved to be, or uuid.Nil.
	DeviceID uuid.UUID
	// FirstAMR are the methods of the first factor, and Data is what the purpose needs for the check.
	FirstAMR []string
	Data     []byte

	counted counted
}

// TryChallenge counts an answer before it is looked at, so that none is free, and returns the challenge. It returns false
// if there is none to answer: it is unknown, spent or expired, was answered too often, or its account's sessions were ended.
func (f *Flow) TryChallenge(ctx context.Context, try Try) (Tried, bool, error) {
	now, hash := f.cfg.Now(), account.HashToken(try.Token)
	row, err := f.queries.TryChallenge(ctx, f.cfg.Pool, db.TryChallengeParams{
		TokenHash: hash, Purpose: try.Purpose, Most: try.Most, Now: now,
		IsCode: try.IsCode, KeepsAccount: try.KeepsAccount,
		MostWrong: failuresAllowed, Many: failuresInARow, MostTogether: failuresTogether, Ago: now.Add(-failureWindow), LongAgo: now.Add(-longWindow),
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Tried{}, false, nil
	}
	if err != nil {
		return Tried{}, false, fmt.Errorf("look the challenge up: %w", err)
	}
	return Tried{
		Hash: hash,
		Owner: account.Credential{
			User: account.FromRow(row.User), Position: row.Position, PasswordEpoch: row.PasswordEpoch, DevicesSince: row.DevicesSince,
		},
		DeviceID: row.DeviceID.UUID, FirstAMR: row.FirstAmr, Data: row.Data,
		counted: counted{failures: row.Failures, app: row.AppID, sealedSeed: row.SealedSeed, lastStep: row.LastStep},
	}, true, nil
}

// SpendChallenge spends a challenge in tx, and returns refused if it was spent, has expired or was ended.
func (f *Flow) SpendChallenge(ctx context.Context, tx pgx.Tx, purpose string, hash []byte, userID uuid.UUID, refused error) error {
	spent, err := f.queries.SpendChallenge(ctx, tx, db.SpendChallengeParams{
		TokenHash: hash, Purpose: purpose, UserID: uuid.NullUUID{UUID: userID, Valid: true}, Now: f.cfg.Now(),
	})
	if err != nil {
		return fmt.Errorf("spend the challenge: %w", err)
	}
	if spent == 0 {
		return refused
	}
	return nil
}
