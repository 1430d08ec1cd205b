package history

import "slices"

// The answers that a session got change nothing in the model, and most of them are right in any order of the other
// events. The verdict would be the same if they were left in, but leaving them out keeps the check fast. Of 30
// validations that wait in a frozen replica at the same time, porcupine would otherwise try every subset when it has to
// go back.

// past is the history of the sessions of an account.
type past struct {
	logins   map[int]*call
	revokers []*call
	// moves are the calls that may have changed the address, first is the address before them.
	moves []*call
	first string
}

// newPast reads the calls of one account.
func newPast(calls []*call) past {
	p := past{logins: map[int]*call{}}
	for _, c := range calls {
		if c.Kind.begins() && c.Answer == accepted {
			p.logins[c.Session] = c
		}
		switch {
		case c.Kind == signUp:
			p.first = c.Address
		case c.Kind.revokesOne() && c.Answer != refused, c.Kind.commits() && !c.endsNone() && (c.Answer == accepted || c.Answer == unknown):
			p.revokers = append(p.revokers, c)
		}
		if (c.Kind == confirmChange || c.Kind == undoChange) && c.Answer != refused {
			p.moves = append(p.moves, c)
		}
	}
	return p
}

// reach says whether a revocation reaches the session of a login.
type reach int

const (
	never reach = iota
	perhaps
	surely
)

func reachOf(revoker, login *call) reach {
	if revoker.Kind.revokesOne() {
		if revoker.target() == login.Session {
			return surely
		}
		return never
	}
	spares := revoker.Kind == revokeOthers || revoker.Kind == changePassword || revoker.Kind == codeLogin
	switch {
	case spares && revoker.Session == login.Session:
		return never
	case (revoker.Kind == codeLogin || revoker.Kind == verifyEmail) && login.Return < revoker.Call:
		return perhaps // it reaches none if the address was proved before
	case login.Return < revoker.Call:
		return surely
	case revoker.Answer == accepted && login.Call > revoker.Return:
		return never
	}
	return perhaps
}

// certain reports whether the answer to the call is right for its own session in every order of the others.
func (p past) certain(c *call) bool {
	began, ok := p.logins[c.Session]
	if !ok || began.Return > c.Call {
		return false
	}
	switch {
	case c.Kind != validate && c.Kind != refresh && c.Kind != logout && c.Kind != revokeSession:
		return false
	case c.Answer == accepted && c.Kind == logout:
		return true
	case c.Address != "" && (c.Address != p.first || slices.ContainsFunc(p.moves, func(m *call) bool { return m.Call < c.Return })):
		return false // it depends on the order of the changes
	case c.Answer == accepted:
		return !slices.ContainsFunc(p.revokers, func(r *call) bool {
			return r.Answer == accepted && r.Return < c.Call && reachOf(r, began) != never
		})
	case c.Answer == refused:
		return c.Lost || slices.ContainsFunc(p.revokers, func(r *call) bool {
			if reachOf(r, began) != surely {
				return false
			}
			if r.Kind.revokesOne() {
				return r.Call < c.Return // revoking from its call on
			}
			return r.Answer == accepted && r.Return < c.Return // it has committed by then
		})
	}
	return false
}
