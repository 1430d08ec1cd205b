package login

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/session"
)

// Tokens are the tokens that a client gets for a session.
type Tokens struct {
	Access string
	// Account is for methods of AUTH_CLASS_SESSION. It is "" without LATCHKEY_ACCOUNT_AUDIENCE.
	Account string
	Refresh string
	// SessionID is the id of the session.
	SessionID uuid.UUID
	// AccessExpireTime is when Access and Account expire, RefreshExpireTime when Refresh does.
	AccessExpireTime, RefreshExpireTime time.Time
}

// Holder is what tokens say of an account.
type Holder struct {
	// Email is in tokens that an older backend accepts too.
	Email string
	// Verified is true if the owner has proved the address.
	Verified bool
}

// HolderOf returns the holder of the tokens of an account.
func HolderOf(user account.User) Holder { return Holder{Email: user.Email, Verified: user.Verified} }

// Issue makes the access token that belongs to a refresh token. It depends only on the session, the holder and at, so
// the repeat of a refresh has the identical answer (with EdDSA, ES256 and RS256 as signed here, to the byte), unless the
// address was proved meanwhile.
func (f *Flow) Issue(ctx context.Context, sess session.Session, of Holder, at time.Time, refreshToken string) (Tokens, error) {
	if err := f.CheckClock(); err != nil {
		return Tokens{}, err
	}
	issued := at.Truncate(time.Second)
	expires := issued.Add(f.cfg.AccessTokenTTL)
	// IdleEnd is never after the absolute end.
	if end := sess.IdleEnd.Truncate(time.Second); end.Before(expires) {
		expires = end
	}
	if !expires.After(issued) {
		return Tokens{}, refusal.SessionEnded() // a session gets no more tokens in its last second
	}
	claims := accesstoken.Claims{
		UserID:     sess.UserID,
		SessionID:  sess.ID,
		Position:   sess.Position,
		ID:         accessTokenID(sess, issued, of.Verified, false),
		ClientID:   f.cfg.ClientID,
		AuthTime:   sess.AuthTime,
		IssuedAt:   issued,
		ExpireTime: expires,
		AMR:        sess.AMR,
		ACR:        accesstoken.ACROf(sess.AMR),
		// A refresh tells services about a proof within the life of an access token.
		EmailVerified: of.Verified,
	}
	tokens := Tokens{Refresh: refreshToken, SessionID: sess.ID, AccessExpireTime: expires, RefreshExpireTime: sess.IdleEnd}
	var err error
	if tokens.Access, err = f.cfg.Keyring.SignForBoth(ctx, claims, of.Email); err != nil {
		return Tokens{}, fmt.Errorf("sign the access token: %w", err)
	}
	if f.cfg.Keyring.SeparatesAccounts() {
		claims.ID = accessTokenID(sess, issued, of.Verified, true)
		if tokens.Account, err = f.cfg.Keyring.SignForAccount(ctx, claims); err != nil {
			return Tokens{}, fmt.Errorf("sign the account token: %w", err)
		}
	}
	return tokens, nil
}

// CheckClock returns an error if the clock of this replica is wrong. A token that is dated an hour ahead could outlive
// its revocation, because replicas drop a revocation once the tokens of its time have expired.
func (f *Flow) CheckClock() error {
	if f.cfg.ClockRight == nil || f.cfg.ClockRight() {
		return nil
	}
	return refusal.New(codes.Unavailable, latchkeyv1.ErrorReason_ERROR_REASON_CLOCK_WRONG,
		"the clock of this replica is wrong: try again", refusal.RetryInfo(time.Second))
}

// accessTokenID returns the jti. It differs for each generation, time of issue, authentication, proof of the address and
// purpose. It is the same if an answer is repeated.
func accessTokenID(sess session.Session, issued time.Time, verified, forAccount bool) string {
	text := make([]byte, 16+8+8+8, 16+8+8+8+2)
	copy(text, sess.ID[:])
	binary.BigEndian.PutUint64(text[16:], sess.Generation)
	binary.BigEndian.PutUint64(text[24:], uint64(issued.Unix())) //nolint:gosec // G115: any bits will do
	binary.BigEndian.PutUint64(text[32:], uint64(sess.AuthTime.UnixMilli()))
	if verified {
		text = append(text, 2)
	}
	if forAccount {
		text = append(text, 1)
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
