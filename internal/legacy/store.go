package legacy

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// ErrUnavailable reports that Redis did not answer. Whoever cannot ask must refuse.
var ErrUnavailable = errors.New("legacy: Redis is unavailable")

// Store reads what the existing backends left in Redis. It changes nothing that they
// still need: what was spent is remembered in PostgreSQL.
type Store struct{ redis redis.UniversalClient }

// NewStore uses the Redis that the existing backends used.
func NewStore(client redis.UniversalClient) *Store { return &Store{client} }

// IsRefresh says whether the token is a refresh token that its backend keeps: under
// refresh_token:{jti} with the user's id for the Go backend, under
// refresh_token:{user id} with the very token for the Rust one, whose other tokens
// look the same.
func (s *Store) IsRefresh(ctx context.Context, t *Token) (bool, error) {
	name, want := t.UserID.String(), t.text
	if t.Backend == Go {
		name, want = t.ID, t.UserID.String()
	}
	kept, err := s.redis.Get(ctx, "refresh_token:"+name).Result()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("%w: read a refresh token: %w", ErrUnavailable, err)
	}
	return subtle.ConstantTimeCompare([]byte(kept), []byte(want)) == 1, nil
}
