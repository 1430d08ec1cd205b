// Package signing has the signing keys, and signs and verifies access tokens with them. The keys are stored
// sealed, and their public halves are published as a JWK set. internal/accesstoken, which authverify imports
// too, defines what a token says and which rules it must meet.
package signing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/reload"
)

// ErrUnavailable means that the keys could not be loaded, so that this process can neither sign nor decide
// whether a token is genuine. A later call may succeed.
var ErrUnavailable = errors.New("signing keys are unavailable")

const (
	// reloadInterval is the shortest time between two reads of the store for tokens with unknown key ids:
	// anybody can send such tokens.
	reloadInterval = time.Second
	// reloadTimeout bounds a read for which several callers wait, so that no caller's own deadline ends it.
	reloadTimeout = 5 * time.Second
)

// KeyStore keeps signing keys. All replicas share one.
type KeyStore interface {
	// SigningKeys returns all keys of all states, in any order.
	SigningKeys(ctx context.Context) ([]StoredKey, error)
	// ChangeSigningKeys calls change with all keys, and stores the result as a whole. Calls run one after the
	// other: change sees what the call before has stored. If change returns an error, ChangeSigningKeys stores
	// nothing and returns that error. All replicas are notified of the change. A replica that has followed the
	// ledger to the returned position knows of the change, or, if nothing was changed, of all changes before.
	ChangeSigningKeys(ctx context.Context, change func(keys []StoredKey) (KeyUpdate, error)) (position int64, err error)
	// ResealSigningKey replaces the sealed bytes of the key if they still equal old. Otherwise another replica
	// was faster: it changes nothing and returns nil.
	ResealSigningKey(ctx context.Context, id string, old, sealed []byte) error
}

// Config has the settings of a Keyring. All fields are required, except AccountAudience, Type, Algorithm and
// Older.
type Config struct {
	// Issuer is "iss", compared exactly.
	Issuer string
	// Audience is "aud" of the tokens that Sign makes. A token is accepted if it is one of the token's
	// audiences.
	Audience string
	// AccountAudience is "aud" of the tokens that SignForAccount makes: account tokens, which only this service
	// accepts. Empty: there are no such tokens. It must differ from Audience.
	AccountAudience string
	// ClientID is "client_id" of tokens whose Claims have none.
	ClientID string
	// Type is "typ" of new tokens: at+jwt, or JWT for verifiers that do not know RFC 9068. Both are accepted.
	// Empty: at+jwt.
	Type string
	// Algorithm is the algorithm of new keys. If the store's active key has another algorithm, Open makes a
	// pending key. Rotator.Tend makes it active after PublishAhead, and the old key continues to verify. Empty:
	// the algorithm of the keys in the store, or DefaultAlgorithm if there is none.
	Algorithm accesstoken.Algorithm
	// Older is the key of an older backend. Optional.
	Older *OlderKey
	// Store holds the keys.
	Store KeyStore
	// SealKeys are secrets of 32 bytes that have no other use: the current one first, then the previous ones.
	// Open seals the keys of previous ones again under the current one.
	SealKeys [][]byte
	// MaxTTL is the longest life (exp - iat) of a token that is signed or accepted. At least 1 s; fractions of a
	// second are dropped.
	MaxTTL time.Duration
	// Now is the clock.
	Now func() time.Time
}

// Keyring signs and verifies. It is safe for concurrent use. Verify takes no lock if the key is known.
type Keyring struct {
	store    KeyStore
	sealer   *sealer
	rules    accesstoken.Rules
	account  *accesstoken.Rules // nil: there are no account tokens
	clientID string
	typ      string
	now      func() time.Time
	older    *older
	keys     atomic.Pointer[keySet]
	loading  chan struct{} // holds one value during a read of the store, so that an old result never replaces a newer one
	unknown  reload.Gate   // the reads for tokens with unknown key ids
}

// Open loads the keys, and seals those of a previous seal key again under the current one. If no key is
// active, it makes one. If the active key has another algorithm than Config.Algorithm, it makes a pending
// one. It returns ErrSealed with the id of the key if a key that is in use cannot be opened, and
// ErrUnavailable if the store fails.
func Open(ctx context.Context, config Config) (*Keyring, error) {
	k, err := newKeyring(config)
	if err != nil {
		return nil, err
	}
	if err := k.Reload(ctx); err != nil {
		return nil, err
	}
	if err := k.reseal(ctx); err != nil {
		return nil, err
	}
	changer := keyChanger{store: k.store, sealer: k.sealer, now: k.now}
	rehearsal := newKeyTable(k.keys.Load().rows, k.now(), changer.opens)
	if err := rehearsal.start(config.Algorithm); err == nil && len(rehearsal.update().Keys) == 0 {
		return k, nil
	}
	if _, err := changer.apply(ctx, func(t *keyTable) error { return t.start(config.Algorithm) }); err != nil {
		return nil, err
	}
	// Another replica may have been faster, so use the key that is active now.
	if err := k.Reload(ctx); err != nil {
		return nil, err
	}
	if k.keys.Load().active == nil {
		return nil, fmt.Errorf("%w: the store has no active key after one was made", ErrUnavailable)
	}
	return k, nil
}

// newKeyring checks config and returns a keyring without keys.
func newKeyring(config Config) (*Keyring, error) {
	for _, need := range []struct {
		field string
		given bool
	}{
		{"Issuer", config.Issuer != ""},
		{"Audience", config.Audience != ""},
		{"ClientID", config.ClientID != ""},
		{"Store", config.Store != nil},
		{"Now", config.Now != nil},
	} {
		if !need.given {
			return nil, fmt.Errorf("signing: Config.%s is needed", need.field)
		}
	}
	if config.MaxTTL < time.Second {
		return nil, errors.New("signing: Config.MaxTTL needs 1s or more")
	}
	if err := checkAlgorithm(config.Algorithm); err != nil {
		return nil, err
	}
	sealer, err := newSealer(config.SealKeys)
	if err != nil {
		return nil, err
	}
	rules := accesstoken.Rules{Issuer: config.Issuer, Audience: config.Audience, MaxTTL: config.MaxTTL}
	var account *accesstoken.Rules
	if config.AccountAudience != "" {
		if config.AccountAudience == config.Audience {
			return nil, errors.New("signing: Config.AccountAudience is the Audience: every service's tokens would be for accounts")
		}
		account = &accesstoken.Rules{Issuer: config.Issuer, Audience: config.AccountAudience, MaxTTL: config.MaxTTL}
	}
	typ := config.Type
	if typ == "" {
		typ = accesstoken.TokenType
	}
	if typ != accesstoken.TokenType && typ != accesstoken.TokenTypeJWT {
		return nil, fmt.Errorf("signing: Config.Type %q: use %s or %s", typ, accesstoken.TokenType, accesstoken.TokenTypeJWT)
	}
	older, err := newOlder(config.Older, rules)
	if err != nil {
		return nil, err
	}
	return &Keyring{
		store: config.Store, sealer: sealer, now: config.Now, loading: make(chan struct{}, 1),
		unknown: reload.Gate{Interval: reloadInterval},
		rules:   rules, account: account, older: older, clientID: config.ClientID, typ: typ,
	}, nil
}

// reseal seals the keys of previous seal keys again under the current one.
func (k *Keyring) reseal(ctx context.Context) error {
	set := k.keys.Load()
	for _, row := range set.stale {
		sealed, err := set.verifying[row.ID].seal(k.sealer)
		if err != nil {
			return err
		}
		if err := k.store.ResealSigningKey(ctx, row.ID, row.Sealed, sealed); err != nil {
			return fmt.Errorf("%w: resealing %q: %w", ErrUnavailable, row.ID, err)
		}
	}
	return nil
}

// Sign returns claims as a token that the active key signs. The same claims give the same token as long as
// that key is active. It returns accesstoken.ErrClaims if Verify would not accept the token, ErrUnavailable
// if no active key can be used, and the error of ctx if ctx has ended.
func (k *Keyring) Sign(ctx context.Context, claims accesstoken.Claims) (string, error) {
	return k.signUnder(ctx, k.rules, claims)
}

// SignForAccount is Sign for Config.AccountAudience. It returns an error if there is none.
func (k *Keyring) SignForAccount(ctx context.Context, claims accesstoken.Claims) (string, error) {
	if k.account == nil {
		return "", errors.New("signing: there are no tokens for accounts")
	}
	return k.signUnder(ctx, *k.account, claims)
}

func (k *Keyring) signUnder(ctx context.Context, rules accesstoken.Rules, claims accesstoken.Claims) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if claims.ClientID == "" {
		claims.ClientID = k.clientID
	}
	wire, err := rules.Write(claims)
	if err != nil {
		return "", err
	}
	key := k.keys.Load().active
	if key == nil {
		return "", fmt.Errorf("%w: no active key can be opened", ErrUnavailable)
	}
	return key.sign(wire, k.typ)
}

// Verify returns the claims of a genuine token for Config.Audience that has not expired. It returns
// ErrInvalid or ErrExpired of accesstoken, or ErrUnavailable if the token's key could not be loaded.
func (k *Keyring) Verify(ctx context.Context, token string) (*accesstoken.Claims, error) {
	verified, err := k.VerifyAny(ctx, token)
	switch {
	case err != nil:
		return nil, err
	case verified.ForAccount:
		return nil, fmt.Errorf("%w: for the account itself", accesstoken.ErrInvalid)
	}
	return verified.Claims, nil
}

// SeparatesAccounts returns whether there are account tokens.
func (k *Keyring) SeparatesAccounts() bool { return k.account != nil }

// ActiveSince returns when the active key became active, or the zero time if there is none.
func (k *Keyring) ActiveSince() time.Time {
	return k.keys.Load().activeSince
}

// JWKS returns the JWK set (RFC 7517) of all keys that verify. The active key is first, because some
// verifiers stop at the first key whose type they do not know; the others follow, the oldest first. Pending
// keys are in the set, so that verifiers know them before they sign.
func (k *Keyring) JWKS() []byte {
	return bytes.Clone(k.keys.Load().jwks)
}

// Algorithms lists the algorithms of the keys in the JWKS, each once, that of the active key first.
func (k *Keyring) Algorithms() []accesstoken.Algorithm {
	return slices.Clone(k.keys.Load().algorithms)
}

// Issuer is "iss" of the tokens.
func (k *Keyring) Issuer() string { return k.rules.Issuer }

// Reload reads the keys from the store, and uses those that it could open. It returns ErrSealed if a key
// could not be opened. If the store fails, it keeps the keys that it had and returns ErrUnavailable.
func (k *Keyring) Reload(ctx context.Context) error {
	if err := k.load(ctx); err != nil {
		return err
	}
	return k.keys.Load().err()
}

// load replaces the keys with those of the store.
func (k *Keyring) load(ctx context.Context) error {
	select {
	case k.loading <- struct{}{}:
		defer func() { <-k.loading }()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
	rows, err := k.store.SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	set, err := newKeySet(k.sealer, rows, k.keys.Load())
	if err != nil {
		return err
	}
	k.keys.Store(set)
	return nil
}

// find returns the key with this id. Another replica may have made a key that is unknown here, so find reads
// the store, at most once per reloadInterval for all callers together. Until the next read, the result of the
// last one counts: find returns ErrInvalid if the key was not in it, and ErrUnavailable if the read failed.
func (k *Keyring) find(ctx context.Context, id string) (*signingKey, error) {
	if key := k.keys.Load().verifying[id]; key != nil {
		return key, nil
	}
	if err := k.refresh(ctx); err != nil {
		return nil, err
	}
	set := k.keys.Load()
	if key := set.verifying[id]; key != nil {
		return key, nil
	}
	// The key exists but cannot be opened here, so its tokens may be genuine.
	if err := set.unopened[id]; err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil, fmt.Errorf("%w: unknown key id", accesstoken.ErrInvalid)
}

// refresh waits for the read of the store that is running or that began less than reloadInterval ago. If
// there is none, it starts one. The read continues if its first caller hangs up, since others wait for it
// too.
func (k *Keyring) refresh(ctx context.Context) error {
	current, isNew := k.unknown.Join(k.now())
	if isNew {
		go k.run(context.WithoutCancel(ctx), current)
	}
	select {
	case <-current.Done():
		return current.Err()
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	}
}

// run reads the store and gives the result to a.
func (k *Keyring) run(ctx context.Context, a *reload.Attempt) {
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	a.End(k.load(ctx))
}
