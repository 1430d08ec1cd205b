package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-auth/latchkey/internal/legacy"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/token"
)

// forgottenMargin is for the clock of the backend that issued a token: "iat" is held
// against a time of PostgreSQL's.
const forgottenMargin = 2 * time.Minute

// legacyToken is what only a token of an existing backend has.
type legacyToken struct {
	// refresh: it is a refresh token, and will always be one.
	refresh bool
	// issued is "iat", the zero time when the token does not say.
	issued time.Time
}

// verifyLegacy returns what a token of an existing backend says. Its session is made
// of its own hash and its position is 0, so that every revocation of its account, and
// one that names the session, refuses it.
//
// Validations ask no store, so the stores are asked once for each token, here: what is
// an access token stays one. The backend that makes both look the same writes a
// refresh token to Redis before it hands it out.
func (m *Memory) verifyLegacy(ctx context.Context, accessToken string) (*verified, error) {
	found, err := m.cfg.Legacy.Tokens.Verify(accessToken)
	switch {
	case errors.Is(err, legacy.ErrExpired):
		return nil, token.ErrExpired
	case err != nil:
		return nil, fmt.Errorf("%w: %w", token.ErrInvalid, err)
	}
	refresh, err := m.isRefreshToken(ctx, found)
	if err != nil {
		return nil, err
	}
	claims := &token.Claims{
		UserID: found.UserID, SessionID: found.SessionID(), ID: found.ID,
		AuthTime: found.IssuedAt, // there was no refresh: each was issued by a login
		IssuedAt: found.IssuedAt, ExpireTime: found.ExpireTime,
	}
	v := &verified{
		claims: claims, session: claims.SessionID.String(), expire: timestamppb.New(claims.ExpireTime),
		legacy: &legacyToken{refresh: refresh, issued: found.IssuedAt},
	}
	if found.Backend == legacy.Go {
		v.keyID = m.cfg.Keyring.FormerKeyID()
	}
	return v, nil
}

// isRefreshToken says whether a token is one that only a trade takes. Those of the
// Rust backend look like its access tokens: Redis knows them, or PostgreSQL those that
// were traded, and who cannot ask must not accept.
func (m *Memory) isRefreshToken(ctx context.Context, found *legacy.Token) (bool, error) {
	if found.NeverAccess() || found.Backend == legacy.Go {
		return found.NeverAccess(), nil
	}
	kept, err := m.cfg.Legacy.Store.IsRefresh(ctx, found)
	if err != nil || kept {
		return kept, err
	}
	spent, err := m.queries.LegacySpent(ctx, m.cfg.Pool, found.Hash[:])
	if err != nil {
		return false, fmt.Errorf("ask whether a token was traded: %w", err)
	}
	return spent, nil
}

// stillGood is what of a token that was verified may have changed since.
func (m *Memory) stillGood(v *verified) bool {
	return v.legacy != nil || m.cfg.Keyring.Has(v.keyID)
}

// inTime checks a token against the clock. Of one of an existing backend the time of
// its expiry is no later than the end of all acceptance.
func (v *verified) inTime(now time.Time) (*verified, error) {
	if !now.Before(v.claims.ExpireTime) {
		return nil, token.ErrExpired
	}
	if v.legacy != nil && v.legacy.refresh {
		return nil, fmt.Errorf("%w: a refresh token", token.ErrInvalid)
	}
	return v, nil
}

// forgotten says whether the ledger may have lost what refuses the token.
func (s *Server) forgotten(v *verified) (bool, error) {
	if v.legacy == nil {
		return false, nil
	}
	return s.forgottenSince(v.legacy.issued)
}

// forgottenSince says whether the ledger may have lost what refuses a token of an
// existing backend that was issued then: it may be older than the oldest row.
func (s *Server) forgottenSince(issued time.Time) (bool, error) {
	until, known := s.cfg.Ledger.Forgotten()
	if !known {
		return false, refusal.NotUpToDate()
	}
	return !until.IsZero() && !issued.After(until.Add(forgottenMargin)), nil
}
