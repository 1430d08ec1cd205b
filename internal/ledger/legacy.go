package ledger

import (
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// legacySession is the version of the UUIDs that Latchkey makes from tokens of the older backends, which had
// no sessions. Latchkey's own sessions have version 4.
const legacySession uuid.Version = 8

// heldFor returns the row with the time until which memory keeps it. A row that can refuse a token of the
// older backends is kept while such tokens are accepted. Watchers accept none, so their copy expires with
// Latchkey's own tokens: the log drops rows from its front only, and one long-lived row would keep all rows
// after it.
func (t *tail) heldFor(row *latchkeyv1.Revocation) *latchkeyv1.Revocation {
	until := t.legacy.Add(margin)
	if t.legacy.IsZero() || !reachesLegacy(row) || !until.After(row.GetExpireTime().AsTime()) {
		return row
	}
	longer := proto.CloneOf(row)
	longer.ExpireTime = timestamppb.New(until)
	return longer
}

// reachesLegacy returns whether a row can refuse a token of the older backends. latchkey_reaches_legacy is
// the same rule in SQL.
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
