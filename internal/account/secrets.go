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

// nonceSize is 128 bits, so that no two tokens of an account are the same.
const nonceSize = 16

// errSecret means that a token is not good: it is unknown, spent or expired, it was made for another purpose or another
// asker, or the account's sessions were ended. The caller answers with the refusal of its own method.
var errSecret = errors.New("account: a one-time secret that is not good")

// purpose says what a one-time secret may be used for.
type purpose struct {
	// name is stored. Do not change it.
	name string
	// label makes the tokens of two purposes differ even if their nonces are equal. A mail that is sent again must have
	// the same token, so do not change it.
	label string
}

// passwordReset is the purpose of the secret with which the owner of an account sets a new password.
func passwordReset() purpose {
	return purpose{name: "password_reset", label: "latchkey reset token\x00"}
}

// secrets has the one-time secrets of one purpose, in the table one_time_secrets. A secret is found and spent only for
// its purpose. Only one caller on all replicas can spend it. It has the ledger's position at which somebody asked for
// it, so it ends when the account's sessions are ended.
type secrets struct {
	purpose purpose
	// ttl is the life of a secret, counted from its newest mail. Counted from the first mail it is at most twice that.
	ttl time.Duration
	// key makes the tokens, together with the stored nonce. It has 32 bytes, which the database does not have, and is
	// the same on all replicas. Only issue needs it.
	key []byte
	now func() time.Time
}

// owner is the account of a secret, what it proves, and who may use it.
type owner struct {
	userID uuid.UUID
	// address is the lookup form of the address that the secret proves. If it is empty, the secret has no digits, and
	// proves the address of the account.
	address string
	// asker is a hash of who asked for the secret: only they may use it. If it is empty, everybody who has the secret
	// may use it. An account has one secret for each asker, so that another asker does not end it.
	asker []byte
}

// nobody is the asker of a secret that everybody who has it may use. It is not nil, because nil would be NULL.
func nobody() []byte { return []byte{} }

// issue returns the token of the owner's live secret. Lock the account first, and check that position is not ended.
//
// As long as a secret lives, issue returns the same token. So a mail that is sent again, or that somebody else asks
// for, does not end a link that the owner already has. This works because the token is derived from the stored nonce,
// under a key that is not stored. Each call gives the secret another ttl, until the secret is one ttl old. After that,
// issue makes a new secret.
func (s secrets) issue(ctx context.Context, tx pgx.Tx, o owner, position int64) (token string, err error) {
	queries, now := db.New(), s.now()
	live, err := queries.FindLiveSecret(ctx, tx, db.FindLiveSecretParams{
		UserID: o.userID, Purpose: s.purpose.name, Asker: o.asker, Address: o.address, MadeAfter: now.Add(-s.ttl), Now: now,
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return "", fmt.Errorf("look for a live secret: %w", err)
	}
	if err == nil {
		// A token that was made under another secret key, or by an earlier version, cannot be derived again.
		if token := s.derive(o.userID, live.Nonce); subtle.ConstantTimeCompare(HashToken(token), live.TokenHash) == 1 {
			return token, queries.ProlongSecret(ctx, tx, db.ProlongSecretParams{
				UserID: o.userID, Purpose: s.purpose.name, Asker: o.asker, ExpiresAt: now.Add(s.ttl),
			})
		}
	}
	nonce := newNonce()
	token = s.derive(o.userID, nonce)
	return token, queries.ReplaceSecret(ctx, tx, db.ReplaceSecretParams{
		UserID: o.userID, Purpose: s.purpose.name, Asker: o.asker, Address: o.address,
		TokenHash: HashToken(token), Nonce: nonce, Position: position, CreatedAt: now, ExpiresAt: now.Add(s.ttl),
	})
}

func newNonce() []byte {
	nonce := make([]byte, nonceSize)
	_, _ = rand.Read(nonce) // never fails (crypto/rand, since Go 1.24)
	return nonce
}

// find returns the account of a token and does not spend it. It returns errSecret if the token is not good.
func (s secrets) find(ctx context.Context, on db.DBTX, asker []byte, token string) (User, error) {
	found, err := s.row(ctx, on, asker, token)
	if err != nil {
		return User{}, err
	}
	return FromRow(found.User), nil
}

// findOwner is find for a secret that everybody who has it may use. It returns what the secret proves, too.
func (s secrets) findOwner(ctx context.Context, on db.DBTX, token string) (owner, error) {
	found, err := s.row(ctx, on, nobody(), token)
	return owner{userID: found.User.ID, address: found.Address, asker: nobody()}, err
}

func (s secrets) row(ctx context.Context, on db.DBTX, asker []byte, token string) (db.FindSecretRow, error) {
	found, err := db.New().FindSecret(ctx, on, db.FindSecretParams{
		Purpose: s.purpose.name, Asker: asker, TokenHash: HashToken(token), Now: s.now(),
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return found, errSecret
	}
	if err != nil {
		return found, fmt.Errorf("look the secret up: %w", err)
	}
	return found, nil
}

// spend spends a token as part of tx. If several callers try, one succeeds and the others get errSecret. Lock the
// account first.
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
	return base64.RawURLEncoding.EncodeToString(s.mac(s.purpose.label, userID, nonce))
}

// mac returns the HMAC of a text of an account. The labels part its uses.
func (s secrets) mac(label string, userID uuid.UUID, text []byte) []byte {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte(label))
	mac.Write(userID[:])
	mac.Write(text)
	return mac.Sum(nil)
}

// HashToken returns the hash that is stored for a random token: its SHA-256.
func HashToken(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}
