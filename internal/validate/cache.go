package validate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/maypok86/otter/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/signing"
)

// usualToken has room for Latchkey's access tokens, so that hashing one needs no copy on the heap: the claims have some
// 400 bytes in base64, an RSA-2048 signature 342. A longer token is copied to the heap.
const usualToken = 1024

// keysReloadTime is how long a change of the signing keys may delay the ledger.
const keysReloadTime = 2 * time.Second

// CacheConfig has the settings of a Cache. All fields are required, except Older.
type CacheConfig struct {
	// Pool is the database, Keyring checks tokens.
	Pool    *pgxpool.Pool
	Keyring *signing.Keyring
	// Entries is how many verified tokens, and how many accounts, are cached.
	Entries int
	// Older accepts tokens of older backends. Nil: none is accepted.
	Older  Older
	Logger *slog.Logger
}

// Cache has tokens whose signature was checked, and accounts, so that validations need no store. It never has a
// verdict: each validation compares the token with the ledger and the clock. An account is dropped when a row of the
// ledger names it. Cache implements ledger.Follower.
type Cache struct {
	cfg     CacheConfig
	queries *db.Queries
	tokens  *otter.Cache[[sha256.Size]byte, *verified]
	users   *otter.Cache[uuid.UUID, *owner]

	mu       sync.Mutex
	lastUser int64 // the newest row about any account
	resets   int   // number of resets: an account that was read before a reset is not cached after it
}

// verified is a token whose signature and form are right. It never changes.
type verified struct {
	claims  *accesstoken.Claims
	keyID   string
	session string
	expire  *timestamppb.Timestamp
	older   *OlderToken // nil if Latchkey issued the token
	// forAccount is true if the token is for methods of AUTH_CLASS_SESSION, and for no service: see Purpose.
	forAccount bool
}

// owner is the account of a token, as it was read. It never changes.
type owner struct {
	active  bool
	message *latchkeyv1.User
}

// NewCache returns an empty cache.
func NewCache(cfg CacheConfig) (*Cache, error) {
	tokens, err := otter.New(&otter.Options[[sha256.Size]byte, *verified]{MaximumSize: cfg.Entries})
	if err != nil {
		return nil, fmt.Errorf("cache of tokens: %w", err)
	}
	users, err := otter.New(&otter.Options[uuid.UUID, *owner]{MaximumSize: cfg.Entries})
	if err != nil {
		return nil, fmt.Errorf("cache of accounts: %w", err)
	}
	return &Cache{cfg: cfg, queries: db.New(), tokens: tokens, users: users}, nil
}

// Applied implements ledger.Follower.
func (c *Cache) Applied(row *latchkeyv1.Revocation) {
	switch row.GetKind() {
	case latchkeyv1.RevocationKind_REVOCATION_KIND_USER, latchkeyv1.RevocationKind_REVOCATION_KIND_USER_CHANGED:
		id, err := uuid.Parse(row.GetUserId())
		if err != nil {
			return // the ledger has no such row: the column is a uuid
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lastUser = row.GetPosition()
		c.users.Invalidate(id)
	case latchkeyv1.RevocationKind_REVOCATION_KIND_ALL:
		// TRUNCATE appends such a row too: the accounts may be gone.
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lastUser = row.GetPosition()
		c.users.InvalidateAll()
	case latchkeyv1.RevocationKind_REVOCATION_KIND_KEY, latchkeyv1.RevocationKind_REVOCATION_KIND_KEYS_CHANGED:
		c.reloadKeys()
	case latchkeyv1.RevocationKind_REVOCATION_KIND_SESSION, latchkeyv1.RevocationKind_REVOCATION_KIND_UNSPECIFIED:
	}
}

// Reset implements ledger.Follower.
func (c *Cache) Reset() {
	c.mu.Lock()
	c.users.InvalidateAll()
	c.lastUser = 0
	c.resets++
	c.mu.Unlock()
	c.reloadKeys()
}

// reloadKeys may fail: the ledger's row refuses tokens of a revoked key, and a token of a new key makes the keyring
// read the store again.
func (c *Cache) reloadKeys() {
	ctx, cancel := context.WithTimeout(context.Background(), keysReloadTime)
	defer cancel()
	if err := c.cfg.Keyring.Reload(ctx); err != nil {
		c.cfg.Logger.WarnContext(ctx, "signing keys not read again after a change", "error", err)
	}
}

// verify returns the claims of a token if its signature, form and times are right. The errors are those of
// signing.Keyring.
func (c *Cache) verify(ctx context.Context, now time.Time, accessToken string) (*verified, error) {
	var buffer [usualToken]byte
	sum := sha256.Sum256(append(buffer[:0], accessToken...))
	if known, ok := c.tokens.GetIfPresent(sum); ok && c.stillGood(known) {
		return known.inTime(now)
	}
	v, err := c.verifySigned(ctx, accessToken)
	if err != nil {
		return nil, err
	}
	c.tokens.Set(sum, v)
	return v.inTime(now)
}

// verifySigned checks the signature of a token that is not cached. A token of Latchkey names its key and a token of an
// older backend does not, so neither is taken for the other.
func (c *Cache) verifySigned(ctx context.Context, accessToken string) (*verified, error) {
	found, err := c.cfg.Keyring.VerifyAny(ctx, accessToken)
	if errors.Is(err, accesstoken.ErrInvalid) && c.cfg.Older != nil {
		return c.verifyOlder(ctx, accessToken)
	}
	if err != nil {
		return nil, err
	}
	return &verified{
		claims: found.Claims, keyID: found.KeyID, forAccount: found.ForAccount,
		session: found.SessionID.String(), expire: timestamppb.New(found.ExpireTime),
	}, nil
}

// owner returns the account as it is now. If it is cached, no row of the ledger has changed it since. It returns nil if
// there is no such account.
func (c *Cache) owner(ctx context.Context, id uuid.UUID) (*owner, error) {
	if known, ok := c.users.GetIfPresent(id); ok {
		return known, nil
	}
	c.mu.Lock()
	resets := c.resets
	c.mu.Unlock()
	found, err := c.queries.FindUserAt(ctx, c.cfg.Pool, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil // the account does not exist
	}
	if err != nil {
		return nil, fmt.Errorf("look the account up: %w", err)
	}
	read := newOwner(found.User)
	c.mu.Lock()
	defer c.mu.Unlock()
	// A row about an account came while this account was read. It may be about this one, so do not cache it. Rows about
	// accounts are rare.
	if found.Position >= c.lastUser && resets == c.resets {
		c.users.Set(id, read)
	}
	return read, nil
}

func newOwner(row db.User) *owner {
	user := account.FromRow(row)
	return &owner{active: user.Active, message: user.Message()}
}
