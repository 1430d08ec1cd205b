package backend

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/legacy"
	"github.com/latchkey-auth/latchkey/internal/signing"
	"github.com/latchkey-auth/latchkey/internal/validate"
)

// Access returns the hook for access tokens of an older backend.
func (l *Left) Access(pool *pgxpool.Pool, keyring *signing.Keyring) validate.Older {
	return &access{Left: l, pool: pool, keyring: keyring}
}

// access implements Access.
type access struct {
	*Left
	pool    *pgxpool.Pool
	keyring *signing.Keyring
}

// Verify implements validate.Older. The session of a token is made of its own hash, so that a revocation that names the
// session refuses it. Its position follows from the time at which it was issued (positionOf): a revocation of its account
// refuses it unless the token is surely later.
//
// Validations ask no store, so the stores are asked once for each token, here: what is
// an access token stays one. The backend that makes both look the same writes a
// refresh token to Redis before it hands it out.
func (l *access) Verify(ctx context.Context, accessToken string) (*validate.OlderToken, error) {
	found, err := l.Tokens.Verify(accessToken)
	switch {
	case errors.Is(err, legacy.ErrExpired):
		return nil, accesstoken.ErrExpired
	case err != nil:
		return nil, fmt.Errorf("%w: %w", accesstoken.ErrInvalid, err)
	}
	refresh, err := l.isRefreshToken(ctx, found)
	if err != nil {
		return nil, err
	}
	position, err := positionOf(ctx, l.pool, found)
	if err != nil {
		return nil, err
	}
	old := &validate.OlderToken{Refresh: refresh, Issued: found.IssuedAt, Claims: &accesstoken.Claims{
		UserID: found.UserID, SessionID: found.SessionID(), ID: found.ID, Position: position,
		AuthTime: found.IssuedAt, // there was no refresh: each was issued by a login
		IssuedAt: found.IssuedAt, ExpireTime: found.ExpireTime,
	}}
	if found.Backend == legacy.Go {
		old.KeyID = l.keyring.OlderKeyID()
	}
	return old, nil
}

// isRefreshToken says whether a token is one that only a trade takes. Those of the
// Rust backend look like its access tokens: Redis knows them, or PostgreSQL those that
// were traded, and who cannot ask must not accept.
func (l *access) isRefreshToken(ctx context.Context, found *legacy.Token) (bool, error) {
	if found.NeverAccess() || found.Backend == legacy.Go {
		return found.NeverAccess(), nil
	}
	kept, err := l.Store.IsRefresh(ctx, found)
	if err != nil || kept {
		return kept, err
	}
	spent, err := db.New().LegacySpent(ctx, l.pool, found.Hash[:])
	if err != nil {
		return false, fmt.Errorf("ask whether a token was traded: %w", err)
	}
	return spent, nil
}
