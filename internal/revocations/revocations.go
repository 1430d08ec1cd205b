// Package revocations decides which access tokens the rows of the ledger refuse. It is the only definition:
// the service uses it, and so do services that check tokens with authverify.
package revocations

import (
	"sync"
	"time"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// Table has the rows of the ledger that can refuse a token that has not expired. Refuses needs a few look-ups
// in memory. The zero value refuses nothing. It is safe for concurrent use.
type Table struct {
	mu       sync.RWMutex
	sessions map[sessionKey]time.Time // when it may be dropped
	users    map[uuid.UUID]*cutoff
	all      cutoff
	keys     map[string]struct{}
}

// sessionKey has the account too. The id of a session is no secret, so a caller that revokes a session must
// name its account, and the row refuses only tokens that have both.
type sessionKey struct{ session, user uuid.UUID }

// cutoff refuses tokens whose position is below that of a row, except those of the session that the row
// excepts. For any number of rows, two positions are enough: the highest one, and, for the session that its
// row excepts, the highest one of rows that do not except that session.
type cutoff struct {
	seq    int64
	except uuid.UUID // of the row at seq
	other  int64     // the highest position of a row with another exception
	expire time.Time
}

func (c *cutoff) add(seq int64, except uuid.UUID, expire time.Time) {
	if seq <= c.seq {
		return // rows come in order, so this one is known already
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

// Apply adds a row of the ledger. Rows must come in the order of their positions. A row that is known already
// changes nothing. Apply returns false if it does not know the kind or the form of the row: something was
// revoked and this version cannot say what, so the caller must not trust anything that it has cached.
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

// keepLonger sets until when a row is kept. If there are two rows for the same session, the later one may
// expire first, because clocks differ and rows can be sent again: the later time counts.
func keepLonger[K comparable](rows map[K]time.Time, key K, expire time.Time) {
	if known, ok := rows[key]; !ok || expire.After(known) {
		rows[key] = expire
	}
}

// exception returns the session that a row excepts, or the nil UUID.
func exception(row *latchkeyv1.Revocation) (except uuid.UUID, ok bool) {
	text := row.GetExceptSessionId()
	if text == "" {
		return uuid.Nil, true
	}
	except, err := uuid.Parse(text)
	return except, err == nil
}

// Refuses returns whether a token was revoked. user and session are its "sub" and "sid", ledger is the
// position of its login ("led"), and key is the id of the key that signed it ("kid").
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

// RefusesKey returns whether the signing key was revoked.
func (r *Table) RefusesKey(key string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, revoked := r.keys[key]
	return revoked
}

// DropExpired drops the rows whose tokens have all expired at now, and returns their number. It keeps rows
// about keys: a thief can sign new tokens with a stolen key at any time, and if the keys cannot be read
// again, only the row refuses those tokens. There are only as many of these rows as operators have revoked
// keys.
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
	// The tokens that r.all refuses may have expired too, but it is only one row, so keep it.
	return dropped
}

// Len returns for how many sessions, accounts and keys there are rows.
func (r *Table) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.sessions) + len(r.users) + len(r.keys)
}
