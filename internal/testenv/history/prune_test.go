package history

import (
	"testing"

	"github.com/anishathalye/porcupine"
	"pgregory.net/rapid"
)

// TestPruning: leaving out answers that are right in any order changes no verdict.
func TestPruning(t *testing.T) {
	t.Parallel()
	verdicts := map[bool]int{}
	rapid.Check(t, func(t *rapid.T) {
		calls := drawHistory(t)
		markLost(calls, nil)
		skip := newPast(calls).certain
		all := operationsOf(calls, func(*call) bool { return false })
		fits := porcupine.CheckOperations(model(), all)
		if porcupine.CheckOperations(model(), operationsOf(calls, skip)) != fits {
			t.Fatalf("with all calls: %v, without the pruned ones: %v\n%s", fits, !fits, violation{ordered: calls})
		}
		verdicts[fits]++
	})
	if verdicts[true] == 0 || verdicts[false] == 0 {
		t.Errorf("the histories that were drawn fit or not this often: %v", verdicts)
	}
}

// drawHistory has two sessions and some calls about them, many of them at once.
func drawHistory(t *rapid.T) []*call {
	calls := []*call{begin()}
	logins := map[int]int64{}
	for session := 1; session <= 2; session++ {
		from, to := drawInterval(t, 3, 30)
		calls = append(calls, loginAs(from, to, session, "p0"))
		logins[session] = to
	}
	kinds := []kind{validate, validate, validate, refresh, logout, revokeSession, revokeOthers, changePassword, suspend, reactivate, revokeUser, revokeOne, removeFactors}
	for range rapid.IntRange(1, 8).Draw(t, "calls") {
		c := call{
			Kind:    rapid.SampledFrom(kinds).Draw(t, "kind"),
			Session: rapid.IntRange(1, 2).Draw(t, "session"),
			Answer:  rapid.SampledFrom([]answer{accepted, accepted, refused, unknown}).Draw(t, "answer"),
		}
		switch c.Kind { //nolint:exhaustive // the others need nothing more
		case revokeSession:
			c.Target = 3 - c.Session
		case revokeOne:
			c.Target, c.Session = 3-c.Session, none
			if c.Answer == refused {
				c.Answer = accepted
			}
		case changePassword:
			c.Password, c.NewPassword = "p0", "p1"
		case suspend, reactivate, revokeUser, removeFactors:
			c.Session = none
			if c.Answer == refused {
				c.Answer = accepted
			}
		}
		earliest := max(logins[c.Session], logins[c.Target]) + 1 // a token is needed
		from, to := drawInterval(t, earliest, earliest+30)
		calls = append(calls, at(from, to, c))
	}
	for i, c := range calls[1:] { // moments are unique
		c.Call, c.Return = c.Call*100+int64(i), c.Return*100+int64(i)
	}
	return calls
}

func drawInterval(t *rapid.T, least, most int64) (from, to int64) {
	from = rapid.Int64Range(least, most).Draw(t, "from")
	return from, from + rapid.Int64Range(1, 15).Draw(t, "takes")
}
