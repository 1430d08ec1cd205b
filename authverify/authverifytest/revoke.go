package authverifytest

import (
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-auth/latchkey/authverify"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// RevokeSession ends a session of a user, as a logout does.
func (i *Issuer) RevokeSession(user, session uuid.UUID) {
	i.t.Helper()
	i.append(&latchkeyv1.Revocation{
		Kind:   latchkeyv1.RevocationKind_REVOCATION_KIND_SESSION,
		UserId: user.String(), SessionId: session.String(),
	})
}

// RevokeUser ends all sessions that a user has now, except one, as a change of the password does. If except is the nil
// UUID it ends all, as a suspension does.
func (i *Issuer) RevokeUser(user, except uuid.UUID) {
	i.t.Helper()
	row := &latchkeyv1.Revocation{
		Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_USER, UserId: user.String(),
	}
	if except != uuid.Nil {
		row.ExceptSessionId = except.String()
	}
	i.append(row)
}

// DeleteUser ends all sessions of a user and says that the account was deleted: Config.OnUserDeleted is called.
func (i *Issuer) DeleteUser(user uuid.UUID) {
	i.t.Helper()
	i.append(&latchkeyv1.Revocation{
		Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_USER, UserId: user.String(),
		Reason: latchkeyv1.RevocationReason_REVOCATION_REASON_USER_DELETED,
	})
}

// RevokeAll ends all sessions of all users.
func (i *Issuer) RevokeAll() {
	i.t.Helper()
	i.append(&latchkeyv1.Revocation{Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_ALL})
}

// RevokeKey revokes a key and everything that it has signed. If no key is left, it makes a new one.
func (i *Issuer) RevokeKey(id string) {
	i.t.Helper()
	i.mu.Lock()
	var rest []signingKey
	for _, key := range i.keys {
		if key.id != id {
			rest = append(rest, key)
		}
	}
	i.keys = rest
	i.mu.Unlock()
	if len(rest) == 0 {
		i.addKey()
	}
	i.append(&latchkeyv1.Revocation{Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_KEY, KeyId: id})
}

// KeyID returns the id of the key that signs now.
func (i *Issuer) KeyID() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[len(i.keys)-1].id
}

// Disconnect ends the streams, and refuses new streams and requests for keys until Reconnect. Until then no Verifier
// hears of revocations.
func (i *Issuer) Disconnect() {
	i.t.Helper()
	i.ledger.disconnect(true)
}

// Reconnect ends Disconnect and returns when the Verifiers have caught up. That can take 3 s, because their back-off
// grows up to that.
func (i *Issuer) Reconnect() {
	i.t.Helper()
	began := i.Now()
	i.ledger.disconnect(false)
	i.wait("have caught up after Reconnect", func(v *authverify.Verifier) bool {
		return !i.Now().Add(-v.Staleness()).Before(began) && v.Position() >= i.ledger.position()
	})
}

// append adds a row and waits until the Verifiers have applied it.
func (i *Issuer) append(row *latchkeyv1.Revocation) {
	i.t.Helper()
	now := i.Now()
	row.CreateTime = timestamppb.New(now)
	row.ExpireTime = timestamppb.New(now.Add(24 * time.Hour))
	position, connected := i.ledger.append(row)
	if !connected {
		return
	}
	i.wait("know of the revocation", func(v *authverify.Verifier) bool { return v.Position() >= position })
}

// wait asks each Verifier once a millisecond.
func (i *Issuer) wait(what string, done func(*authverify.Verifier) bool) {
	i.t.Helper()
	i.mu.Lock()
	verifiers := i.verifiers
	i.mu.Unlock()
	limit := time.NewTimer(waitLimit)
	defer limit.Stop()
	ticks := time.NewTicker(time.Millisecond)
	defer ticks.Stop()
	for _, verifier := range verifiers {
		for !done(verifier) {
			select {
			case <-ticks.C:
			case <-limit.C:
				i.t.Fatalf("authverifytest: a Verifier does not %s within %s", what, waitLimit)
			}
		}
	}
}
