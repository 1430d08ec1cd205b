package history

import "slices"

// ways are the ways to log in to an account, and what its owner has proved. The promises about them:
//
//   - The first mail that proves the address, by a reset or a login by code, takes all that was there before: the
//     password, the passkey and the sessions. A reset sets a new password.
//   - A mailed code, and an answer of a passkey, log in once.
//   - The address is a value that calls set, as the password is. A change ends no session, and proves the new address.
//     While a call that has set the address has not returned, a replica may show the one of before or the new one. Once it
//     has returned, only the new one is right.
//   - A change of a proved address can be undone until that is done. The undo puts the address of before back, ends all
//     sessions, and takes the password and the passkey if they were set since. Further changes do not move that point.
//   - From the return of its registration, a password alone does not log in to an account with a passkey. From the return
//     of its removal, a passkey does not.
type ways struct {
	// password is noPassword if the account has none.
	password string
	address  string
	// proved is true if somebody has proved the address.
	proved bool
	// change is what the undo of a change of address goes back to. Zero: none can be undone.
	change former
	// passkey is the passkey of the account, which has one at most.
	passkey int
	// spent are the codes and answers that have logged in.
	spent sessions
}

// former is what an account had when its address was changed.
type former struct {
	address, password string
	passkey           int
}

// noPassword is no password that anybody types.
const noPassword = ""

// takenBack returns the ways after a proof by the mail alone, with a password.
func (w ways) takenBack(password string) ways {
	w.password = password
	if !w.proved {
		w.proved, w.passkey = true, none
	}
	return w
}

// codeLogin is a login by a mailed code. The code ends with the account's sessions. The model does not know when it was
// asked for, so it may be refused at any time.
func (s *state) codeLogin(c *call) *state {
	if c.Answer == refused {
		return s
	}
	taken := c.Answer == challenged
	if taken != (s.proved && s.passkey != none) || c.Answer != accepted && !taken || s.suspended || s.deleted || s.spent.has(c.Once) {
		return nil
	}
	next := *s
	if !s.proved { // the session begins after the others have ended
		next = *s.commit(c.Call, none)
		next.ways = s.takenBack(noPassword)
	}
	next.spent = s.spent.with(c.Once)
	if !taken {
		next.begun = s.begun.with(c.Session)
	}
	return &next
}

// passkeyLogin is a login by a passkey alone.
func (s *state) passkeyLogin(c *call) *state {
	right := c.Passkey == s.passkey && !s.spent.has(c.Once)
	switch c.Answer {
	case accepted:
		if !right || s.suspended || s.deleted {
			return nil
		}
		next := *s
		next.spent = s.spent.with(c.Once)
		next.begun = s.begun.with(c.Session)
		return &next
	case refused:
		return s.onlyIf(!right || s.suspended || s.deleted || s.unsettled)
	case wrongPassword, disabled: // also if it is suspended or deleted while the session begins
		return s.onlyIf(s.suspended || s.deleted)
	case challenged, unknown:
	}
	return nil
}

// setAddress is a change of address, or its undo. A change may be refused at any time: the model does not know when its link
// was mailed, and what has ended it since. Nothing ends an undo but its use.
func (s *state) setAddress(c *call) *state {
	undone := s.change != former{}
	switch {
	case c.Answer == refused:
		return s.onlyIf(c.Kind == confirmChange || !undone || s.suspended || s.deleted || s.adrift)
	case c.Answer != accepted || s.suspended || s.deleted:
		return nil
	case c.Kind == confirmChange:
		next := *s
		if s.proved && !undone {
			next.change = former{s.address, s.password, s.passkey}
		}
		next.address, next.proved = c.Address, true
		next.begin(underWay{call: c.Call, was: s.address})
		return &next
	case !undone:
		return nil
	}
	next := s.commit(c.Call, none)
	next.underWay[slices.IndexFunc(next.underWay, func(u underWay) bool { return u.call == c.Call })].was = s.address
	next.address, next.change = s.change.address, former{}
	if s.password != s.change.password {
		next.password = noPassword
	}
	if s.passkey != s.change.passkey {
		next.passkey = none
	}
	return next
}

// shows reports whether a validation may show the address.
func (s *state) shows(address string) bool {
	return address == "" || address == s.address || s.adrift ||
		slices.ContainsFunc(s.underWay, func(u underWay) bool { return u.was == address })
}

// changePasskey adds or removes the passkey. Neither ends a session.
func (s *state) changePasskey(c *call) *state {
	if c.Answer != accepted {
		// A session with one factor may not remove the passkey, nor may one add a second one: see client.go.
		return s.onlyIf(c.Answer == refused)
	}
	if !s.accepts(c.Session) || s.suspended || s.deleted {
		return nil
	}
	next := *s
	next.passkey = none
	if c.Kind == addPasskey {
		next.passkey = c.Passkey
	}
	return &next
}
