// Package revocations decides which access tokens the rows of the revocation ledger refuse. The service and
// the services that check tokens with authverify use this one definition.
package revocations

import (
	"sync"
	"time"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// Table holds the rows of the revocation ledger that refuse tokens which have not expired. An answer costs a
// few look-ups in memory. The zero value refuses nothing. It is safe for concurrent use.
type Table struct {
	mu       sync.RWMutex
	sessions map[sessionKey]time.Time // when it may be dropped
	users    map[uuid.UUID]*cutoff
	all      cutoff
	keys     map[string]struct{}
}

// sessionKey has the account too: a session's identifier is no secret, so whoever revokes a session must name
// its account, and a row bites only where both match.
type sessionKey struct{ session, user uuid.UUID }

// cutoff refuses positions below a row's own, but for the session that the row excepts. Of any number of rows
// two positions decide: the highest of all, for everybody else, and the highest of those that do not except
// the same session.
type cutoff struct {
	seq    int64
	except uuid.UUID // of the row at seq
	other  int64     // the highest position of a row with another exception
	expire time.Time
}

func (c *cutoff) add(seq int64, except uuid.UUID, expire time.Time) {
	if seq <= c.seq {
		return // rows come in order: this one is known
	}
	if except != c.except {
		c.other = c.seq
	}
	c.seq, c.except = seq, except
	if expire.After(c.expire) {
		c.expire = expire
	}
}

func (c *cutoff) refuses(session uuid.UUID, ledger int64) bool {
	if session == c.except && c.except != uuid.Nil {
		return ledger < c.other
	}
	return ledger < c.seq
}

// Apply takes in a row of the ledger. Rows must come in the order of their positions; one that is known
// already changes nothing. The result is false for a row whose kind or form is not known: something was
// revoked, and nobody here can tell what, so nothing that was cached must be trusted.
func (r *Table) Apply(row *latchkeyv1.Revocation) bool {
	expire := row.GetExpireTime().AsTime()
	r.mu.Lock()
	defer r.mu.Unlock()
	switch row.GetKind() {
	case latchkeyv1.RevocationKind_REVOCATION_KIND_SESSION:
		session, err1 := uuid.Parse(row.GetSessionId())
		user, err2 := uuid.Parse(row.GetUserId())
		if err1 != nil || err2 != nil {
			return false
		}
		if r.sessions == nil {
			r.sessions = map[sessionKey]time.Time{}
		}
		keepLonger(r.sessions, sessionKey{session, user}, expire)
	case latchkeyv1.RevocationKind_REVOCATION_KIND_USER:
		return r.applyUser(row, expire)
	case latchkeyv1.RevocationKind_REVOCATION_KIND_ALL:
		except, ok := exception(row)
		if !ok {
			return false
		}
		r.all.add(row.GetPosition(), except, expire)
	case latchkeyv1.RevocationKind_REVOCATION_KIND_KEY:
		if row.GetKeyId() == "" {
			return false
		}
		if r.keys == nil {
			r.keys = map[string]struct{}{}
		}
		r.keys[row.GetKeyId()] = struct{}{}
	case latchkeyv1.RevocationKind_REVOCATION_KIND_USER_CHANGED, latchkeyv1.RevocationKind_REVOCATION_KIND_KEYS_CHANGED:
		// They revoke nothing.
	case latchkeyv1.RevocationKind_REVOCATION_KIND_UNSPECIFIED:
		return false
	default:
		return false
	}
	return true
}

func (r *Table) applyUser(row *latchkeyv1.Revocation, expire time.Time) bool {
	user, err := uuid.Parse(row.GetUserId())
	if err != nil {
		return false
	}
	except, ok := exception(row)
	if !ok {
		return false
	}
	if r.users == nil {
		r.users = map[uuid.UUID]*cutoff{}
	}
	limit := r.users[user]
	if limit == nil {
		limit = &cutoff{}
		r.users[user] = limit
	}
	limit.add(row.GetPosition(), except, expire)
	return true
}

// keepLonger notes until when a row is needed. Of two rows about one thing the second may end first, when
// clocks differ or rows are sent again.
func keepLonger[K comparable](rows map[K]time.Time, key K, expire time.Time) {
	if known, ok := rows[key]; !ok || expire.After(known) {
		rows[key] = expire
	}
}

// exception is the session that a row leaves alone, or none.
func exception(row *latchkeyv1.Revocation) (except uuid.UUID, ok bool) {
	text := row.GetExceptSessionId()
	if text == "" {
		return uuid.Nil, true
	}
	except, err := uuid.Parse(text)
	return except, err == nil
}

// Refuses says whether a token of this account and session, whose login was at the ledger's position (the
// claim "led") and which the key signed (its "kid"), was revoked.
func (r *Table) Refuses(user, session uuid.UUID, ledger int64, key string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, revoked := r.sessions[sessionKey{session, user}]; revoked {
		return true
	}
	if limit := r.users[user]; limit != nil && limit.refuses(session, ledger) {
		return true
	}
	if r.all.refuses(session, ledger) {
		return true
	}
	_, revoked := r.keys[key]
	return revoked
}

// RefusesKey says whether the signing key was revoked.
func (r *Table) RefusesKey(key string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, revoked := r.keys[key]
	return revoked
}

// DropExpired drops rows that reach no token that is still in its life at now, and returns how many. Keys stay:
// whoever has stolen one signs new tokens with it at any time, and should the keys fail to be read again, the
// row is all that refuses them. There are as many as operators have revoked.
func (r *Table) DropExpired(now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	dropped := 0
	for key, expire := range r.sessions {
		if !now.Before(expire) {
			delete(r.sessions, key)
			dropped++
		}
	}
	for user, limit := range r.users {
		if !now.Before(limit.expire) {
			delete(r.users, user)
			dropped++
		}
	}
	// What everybody's cut-off refused has expired too, but one row costs nothing.
	return dropped
}

// Len is how many sessions, accounts and keys there are rows about.
func (r *Table) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.sessions) + len(r.users) + len(r.keys)
}
