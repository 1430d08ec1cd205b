package server

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/session"
	"github.com/latchkey-auth/latchkey/internal/token"
	"github.com/latchkey-auth/latchkey/internal/validate"
)

// issue makes the access token that goes with a refresh token. It is a function of
// the session and of at, so that the repeat of a refresh has the identical answer
// (with EdDSA, ES256 and RS256 as signed here, to the byte). The address is the
// account's: it is in tokens that an existing backend accepts too.
func (s *Server) issue(ctx context.Context, sess session.Session, email string, at time.Time, refreshToken string) (*latchkeyv1.Tokens, error) {
	if err := s.checkClock(); err != nil {
		return nil, err
	}
	issued := at.Truncate(time.Second)
	expires := issued.Add(s.cfg.AccessTokenTTL)
	// IdleEnd is never after the absolute end.
	if end := sess.IdleEnd.Truncate(time.Second); end.Before(expires) {
		expires = end
	}
	if !expires.After(issued) {
		return nil, refusal.SessionEnded() // in its last second a session gets no more tokens
	}
	claims := token.Claims{
		UserID:     sess.UserID,
		SessionID:  sess.ID,
		Ledger:     sess.Ledger,
		ID:         accessTokenID(sess, issued, validate.ForServices),
		ClientID:   s.cfg.ClientID,
		AuthTime:   sess.AuthTime,
		IssuedAt:   issued,
		ExpireTime: expires,
		AMR:        sess.AMR,
	}
	access, err := s.cfg.Keyring.SignForBoth(ctx, claims, email)
	if err != nil {
		return nil, fmt.Errorf("sign the access token: %w", err)
	}
	var account string
	if s.cfg.Keyring.SeparatesAccounts() {
		claims.ID = accessTokenID(sess, issued, validate.ForAccount)
		if account, err = s.cfg.Keyring.SignForAccount(ctx, claims); err != nil {
			return nil, fmt.Errorf("sign the account token: %w", err)
		}
	}
	return &latchkeyv1.Tokens{
		AccessToken:       access,
		AccountToken:      account,
		RefreshToken:      refreshToken,
		SessionId:         sess.ID.String(),
		AccessExpireTime:  timestamppb.New(expires),
		RefreshExpireTime: timestamppb.New(sess.IdleEnd),
	}, nil
}

// checkClock returns an error if this replica's clock is wrong: a token dated an hour ahead would outlive the
// revocation that should refuse it, since replicas drop a revocation once the tokens of its time have expired.
func (s *Server) checkClock() error {
	if s.cfg.ClockRight == nil || s.cfg.ClockRight() {
		return nil
	}
	return refusal.New(codes.Unavailable, latchkeyv1.ErrorReason_ERROR_REASON_CLOCK_WRONG,
		"the clock of this replica is wrong: try again", refusal.RetryInfo(time.Second))
}

// accessTokenID is the jti: different for every generation, time of issue and purpose,
// the same for the repeat of an answer.
func accessTokenID(sess session.Session, issued time.Time, p validate.Purpose) string {
	text := make([]byte, 16+8+8, 16+8+8+1)
	copy(text, sess.ID[:])
	binary.BigEndian.PutUint64(text[16:], sess.Generation)
	binary.BigEndian.PutUint64(text[24:], uint64(issued.Unix())) //nolint:gosec // G115: any bits will do
	if p == validate.ForAccount {
		text = append(text, 1)
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}
