package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
)

// nonceSize is 128 bits: no two tokens of an account are alike.
const nonceSize = 16

// errSecret means that a token is not good for the purpose: it is unknown, of another purpose or another asker, spent
// or expired, or it ended with the account's sessions. The caller says so in the words of its method.
var errSecret = errors.New("account: a one-time secret that is not good")

// purpose is what a one-time secret is good for.
type purpose struct {
	// name is stored: rename none.
	name string
	// label parts the tokens of purposes whose nonces are equal. Mails that are sent again hold the token of the label
	// that made it: rename none.
	label string
}

// passwordReset is the purpose of the secret with which the owner of an account sets a new password.
func passwordReset() purpose {
	return purpose{name: "password_reset", label: "latchkey reset token\x00"}
}

// secrets are the one-time secrets of one purpose, in table one_time_secrets. A secret is found and spent by its
// purpose only. It is spent by one caller, over all replicas, and ends with whatever ends the account's sessions: each
// carries the ledger's position at which it was asked for.
type secrets struct {
	purpose purpose
	// ttl is how long a secret can be used, counted from its newest mail: twice that at most, from the first.
	ttl time.Duration
	// key makes the tokens, with what is stored: 32 bytes that the database does not have, the same on all replicas.
	// Only issue needs it.
	key []byte
	now func() time.Time
}

// owner is whose secret it is.
type owner struct {
	userID uuid.UUID
	// asker is a hash of who asked for the secret and alone may use it; empty: whoever has the secret. An account has
	// one secret for each asker, so that others who ask end none.
	asker []byte
}

// nobody is the asker of a secret that whoever has it may use. It is not nil, which would be NULL.
func nobody() []byte { return []byte{} }

// issue returns the token of the owner's live secret. Lock the account first, and check that position is not ended.
//
// While a secret lives the same token is returned, so that a mail that is sent again, or that somebody else asks for,
// ends no link that the owner has in hand: it is derived from what is stored, under a key that is not. The secret lives
// for another ttl then, until it was made a ttl ago; then the next one is a new one.
func (s secrets) issue(ctx context.Context, tx pgx.Tx, o owner, position int64) (token string, err error) {
	queries, now := db.New(), s.now()
	live, err := queries.FindLiveSecret(ctx, tx, db.FindLiveSecretParams{
		UserID: o.userID, Purpose: s.purpose.name, Asker: o.asker, MadeAfter: now.Add(-s.ttl), Now: now,
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("look for a live secret: %w", err)
	}
	if err == nil {
		// A token of another secret key, or of an earlier version, cannot be made again.
		if token := s.derive(o.userID, live.Nonce); subtle.ConstantTimeCompare(HashToken(token), live.TokenHash) == 1 {
			return token, queries.ProlongSecret(ctx, tx, db.ProlongSecretParams{
				UserID: o.userID, Purpose: s.purpose.name, Asker: o.asker, ExpiresAt: now.Add(s.ttl),
			})
		}
	}
	var nonce [nonceSize]byte
	_, _ = rand.Read(nonce[:]) // never fails (crypto/rand, since Go 1.24)
	token = s.derive(o.userID, nonce[:])
	return token, queries.ReplaceSecret(ctx, tx, db.ReplaceSecretParams{
		UserID: o.userID, Purpose: s.purpose.name, Asker: o.asker,
		TokenHash: HashToken(token), Nonce: nonce[:], Position: position, CreatedAt: now, ExpiresAt: now.Add(s.ttl),
	})
}

// find returns the account of a token, without spending it. The error is errSecret when the token is not good.
func (s secrets) find(ctx context.Context, on db.DBTX, asker []byte, token string) (User, error) {
	found, err := db.New().FindSecret(ctx, on, db.FindSecretParams{
		Purpose: s.purpose.name, Asker: asker, TokenHash: HashToken(token), Now: s.now(),
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return User{}, errSecret
	}
	if err != nil {
		return User{}, fmt.Errorf("look the secret up: %w", err)
	}
	return FromRow(found.User), nil
}

// spend spends a token as a part of tx, for one of any number of callers: the others get errSecret. Lock the account
// first.
func (s secrets) spend(ctx context.Context, tx pgx.Tx, o owner, token string) error {
	spent, err := db.New().SpendSecret(ctx, tx, db.SpendSecretParams{
		Purpose: s.purpose.name, Asker: o.asker, TokenHash: HashToken(token), UserID: o.userID, Now: s.now(),
	})
	if err != nil {
		return fmt.Errorf("spend the secret: %w", err)
	}
	if spent == 0 {
		return errSecret
	}
	return nil
}

func (s secrets) derive(userID uuid.UUID, nonce []byte) string {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(s.purpose.label))
	mac.Write(userID[:])
	mac.Write(nonce)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// HashToken returns what is stored of a token that is random: its SHA-256.
func HashToken(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}
