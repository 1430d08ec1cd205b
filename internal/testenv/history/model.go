// Package history records the answers that clients of several replicas get while replicas are stopped, killed and cut
// off, and checks with porcupine that the answers keep the promise of the revocation ledger. It also removes each of
// the mechanisms that keep the promise, one at a time, and requires that the check fails.
//
// The files: model.go is the promise, with ways.go about addresses and ways to log in; call.go makes events of the model
// from a recorded call, check.go asks porcupine, after prune.go has left events out; world.go, client.go, secondways.go,
// apps.go, proofs.go, moves.go and load.go make and record calls, replica.go and faults.go run and disturb the replicas;
// mutant.go builds broken ones, for which scenario.go, secondways.go, apps.go, proofs.go and moves.go have schedules.
package history

import (
	"cmp"
	"hash/maphash"
	"slices"

	"github.com/anishathalye/porcupine"
)

// The model.
//
// A plain register, whose writes take effect at one moment between their call and their return, would forbid allowed
// answers: while a revoking call runs, one replica may refuse a token and another may accept it a moment later. So a
// revocation is three events of the model, not one:
//
//   - The commit makes the sessions that it reaches "revoking": either answer is right for them. It happens once, at
//     any moment between call and return.
//   - The end makes them "ended": only a refusal is right. It happens exactly at the return of an OK, so that it
//     reaches each validation that begins later, and none that began before.
//   - The calls that others make in between are checked against both.
//
// Logout, RevokeSession and RevokeUserSession name their session. For them the commit is put at the call: nothing in a
// history can show the difference, and porcupine has less to try. A revocation of all sessions of an account (a new
// password, a suspension) reaches those whose login came before its commit. A history does show that, by the password
// with which a login succeeded. Porcupine searches for the order of logins and commits. A login therefore counts from
// the time when the account was read, which is before its password was hashed: a login with an old password is reached,
// whenever its token was made.
//
// A call without an answer (a deadline, a lost connection) may have happened, or not, at any time from its call
// onwards, and never ends anything. One that names a session makes it revoking for good. One for a whole account may
// change its password or its suspension before any later event. From its call onwards all sessions of the account may
// be refused. That allows a little more than the call could do, and never reports a violation wrongly. A call that only
// reads, and a login whose token nobody got, are left out.
//
// A deletion is a revocation of all sessions after which no login succeeds any more, and operators are told that there
// is no such account. One with a grace is a suspension here.
//
// A session that nothing has begun to revoke must be accepted, with two exceptions: Redis may lose it when it is
// flushed, and during a reactivation a replica may still think that the account is suspended.

// sessions is a set of an account's sessions, by number. A state does not include the order of their logins, only which
// of them a revocation reached. Otherwise two logins at the same time would double all later states.
type sessions [maxSessions / wordBits]uint64

const (
	// maxSessions is above the number of sessions, and of secrets, of one account.
	maxSessions = 512
	wordBits    = 64
)

func (s sessions) has(n int) bool { return s[n/wordBits]>>(n%wordBits)&1 != 0 }

func (s sessions) with(n int) sessions {
	s[n/wordBits] |= 1 << (n % wordBits)
	return s
}

func (s sessions) union(other sessions) sessions {
	for i := range s {
		s[i] |= other[i]
	}
	return s
}

func (s sessions) without(other sessions) sessions {
	for i := range s {
		s[i] &^= other[i]
	}
	return s
}

// underWay is a call for a whole account that has committed and has not returned.
type underWay struct {
	call int64
	// reached are the sessions that it will end.
	reached sessions
	// reactivates means that it ends nothing.
	reactivates bool
	// was is the address before the call, if the call sets one.
	was string
}

// state is the state of one account. It is immutable: step makes new ones.
type state struct {
	ways
	suspended bool
	// deleted means that the account is gone, for good.
	deleted bool
	// begun are all sessions. Those in neither of the others are live.
	begun, revoking, ended sessions
	underWay               []underWay // in the order of their calls
	// unanswered are calls for the account that may still happen. unsettled means that there was one.
	unanswered []*call
	unsettled  bool
	// adrift means that one of them sets the address, which may be shown late, too.
	adrift bool
}

// accepts reports whether a token of the session may be accepted.
func (s *state) accepts(session int) bool {
	return s.begun.has(session) && !s.ended.has(session)
}

// refuses reports whether it may be refused.
func (s *state) refuses(session int) bool {
	return s.unsettled || s.revoking.has(session) || !s.accepts(session) ||
		slices.ContainsFunc(s.underWay, func(u underWay) bool { return u.reactivates })
}

// commit makes all sessions but one revoking, and ends all challenges.
func (s *state) commit(call int64, except int) *state {
	spared := s.ended
	if except != none {
		spared = spared.with(except)
	}
	reached := s.begun.without(spared)
	next := *s
	next.revoking = s.revoking.union(reached)
	next.open = sessions{}
	next.begin(underWay{call: call, reached: reached})
	return &next
}

func (s *state) begin(u underWay) {
	s.underWay = append(slices.Clone(s.underWay), u)
	slices.SortFunc(s.underWay, func(a, b underWay) int { return cmp.Compare(a.call, b.call) })
}

// end is the return of a call that committed.
func (s *state) end(call int64) *state {
	i := slices.IndexFunc(s.underWay, func(u underWay) bool { return u.call == call })
	if i < 0 {
		return s
	}
	next := *s
	next.ended = s.ended.union(s.underWay[i].reached)
	next.underWay = slices.Delete(slices.Clone(s.underWay), i, i+1)
	return &next
}

func (s *state) equal(other *state) bool {
	return s.ways == other.ways && s.suspended == other.suspended && s.deleted == other.deleted &&
		s.begun == other.begun && s.revoking == other.revoking && s.ended == other.ended &&
		slices.Equal(s.underWay, other.underWay) &&
		s.unsettled == other.unsettled && s.adrift == other.adrift && slices.Equal(s.unanswered, other.unanswered)
}

func (s *state) hash(seed maphash.Seed) uint64 {
	h := maphash.Comparable(seed, s.ways) ^ maphash.Comparable(seed, [...]sessions{s.begun, s.revoking, s.ended})
	for _, u := range s.underWay {
		h = h*31 + maphash.Comparable(seed, u)
	}
	for _, c := range s.unanswered {
		h = h*31 + maphash.Comparable(seed, c)
	}
	return h
}

// step returns the states that an event leads to; none: the event cannot happen here.
func (s *state) step(e event) []*state {
	next := *s
	switch e.phase {
	case begins:
		if e.Kind.revokesOne() {
			next.revoking = s.revoking.with(e.target())
			return []*state{&next}
		}
		next.unanswered = append(slices.Clone(s.unanswered), e.call)
		next.unsettled = true
		next.adrift = s.adrift || e.Kind == confirmChange || e.Kind == undoChange
		return []*state{&next}
	case ends:
		if e.Kind.revokesOne() {
			next.ended = s.ended.with(e.target())
			return []*state{&next}
		}
		return []*state{s.end(e.Call)}
	case happens:
	}
	var after []*state
	for _, before := range s.later() {
		if happened := before.happen(e.call); happened != nil {
			after = append(after, happened)
		}
	}
	return after
}

// later returns the states that unanswered calls may lead to, and this one.
func (s *state) later() []*state {
	all := []*state{s}
	for i, c := range s.unanswered {
		ok := *c
		ok.Answer = accepted
		happened := s.happen(&ok)
		if happened == nil {
			continue
		}
		next := *s
		next.ways, next.suspended, next.deleted = happened.ways, happened.suspended, happened.deleted
		next.unanswered = slices.Delete(slices.Clone(s.unanswered), i, i+1)
		all = append(all, next.later()...)
	}
	return all
}

// happen returns the state after an answered call, or nil if the answer is wrong.
func (s *state) happen(c *call) *state {
	switch c.Kind {
	case signUp:
		return &state{ways: ways{password: c.NewPassword, address: c.Address, proved: c.Proved}}
	case login:
		return s.login(c)
	case suspend, reactivate, revokeUser, removeFactors, deleteUser, markUser, restoreUser:
		return s.operate(c)
	case changePassword, resetPassword:
		return s.setPassword(c)
	case revokeOne:
		return s.onlyIf(c.Answer == accepted || c.Answer == refused && s.deleted)
	case codeLogin:
		return s.codeLogin(c)
	case passkeyLogin:
		return s.passkeyLogin(c)
	case appLogin, recoveryLogin:
		return s.answer(c)
	case verifyEmail:
		return s.verify(c)
	case addPasskey, removePasskey, addApp, removeApp:
		return s.changeFactor(c)
	case confirmChange, undoChange:
		return s.setAddress(c)
	case validate, refresh, logout, revokeSession, revokeOthers:
	}
	// The calls of a session.
	if c.Answer != accepted {
		return s.onlyIf(c.Answer == refused && (c.Lost || s.refuses(c.Session)))
	}
	if c.Kind != logout && !s.accepts(c.Session) {
		return nil // logging out twice is OK
	}
	if c.Kind == revokeOthers {
		return s.commit(c.Call, c.Session)
	}
	return s.onlyIf(c.Kind != validate || s.shows(c.Address))
}

func (s *state) onlyIf(right bool) *state {
	if !right {
		return nil
	}
	return s
}

func (s *state) login(c *call) *state {
	matches := c.Password == s.password && (c.Address == "" || c.Address == s.address)
	switch c.Answer {
	case accepted:
		if !matches || s.suspended || s.deleted || s.guarded() {
			return nil
		}
		next := *s
		next.begun = s.begun.with(c.Session)
		return &next
	case challenged:
		if !matches || s.suspended || s.deleted || !s.guarded() {
			return nil
		}
		next := *s
		next.open = s.open.with(c.Challenge)
		return &next
	case wrongPassword:
		// A login gets this answer if its account is suspended while it hashes.
		return s.onlyIf(!matches || s.suspended || s.deleted)
	case disabled:
		return s.onlyIf(matches && s.suspended && !s.deleted)
	case refused, unknown:
	}
	return nil
}

func (s *state) operate(c *call) *state {
	if c.Answer != accepted {
		return s.onlyIf(c.Answer == refused && s.deleted && c.Kind != deleteUser)
	}
	if s.deleted && c.Kind != deleteUser { // which can be repeated
		return nil
	}
	if c.Kind.activates() {
		next := *s
		next.suspended = false
		next.begin(underWay{call: c.Call, reactivates: true})
		return &next
	}
	next := s.commit(c.Call, none)
	next.suspended = s.suspended || c.Kind == suspend || c.Kind == markUser
	next.deleted = c.Kind == deleteUser
	if c.Kind == removeFactors {
		next.passkey, next.app, next.codes = none, none, none
	}
	return next
}

func (s *state) setPassword(c *call) *state {
	if c.Kind == resetPassword {
		switch c.Answer {
		case accepted:
			next := s.commit(c.Call, none)
			next.ways = next.takenBack(c.NewPassword)
			return next.onlyIf(!s.suspended && !s.deleted)
		case refused:
			// This includes a link that was requested before the account's sessions were ended: the model does not know
			// when that was.
			return s
		case wrongPassword, disabled, challenged, unknown:
		}
		return nil
	}
	switch c.Answer {
	case accepted:
		next := s.commit(c.Call, c.Session)
		next.password = c.NewPassword
		return next.onlyIf(s.accepts(c.Session) && !s.suspended && !s.deleted && s.password == c.Password)
	case wrongPassword:
		return s.onlyIf(s.password != c.Password)
	case refused:
		return s.onlyIf(s.refuses(c.Session) || s.suspended)
	case disabled, challenged, unknown:
	}
	return nil
}

// model returns the model of one account in the form that porcupine expects.
func model() porcupine.Model {
	seed := maphash.MakeSeed()
	nondeterministic := porcupine.NondeterministicModel{
		Init: func() []any { return []any{&state{}} },
		Step: func(s, input, _ any) []any {
			var next []any
			for _, n := range asState(s).step(asEvent(input)) {
				next = append(next, n)
			}
			return next
		},
		Equal:             func(a, b any) bool { return asState(a).equal(asState(b)) },
		Hash:              func(s any) uint64 { return asState(s).hash(seed) },
		DescribeOperation: func(input, _ any) string { return asEvent(input).String() },
	}
	return nondeterministic.ToModel()
}

func asState(v any) *state {
	s, ok := v.(*state)
	if !ok {
		panic("history: porcupine passed something else than a state")
	}
	return s
}

func asEvent(v any) event {
	e, ok := v.(event)
	if !ok {
		panic("history: porcupine passed something else than an event")
	}
	return e
}
