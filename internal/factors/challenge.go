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

// KeepChallenge stores a challenge of a session. It sets the time at which the row is made, and limits the challenges of an
// account. It returns false if the account is gone: then there is no challenge.
func (f *Flow) KeepChallenge(ctx context.Context, on db.DBTX, challenge db.CreateChallengeParams) (bool, error) {
	now := f.cfg.Now()
	challenge.CreatedAt, challenge.Most = now, challengesOpen
	row, err := f.queries.CreateChallenge(ctx, on, challenge)
	if err != nil {
		return false, fmt.Errorf("keep the challenge: %w", err)
	}
	if row.Present && !row.Created {
		return false, &ratelimit.LimitedError{RetryAfter: max(row.FreeAt.Sub(now), time.Second)}
	}
	return row.Present, nil
}

// Tried is a challenge of which an answer was counted.
type Tried struct {
	// Hash is that of the token.
	Hash []byte
	User account.User
	// Position is the ledger's position that the challenge carries.
	Position int64
	// Data is what the purpose needs for the check.
	Data []byte
}

// TryChallenge counts an answer before it is looked at, so that none is free, and returns the challenge. It returns false
// if there is none to answer: it is unknown, spent or expired, was answered most times, or its account's sessions were
// ended.
func (f *Flow) TryChallenge(ctx context.Context, token, purpose string, most int32) (Tried, bool, error) {
	hash := account.HashToken(token)
	row, err := f.queries.TryChallenge(ctx, f.cfg.Pool, db.TryChallengeParams{TokenHash: hash, Purpose: purpose, Most: most, Now: f.cfg.Now()})
	if errors.Is(err, pgx.ErrNoRows) {
		return Tried{}, false, nil
	}
	if err != nil {
		return Tried{}, false, fmt.Errorf("look the challenge up: %w", err)
	}
	return Tried{Hash: hash, User: account.FromRow(row.User), Position: row.Position, Data: row.Data}, true, nil
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

// sealToken returns the token of a challenge that is not stored. openToken opens it for the same place.
func (f *Flow) sealToken(place string, plain []byte) string {
	return base64.RawURLEncoding.EncodeToString(f.cfg.Sealer.Seal(place, plain))
}

func (f *Flow) openToken(place, token string) (plain []byte, ok bool) {
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return nil, false
	}
	plain, _, err = f.cfg.Sealer.Open(place, sealed)
	return plain, err == nil
}

// spentFor is how much longer the row of a spent challenge stays. By then its token is refused on replicas whose clocks
// differ.
const spentFor = time.Hour

// spendOnce notes that a challenge which is in its token is spent. ExpiresAt is when the token expires.
func (f *Flow) spendOnce(ctx context.Context, tx pgx.Tx, challenge db.SpendOnceParams) (db.SpendOnceRow, error) {
	challenge.CreatedAt, challenge.ExpiresAt = f.cfg.Now(), challenge.ExpiresAt.Add(spentFor)
	done, err := f.queries.SpendOnce(ctx, tx, challenge)
	if err != nil {
		return done, fmt.Errorf("spend the challenge: %w", err)
	}
	return done, nil
}
