package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// window is a period between two numbers of the counter of all clients.
type window struct{ from, to int64 }

// violation is an account whose history does not fit the model.
type violation struct {
	account int
	// stuck are the events after the longest part that fits, ordered all calls in order.
	stuck   []string
	ordered []*call
}

// String shows the events that do not fit and the calls before them.
func (v violation) String() string {
	const before, most = 60, 8
	var text strings.Builder
	fmt.Fprintf(&text, "account %d: no order of its calls keeps the promise. One of these cannot come next:\n", v.account)
	for _, line := range v.stuck[:min(len(v.stuck), most)] {
		fmt.Fprintf(&text, "  %s\n", line)
	}
	fmt.Fprintf(&text, "its calls:\n")
	for _, c := range v.ordered[max(0, len(v.ordered)-before):] {
		fmt.Fprintf(&text, "  %s\n", c)
	}
	return text.String()
}

// check returns the accounts whose calls do not fit the model. Accounts do not affect each other, so each is checked
// alone; a few hundred calls take milliseconds. If an account takes longer than patience, that is an error, because its
// result is unknown.
func check(calls []*call, flushes []window, patience time.Duration) ([]violation, error) {
	accounts := map[int][]*call{}
	for _, c := range calls {
		accounts[c.Account] = append(accounts[c.Account], c)
	}
	var found []violation
	for account, own := range accounts {
		slices.SortFunc(own, func(a, b *call) int { return cmp.Compare(a.Call, b.Call) })
		markLost(own, flushes)
		operations := operationsOf(own, newPast(own).certain)
		switch porcupine.CheckOperationsTimeout(model(), operations, patience) {
		case porcupine.Ok:
		case porcupine.Illegal:
			found = append(found, violation{account, explain(operations, patience), own})
		case porcupine.Unknown:
			return nil, fmt.Errorf("not checked within %s: %s", patience, violation{account: account, ordered: own})
		}
	}
	return found, nil
}

// operationsOf returns the events of an account's calls, without those whose answer skip reports to be right in any
// order.
func operationsOf(calls []*call, skip func(*call) bool) []porcupine.Operation {
	var operations []porcupine.Operation
	for _, c := range calls {
		for _, o := range c.operations() {
			if asEvent(o.Input).phase != happens || !skip(c) {
				operations = append(operations, o)
			}
		}
	}
	return operations
}

// markLost marks the sessions that a flush of Redis may have deleted: those whose login began before the flush ended.
func markLost(calls []*call, flushes []window) {
	logins := map[int]int64{}
	for _, c := range calls {
		if c.Kind.begins() && c.Answer == accepted {
			logins[c.Session] = c.Call
		}
	}
	for _, c := range calls {
		began, ok := logins[c.Session]
		if !ok || c.Kind != refresh && c.Kind != logout {
			continue
		}
		c.Lost = slices.ContainsFunc(flushes, func(f window) bool { return f.to > began && f.from < c.Return })
	}
}

// explain names the events that could come next after the longest part that fits.
func explain(operations []porcupine.Operation, patience time.Duration) []string {
	_, info := porcupine.CheckOperationsVerbose(model(), operations, patience)
	var longest []porcupine.Operation
	for _, partial := range info.PartialLinearizationsOperations() {
		for _, p := range partial {
			if len(p) > len(longest) {
				longest = p
			}
		}
	}
	fits := map[event]bool{}
	for _, o := range longest {
		fits[asEvent(o.Input)] = true
	}
	var rest []porcupine.Operation
	for _, o := range operations {
		if !fits[asEvent(o.Input)] {
			rest = append(rest, o)
		}
	}
	slices.SortFunc(rest, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	var lines []string
	for _, o := range rest {
		if len(lines) > 0 && o.Call > rest[0].Return {
			continue // not before the first
		}
		lines = append(lines, asEvent(o.Input).String())
	}
	return lines
}
