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
//     sessions, and takes the password, the factors and the recovery codes that were set since. Further changes do not move that point.
//   - From the return of its registration, a password alone, or a mailed code, does not log in to an account with a passkey
//     or an authenticator app. From the return of its removal, a passkey or an app does not, and is not asked for.
//   - The answer to the first factor is then a challenge. A code of the app, or a recovery code, answers it: each code
//     works once, of an app's codes only later ones than the last, and each challenge is answered once. All that ends the
//     sessions of the account ends its challenges, and so does a change of its address.
//   - Recovery codes come with the app, or with the first factor, and go with the last one.
//   - A proof of the address by VerifyEmail takes what was there before only if nobody had proved the address, and if the
//     caller shows neither the password nor a session.
type ways struct {
	// password is noPassword if the account has none.
	password string
	address  string
	// proved is true if somebody has proved the address.
	proved bool
	// change is what the undo of a change of address goes back to. Zero: none can be undone.
	change former
	// passkey is the passkey of the account, app its authenticator app and codes its set of recovery codes: it has one of
	// each at most. The number of a set is that of the factor with which it came.
	passkey, app, codes int
	// lastStep is that of the last code of the app that was used.
	lastStep int
	// spent are the other things that have worked once: mails, recovery codes and the answers of passkeys.
	spent sessions
	// open are the challenges that can be answered.
	open sessions
}

// guarded reports whether the account has a second factor.
func (w ways) guarded() bool { return w.passkey != none || w.app != none }

// former is what an account had when its address was changed.
type former struct {
	address, password   string
	passkey, app, codes int
}

// noPassword is no password that anybody types.
const noPassword = ""

// takenBack returns the ways after a proof by the mail alone, with a password.
func (w ways) takenBack(password string) ways {
	w.password = password
	if !w.proved {
		w.proved, w.passkey, w.app, w.codes = true, none, none, none
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
	if taken != (s.proved && s.guarded()) || c.Answer != accepted && !taken || s.suspended || s.deleted || s.spent.has(c.Once) {
		return nil
	}
	next := *s
	if !s.proved { // the session begins after the others have ended
		next = *s.commit(c.Call, none)
		next.ways = next.takenBack(noPassword)
	}
	next.spent = s.spent.with(c.Once)
	if taken {
		next.open = s.open.with(c.Challenge)
	} else {
		next.begun = s.begun.with(c.Session)
	}
	return &next
}

// passkeyLogin is a login by a passkey alone.
func (s *state) passkeyLogin(c *call) *state {
	right := c.Factor == s.passkey && !s.spent.has(c.Once)
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
			next.change = former{s.address, s.password, s.passkey, s.app, s.codes}
		}
		next.address, next.proved, next.open = c.Address, true, sessions{}
		next.begin(underWay{call: c.Call, was: s.address})
		return &next
	case !undone:
		return nil
	}
	next := s.commit(c.Call, none)
	next.underWay[slices.IndexFunc(next.underWay, func(u underWay) bool { return u.call == c.Call })].was = s.address
	had := s.change
	next.address, next.change = had.address, former{}
	if s.password != had.password {
		next.password = noPassword
	}
	if s.passkey != had.passkey {
		next.passkey = none
	}
	if s.app != had.app {
		next.app = none
	}
	if s.codes != had.codes || !next.guarded() {
		next.codes = none
	}
	return next
}

// shows reports whether a validation may show the address.
func (s *state) shows(address string) bool {
	return address == "" || address == s.address || s.adrift ||
		slices.ContainsFunc(s.underWay, func(u underWay) bool { return u.was == address })
}

// changeFactor adds or removes a second factor. None of it ends a session.
func (s *state) changeFactor(c *call) *state {
	if c.Answer != accepted {
		// A session with one factor may not change them, nor may an account have a second passkey: see client.go.
		return s.onlyIf(c.Answer == refused)
	}
	if !s.accepts(c.Session) || s.suspended || s.deleted {
		return nil
	}
	next := *s
	switch c.Kind { //nolint:exhaustive // those that change factors
	case addPasskey:
		next.passkey = c.Factor
		if s.codes == none {
			next.codes = c.Factor
		}
	case removePasskey:
		next.passkey = none
	case addApp: // in place of the one before
		next.app, next.lastStep, next.codes = c.Factor, c.Once, c.Factor
	case removeApp:
		next.app = none
	}
	if !next.guarded() {
		next.codes = none
	}
	return &next
}

// answer is an answer to a challenge by a code of the app or by a recovery code.
func (s *state) answer(c *call) *state {
	right := s.open.has(c.Challenge) && !s.suspended && !s.deleted
	if c.Kind == appLogin {
		right = right && c.Factor == s.app && c.Once > s.lastStep
	} else {
		right = right && c.Factor == s.codes && !s.spent.has(c.Once)
	}
	if c.Answer == refused {
		return s.onlyIf(!right || s.unsettled)
	}
	if c.Answer != accepted || !right {
		return nil
	}
	next := *s
	if c.Kind == appLogin {
		next.lastStep = c.Once
	} else {
		next.spent = s.spent.with(c.Once)
	}
	next.open = s.open.without(sessions{}.with(c.Challenge))
	next.begun = s.begun.with(c.Session)
	return &next
}

// verify is a proof of the address by VerifyEmail. The model does not know when the mail was asked for, so it may be refused
// at any time.
func (s *state) verify(c *call) *state {
	switch c.Answer {
	case refused:
		return s
	case wrongPassword: // also if the account is deleted, or changes its address, while the password is compared
		return s.onlyIf(c.Password != "" && (c.Password != s.password || s.deleted || s.adrift ||
			slices.ContainsFunc(s.underWay, func(u underWay) bool { return u.was != "" })))
	case accepted:
	case disabled, challenged, unknown:
		return nil
	}
	if s.suspended || s.deleted || s.spent.has(c.Once) || c.Password != "" && c.Password != s.password ||
		c.Session != none && !s.accepts(c.Session) {
		return nil
	}
	next := *s
	if c.byMailAlone() && !s.proved {
		next = *s.commit(c.Call, none)
		next.ways = next.takenBack(noPassword)
	}
	next.proved = true
	next.spent = s.spent.with(c.Once)
	return &next
}
