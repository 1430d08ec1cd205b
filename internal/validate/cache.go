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

// usualToken has room for an access token of ours, so that hashing one needs no copy
// on the heap: the claims have some 400 bytes in base64, an RSA-2048 signature 342. A
// longer one is copied there.
const usualToken = 1024

// keysReloadTime bounds how long a change of the signing keys holds up the ledger.
const keysReloadTime = 2 * time.Second

// CacheConfig says what a Cache works with. All fields are required but Older.
type CacheConfig struct {
	// Pool is the database, Keyring checks tokens.
	Pool    *pgxpool.Pool
	Keyring *signing.Keyring
	// Entries bounds the verified tokens and the accounts that are held, each.
	Entries int
	// Older has tokens of older backends accepted. Nil: none is.
	Older  Older
	Logger *slog.Logger
}

// Cache is what validations are answered from: tokens whose signature was checked,
// and accounts. Neither is a verdict: a token is looked up in the ledger and checked
// against the clock each time, and an account is kept until the ledger names it. It
// implements ledger.Follower.
type Cache struct {
	cfg     CacheConfig
	queries *db.Queries
	tokens  *otter.Cache[[sha256.Size]byte, *verified]
	users   *otter.Cache[uuid.UUID, *owner]

	mu       sync.Mutex
	lastUser int64 // the newest row about any account
	resets   int   // histories that were given up: what was read of one is not kept in the next
}

// verified is a token whose signature and form were right. It is not changed.
type verified struct {
	claims  *accesstoken.Claims
	keyID   string
	session string
	expire  *timestamppb.Timestamp
	older   *OlderToken // nil: the token is ours
	// forAccount: it is for methods of AUTH_CLASS_SESSION and for no service, see Purpose.
	forAccount bool
}

// owner is the account of a token as it was read. It is not changed.
type owner struct {
	active  bool
	message *latchkeyv1.User
}

// NewCache makes an empty one.
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
		// Also what TRUNCATE appends: the accounts may be gone.
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

// reloadKeys may fail: tokens of a revoked key are refused by the ledger's row, and
// those of a new key make the keyring ask again.
func (c *Cache) reloadKeys() {
	ctx, cancel := context.WithTimeout(context.Background(), keysReloadTime)
	defer cancel()
	if err := c.cfg.Keyring.Reload(ctx); err != nil {
		c.cfg.Logger.WarnContext(ctx, "signing keys not read again after a change", "error", err)
	}
}

// verify returns what the token says, once its signature, form and time are right. The
// errors are those of signing.Keyring.
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

// verifySigned checks the signature of a token that is not known. One of ours names its
// key and one of an older backend does not, so that none is ever taken for the other.
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

// owner returns the account as it is now or, when memory has it, as no row of the
// ledger has changed it. It is nil when there is no such account.
func (c *Cache) owner(ctx context.Context, id uuid.UUID) (*owner, error) {
	if known, ok := c.users.GetIfPresent(id); ok {
		return known, nil
	}
	c.mu.Lock()
	resets := c.resets
	c.mu.Unlock()
	found, err := c.queries.FindUserAt(ctx, c.cfg.Pool, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil // no such account is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("look the account up: %w", err)
	}
	read := newOwner(found.User)
	c.mu.Lock()
	defer c.mu.Unlock()
	// A row about some account came while this one was read, perhaps about this one:
	// it is not kept. Rows about accounts are rare.
	if found.Position >= c.lastUser && resets == c.resets {
		c.users.Set(id, read)
	}
	return read, nil
}

func newOwner(row db.User) *owner {
	user := account.FromRow(row)
	return &owner{active: user.Active, message: user.Message()}
}
