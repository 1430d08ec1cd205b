package authverify_test

import (
	"testing"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/authverify"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// A service hears of deleted accounts, in a snapshot and as they happen, and of nothing else. A reason of a newer version
// changes nothing: the kind says what is refused.
func TestDeletedAccountsAreHeard(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var heard []uuid.UUID
	v := w.start(t, func(c *authverify.Config) {
		c.OnUserDeleted = func(user uuid.UUID) { heard = append(heard, user) } // by one goroutine, which send waits for
	})
	row := func(position int64, user uuid.UUID, reason latchkeyv1.RevocationReason) *latchkeyv1.Revocation {
		return &latchkeyv1.Revocation{
			Position: position, Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_USER, UserId: user.String(), Reason: reason,
		}
	}
	const deleted, newer = latchkeyv1.RevocationReason_REVOCATION_REASON_USER_DELETED, latchkeyv1.RevocationReason(99)
	before, suspended, during, strange := uuid.New(), uuid.New(), uuid.New(), uuid.New()
	s := w.next(t)
	s.send(t, v, complete(2, row(1, before, deleted), row(2, suspended, 0)))
	s.send(t, v, complete(4, row(3, during, deleted), row(4, strange, newer)))
	if len(heard) != 2 || heard[0] != before || heard[1] != during {
		t.Errorf("heard of %v, want %v and %v", heard, before, during)
	}
}
