package revocations

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// naive is the definition: all rows in a list, each asked.
type naive []*latchkeyv1.Revocation

func (n naive) refuses(user, session uuid.UUID, ledger int64, key string) bool {
	for _, row := range n {
		var reaches bool
		switch row.GetKind() {
		case latchkeyv1.RevocationKind_REVOCATION_KIND_SESSION:
			reaches = row.GetSessionId() == session.String() && row.GetUserId() == user.String()
		case latchkeyv1.RevocationKind_REVOCATION_KIND_USER:
			reaches = row.GetUserId() == user.String() && ledger < row.GetPosition() && row.GetExceptSessionId() != session.String()
		case latchkeyv1.RevocationKind_REVOCATION_KIND_ALL:
			reaches = ledger < row.GetPosition() && row.GetExceptSessionId() != session.String()
		case latchkeyv1.RevocationKind_REVOCATION_KIND_KEY:
			reaches = row.GetKeyId() == key
		default:
		}
		if reaches {
			return true
		}
	}
	return false
}

// at returns the rows that can still reach a live token.
func (n naive) at(now time.Time) naive {
	var live naive
	for _, row := range n {
		if now.Before(row.GetExpireTime().AsTime()) {
			live = append(live, row)
		}
	}
	return live
}

// Few enough of each that rows meet.
func drawID(r *rapid.T, what string, count int) uuid.UUID {
	var id uuid.UUID
	id[0], id[15] = what[0], byte(rapid.IntRange(1, count).Draw(r, what))
	return id
}

func drawRow(r *rapid.T, position int64, start time.Time) *latchkeyv1.Revocation {
	row := &latchkeyv1.Revocation{
		Position:   position,
		Kind:       latchkeyv1.RevocationKind(rapid.Int32Range(1, 6).Draw(r, "kind")),
		ExpireTime: timestamppb.New(start.Add(time.Duration(rapid.IntRange(0, 100).Draw(r, "life")) * time.Second)),
	}
	except := func() string {
		if rapid.Bool().Draw(r, "with exception") {
			return drawID(r, "session", 4).String()
		}
		return ""
	}
	switch row.GetKind() {
	case latchkeyv1.RevocationKind_REVOCATION_KIND_SESSION:
		row.UserId, row.SessionId = drawID(r, "user", 2).String(), drawID(r, "session", 4).String()
	case latchkeyv1.RevocationKind_REVOCATION_KIND_USER:
		row.UserId, row.ExceptSessionId = drawID(r, "user", 2).String(), except()
	case latchkeyv1.RevocationKind_REVOCATION_KIND_ALL:
		row.ExceptSessionId = except()
	case latchkeyv1.RevocationKind_REVOCATION_KIND_KEY:
		row.KeyId = "k" + strconv.Itoa(rapid.IntRange(1, 3).Draw(r, "key"))
	default:
	}
	return row
}

// The look-ups say what the definition says, for rows in order with any number of them sent again, as after a
// resume. Forgetting costs nothing that is still alive and invents nothing.
func TestRevocationsAgainstDefinition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		start := time.Unix(1_800_000_000, 0)
		now := start
		table := &Table{}
		var all, resend naive
		forgot := false
		compare := func(r *rapid.T) {
			user, session := drawID(r, "user", 3), drawID(r, "session", 5)
			ledger := rapid.Int64Range(0, int64(3*len(all)+3)).Draw(r, "led")
			key := "k" + strconv.Itoa(rapid.IntRange(1, 4).Draw(r, "key"))
			got := table.Refuses(user, session, ledger, key)
			if all.at(now).refuses(user, session, ledger, key) && !got {
				r.Fatal("a live row was lost")
			}
			if want := all.refuses(user, session, ledger, key); got && !want || !forgot && got != want {
				r.Fatalf("got %v, want %v", got, want)
			}
			if want := all.keyRow(key); table.RefusesKey(key) && !want || !forgot && table.RefusesKey(key) != want {
				r.Fatalf("key %s: want %v", key, want)
			}
		}
		position := int64(0)
		r.Repeat(map[string]func(*rapid.T){
			"": compare,
			"row": func(r *rapid.T) {
				position += rapid.Int64Range(1, 3).Draw(r, "step") // some numbers are never used
				row := drawRow(r, position, now)
				if !table.Apply(row) {
					r.Fatal("a row was not understood")
				}
				all, resend = append(all, row), append(resend, row)
			},
			"again": func(r *rapid.T) {
				// Not after forgetting: what is sent again then is forgotten again.
				for _, row := range resend[rapid.IntRange(0, len(resend)).Draw(r, "from"):] {
					table.Apply(row)
				}
			},
			"forget": func(r *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 60).Draw(r, "seconds")) * time.Second)
				table.DropExpired(now)
				forgot, resend = true, nil
			},
			"anew": func(*rapid.T) {
				table = &Table{}
				for _, row := range all {
					table.Apply(row)
				}
				forgot, resend = false, all
			},
		})
	})
}

func (n naive) keyRow(key string) bool {
	for _, row := range n {
		if row.GetKind() == latchkeyv1.RevocationKind_REVOCATION_KIND_KEY && row.GetKeyId() == key {
			return true
		}
	}
	return false
}

// DropExpired returns how many it dropped, from the second on in which they may go. A key that was revoked
// stays so: its thief signs tokens with new times.
func TestRevocationsDropExpired(t *testing.T) {
	t.Parallel()
	end := time.Unix(1_800_000_000, 0)
	var table Table
	for position, row := range []*latchkeyv1.Revocation{
		{Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_SESSION, UserId: uuid.NewString(), SessionId: uuid.NewString()},
		{Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_USER, UserId: uuid.NewString()},
		{Kind: latchkeyv1.RevocationKind_REVOCATION_KIND_KEY, KeyId: "k1"},
	} {
		row.Position, row.ExpireTime = int64(position+1), timestamppb.New(end)
		table.Apply(row)
	}
	if got := table.DropExpired(end.Add(-1)); got != 0 || table.Len() != 3 {
		t.Errorf("forgot %d, %d are left", got, table.Len())
	}
	if got := table.DropExpired(end); got != 2 || table.Len() != 1 || !table.RefusesKey("k1") {
		t.Errorf("forgot %d, %d are left", got, table.Len())
	}
}
