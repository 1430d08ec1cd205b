// Package signing issues and verifies access tokens: JWTs by RFC 9068, signed by
// keys that live sealed in a store and are published as a JWK set.
//
// What a token says and how it is read and checked stands in internal/accesstoken, which
// authverify imports too; here are the keys and what signs with them.
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

// ErrUnavailable reports that the keys needed to sign, or to tell a genuine
// token from a forged one, could not be loaded. A later call may succeed.
var ErrUnavailable = errors.New("signing keys are unavailable")

const (
	// reloadInterval is how often tokens with unknown key ids may make the store
	// be read. Anybody can send such tokens.
	reloadInterval = time.Second
	// reloadTimeout bounds a reading that no single caller owns.
	reloadTimeout = 5 * time.Second
)

// KeyStore keeps signing keys. All replicas share one.
type KeyStore interface {
	// SigningKeys returns every key, in any order and whatever its state.
	SigningKeys(ctx context.Context) ([]StoredKey, error)
	// ChangeSigningKeys calls change with every key and stores what it returns, all
	// of it or nothing. Calls take effect one after the other: what one has stored
	// the next one's change is given. When change fails nothing is stored and its
	// error is returned. What is stored is announced to all replicas with it; the
	// position is how far a replica has heard when it knows of the change, or, when
	// there was none, of everything before.
	ChangeSigningKeys(ctx context.Context, change func(keys []StoredKey) (KeyUpdate, error)) (position int64, err error)
	// ResealSigningKey replaces the sealed bytes of key id while they are still
	// old. When they are not, another replica was faster: it changes nothing and
	// returns nil.
	ResealSigningKey(ctx context.Context, id string, old, sealed []byte) error
}

// Config says whose tokens these are and where their keys live. Every field is
// needed but AccountAudience, Type, Algorithm and Older.
type Config struct {
	// Issuer is "iss", compared exactly.
	Issuer string
	// Audience is "aud" of tokens made here; accepted tokens name it alone or
	// among others.
	Audience string
	// AccountAudience is "aud" of what SignForAccount makes, which only this service
	// accepts, for the account itself. Empty: there are no such tokens. Not the Audience.
	AccountAudience string
	// ClientID is "client_id" of tokens whose Claims name none.
	ClientID string
	// Type is "typ" of tokens made here: at+jwt, or JWT for verifiers that do not know RFC 9068.
	// Both are accepted. Empty: at+jwt.
	Type string
	// Algorithm is what keys are for. Empty: what those in the store are for, and
	// DefaultAlgorithm in an empty one. When the store's active key has another one, Open
	// makes a pending key of this one, which signs from PublishAhead later on, by
	// Rotator.Tend; the old key goes on verifying.
	Algorithm accesstoken.Algorithm
	// Older is the key of an older backend. Optional.
	Older *OlderKey
	// Store holds the keys.
	Store KeyStore
	// SealKeys are secrets of 32 bytes used for nothing else: the current one,
	// then previous ones, whose keys Open seals anew under the current one.
	SealKeys [][]byte
	// MaxTTL is the longest life, exp - iat, that is signed or accepted. Rounded
	// down to whole seconds; at least 1 s.
	MaxTTL time.Duration
	// Now tells the time.
	Now func() time.Time
}

// Keyring signs and verifies. It is safe for concurrent use; verifying takes no
// lock while the key is known.
type Keyring struct {
	store    KeyStore
	sealer   *sealer
	rules    accesstoken.Rules
	account  *accesstoken.Rules // nil: no tokens for accounts
	clientID string
	typ      string
	now      func() time.Time
	older    *older
	keys     atomic.Pointer[keySet]
	loading  chan struct{} // holds one token while the store is read: readings never overtake
	unknown  reload.Gate   // the readings that tokens with unknown key ids asked for
}

// Open loads the keys, seals anew what is under a previous seal key, and makes a
// key when none is active, or a pending one of the configured algorithm when that is another
// one than the active key's. It fails with ErrSealed,
// naming the key, when a key in use cannot be opened, and with ErrUnavailable
// when the store fails.
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
	// Another replica may have been faster: whatever is active now is used.
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

// reseal puts keys that a previous seal key had sealed under the current one.
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

// Sign returns claims as a token under the active key. The same claims give the
// same token while that key is active. It fails with ErrClaims when Verify could
// not accept the token, with ErrUnavailable when there is no key to sign with, and
// with the context's error once ctx is done.
func (k *Keyring) Sign(ctx context.Context, claims accesstoken.Claims) (string, error) {
	return k.signUnder(ctx, k.rules, claims)
}

// SignForAccount is Sign for Config.AccountAudience. Without one it fails.
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

// Verify returns the claims of a genuine token for Config.Audience that is in force now.
// It fails with ErrInvalid, with ErrExpired, or, when it cannot tell because a key could
// not be loaded, with ErrUnavailable.
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

// SeparatesAccounts says whether there are tokens for accounts.
func (k *Keyring) SeparatesAccounts() bool { return k.account != nil }

// ActiveSince returns when the key that signs became active, or the zero time when
// there is none.
func (k *Keyring) ActiveSince() time.Time {
	return k.keys.Load().activeSince
}

// JWKS returns the RFC 7517 set of every key that verifies: the active one, because there are
// verifiers that end at a first key of a kind that they do not know, then the others, oldest first.
// Pending keys are in it, so that verifiers know them before they sign.
func (k *Keyring) JWKS() []byte {
	return bytes.Clone(k.keys.Load().jwks)
}

// Algorithms lists what the keys in the JWKS are for, each once, that of the active key first.
func (k *Keyring) Algorithms() []accesstoken.Algorithm {
	return slices.Clone(k.keys.Load().algorithms)
}

// Issuer is "iss" of the tokens.
func (k *Keyring) Issuer() string { return k.rules.Issuer }

// Reload reads the keys from the store. What could be opened is in use when it
// returns; it fails with ErrSealed when a key could not, and with ErrUnavailable,
// keeping the keys it had, when the store failed.
func (k *Keyring) Reload(ctx context.Context) error {
	if err := k.load(ctx); err != nil {
		return err
	}
	return k.keys.Load().err()
}

// load replaces the keys by what the store holds now.
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

// find returns the key called id. One that is unknown may have been made by
// another replica, so the store is asked, at most once per reloadInterval for all
// callers together. Between two readings the last one's answer stands: a key not
// there then is refused, and when it failed nobody can tell, which is said.
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
	// A key that is there but does not open here: its tokens may well be genuine.
	if err := set.unopened[id]; err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil, fmt.Errorf("%w: unknown key id", accesstoken.ErrInvalid)
}

// refresh waits for a reading of the store that is under way or began less than
// reloadInterval ago, and begins one otherwise. The reading outlives the caller
// that began it, for others wait on it too.
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

// run reads the store for a.
func (k *Keyring) run(ctx context.Context, a *reload.Attempt) {
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	a.End(k.load(ctx))
}
