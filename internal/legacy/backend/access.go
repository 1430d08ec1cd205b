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

// Verify implements validate.Older. The session's id is computed from the token's own hash, so that a revocation that
// names the session refuses the token. The position follows from the time at which the token was issued (positionOf): a
// revocation of the account refuses it unless the token is surely later.
//
// Validations use no store, so the stores are asked here, once for each token: an access token never becomes another
// kind. The Rust backend, whose two kinds look the same, writes a refresh token to Redis before it gives it to a
// client.
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
		AuthTime: found.IssuedAt, // there was no refresh: a login issued each of them
		IssuedAt: found.IssuedAt, ExpireTime: found.ExpireTime,
	}}
	if found.Backend == legacy.Go {
		old.KeyID = l.keyring.OlderKeyID()
	}
	return old, nil
}

// isRefreshToken reports whether a token is a refresh token, which only a trade accepts. The Rust backend's refresh
// tokens look like its access tokens: Redis knows them, or PostgreSQL if they were traded. If a store cannot answer,
// the token must not be accepted.
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
