package ledger

import (
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// legacySession is the version of the UUIDs that stand for the sessions that tokens of
// another system never had. Latchkey's own have version 4.
const legacySession uuid.Version = 8

// heldFor is the row with the time that it is held here. What can refuse a token of
// another system is held while one is accepted. Watchers, which accept none, are told
// no more than the life of Latchkey's own: the log forgets from its front only, and one
// long row would keep all that come after it.
func (t *tail) heldFor(row *latchkeyv1.Revocation) *latchkeyv1.Revocation {
	until := t.legacy.Add(margin)
	if t.legacy.IsZero() || !reachesLegacy(row) || !until.After(row.GetExpireTime().AsTime()) {
		return row
	}
	longer := proto.CloneOf(row)
	longer.ExpireTime = timestamppb.New(until)
	return longer
}

// reachesLegacy says whether a row can refuse a token of another system, by the rule
// of latchkey_reaches_legacy in SQL.
func reachesLegacy(row *latchkeyv1.Revocation) bool {
	switch row.GetKind() {
	case latchkeyv1.RevocationKind_REVOCATION_KIND_USER, latchkeyv1.RevocationKind_REVOCATION_KIND_ALL,
		latchkeyv1.RevocationKind_REVOCATION_KIND_KEY:
		return true
	case latchkeyv1.RevocationKind_REVOCATION_KIND_SESSION:
		id, err := uuid.Parse(row.GetSessionId())
		return err == nil && id.Version() == legacySession
	case latchkeyv1.RevocationKind_REVOCATION_KIND_USER_CHANGED, latchkeyv1.RevocationKind_REVOCATION_KIND_KEYS_CHANGED,
		latchkeyv1.RevocationKind_REVOCATION_KIND_UNSPECIFIED:
	}
	return false
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
