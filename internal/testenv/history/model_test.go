package history

import (
	"testing"
	"time"
)

// at returns a call of account 1 in [from, to].
func at(from, to int64, c call) *call {
	c.Account, c.Call, c.Return = 1, from, to
	if c.Answer == "" {
		c.Answer = accepted
	}
	return &c
}

// begin returns an account with the password p0 and the address a0.
func begin() *call { return at(1, 2, call{Kind: signUp, NewPassword: "p0", Address: "a0"}) }

func loginAs(from, to int64, session int, typed string) *call {
	return at(from, to, call{Kind: login, Session: session, Password: typed})
}

func wrongLogin(from, to int64, typed string, a answer) *call {
	return at(from, to, call{Kind: login, Password: typed, Answer: a})
}

func valid(from, to int64, session int) *call {
	return at(from, to, call{Kind: validate, Session: session})
}

func notValid(from, to int64, session int) *call {
	return at(from, to, call{Kind: validate, Session: session, Answer: refused})
}

// logoutOf1 ends session 1.
func logoutOf1(from, to int64, a answer) *call {
	return at(from, to, call{Kind: logout, Session: 1, Answer: a})
}

// change is a password change by session 1, from p0 to p1.
func change(from, to int64, a answer) *call {
	return at(from, to, call{Kind: changePassword, Session: 1, Password: "p0", NewPassword: "p1", Answer: a})
}

func byCode(from, to int64, session, once int, a answer) *call {
	return at(from, to, call{Kind: codeLogin, Session: session, Once: once, Answer: a})
}

// passkey adds or removes passkey 7, by session 1.
func passkey(from, to int64, k kind, a answer) *call { //nolint:unparam // as of the others
	return at(from, to, call{Kind: k, Session: 1, Factor: 7, Answer: a})
}

func byPasskey(from, to int64, session, once int, a answer) *call { //nolint:unparam // as byCode
	return at(from, to, call{Kind: passkeyLogin, Session: session, Factor: 7, Once: once, Answer: a})
}

func operator(from, to int64, k kind) *call {
	return at(from, to, call{Kind: k})
}

// TestModel has a history for each sentence of the promise, and for each schedule in which one of the mechanisms is
// needed.
func TestModel(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fits  bool
		calls []*call
	}{
		{"a live session is accepted", true, []*call{begin(), loginAs(3, 4, 1, "p0"), valid(5, 6, 1)}},
		{"a live session is not refused", false, []*call{begin(), loginAs(3, 4, 1, "p0"), notValid(5, 6, 1)}},
		{"nobody accepts a session that was never begun", false, []*call{begin(), valid(5, 6, 1)}},
		{"while a logout runs either answer is right, in any order", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), logoutOf1(5, 20, accepted),
			notValid(6, 7, 1), valid(8, 9, 1), notValid(10, 11, 1), valid(12, 13, 1),
		}},
		{"one that begins before it returns may be accepted after", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), logoutOf1(5, 20, accepted), valid(19, 30, 1), notValid(21, 22, 1),
		}},
		{"a missing wait: accepted after the return", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), logoutOf1(5, 20, accepted), valid(21, 22, 1),
		}},
		{"refused before the logout began", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), notValid(5, 6, 1), logoutOf1(7, 20, accepted),
		}},
		{"a logout without an answer allows either for good", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), logoutOf1(5, 20, unknown), valid(21, 22, 1), notValid(23, 24, 1), valid(25, 26, 1),
		}},
		{"a retried logout that answers OK is final", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), logoutOf1(5, 20, unknown), logoutOf1(21, 22, accepted), valid(23, 24, 1),
		}},
		{"a live session can log out", false, []*call{begin(), loginAs(3, 4, 1, "p0"), logoutOf1(5, 6, refused)}},
		{"an ended session revokes nothing", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), loginAs(5, 6, 2, "p0"), logoutOf1(7, 8, accepted),
			at(9, 10, call{Kind: revokeSession, Session: 1, Target: 2}),
		}},
		{"a revoked target is refused", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), loginAs(5, 6, 2, "p0"),
			at(7, 8, call{Kind: revokeSession, Session: 1, Target: 2}), valid(9, 10, 2),
		}},
		{"an operator's end of a session is final", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), at(7, 8, call{Kind: revokeOne, Target: 1}), valid(9, 10, 1),
		}},
		{"and of no other", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), loginAs(5, 6, 2, "p0"), at(7, 8, call{Kind: revokeOne, Target: 1}), notValid(9, 10, 2),
		}},
		{"a refused revocation revokes nothing", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), loginAs(5, 6, 2, "p0"), logoutOf1(7, 8, accepted),
			at(9, 10, call{Kind: revokeSession, Session: 1, Target: 2, Answer: refused}), notValid(11, 12, 2),
		}},
		{"a refresh of an ended session", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), logoutOf1(5, 6, accepted), at(7, 8, call{Kind: refresh, Session: 1}),
		}},
		{"the first code takes all that was there", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), byCode(5, 20, 2, 1, accepted), notValid(21, 22, 1), valid(23, 24, 2), wrongLogin(25, 26, "p0", wrongPassword),
		}},
		{"a stranger's session outlives the proof", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), byCode(5, 20, 2, 1, accepted), valid(21, 22, 1),
		}},
		{"a stranger's password does", false, []*call{begin(), byCode(5, 20, 1, 1, accepted), loginAs(21, 22, 2, "p0")}},
		{"the owner's own session does not", false, []*call{begin(), byCode(5, 20, 1, 1, accepted), notValid(21, 22, 1)}},
		{"the second code takes nothing", true, []*call{
			begin(), byCode(3, 4, 1, 1, accepted), byCode(5, 6, 2, 2, accepted), valid(7, 8, 1), valid(9, 10, 2),
		}},
		{"a code logs in twice", false, []*call{begin(), byCode(3, 14, 1, 1, accepted), byCode(5, 16, 2, 1, accepted)}},
		{"a code without an answer may have taken all", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), byCode(5, 6, none, 1, unknown), valid(7, 8, 1), wrongLogin(9, 10, "p0", wrongPassword), notValid(11, 12, 1),
		}},
		{"a passkey logs in", true, []*call{begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), byPasskey(7, 8, 2, 9, accepted), valid(9, 10, 2)}},
		{"an answer of it logs in twice", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), byPasskey(7, 18, 2, 9, accepted), byPasskey(9, 20, 3, 9, accepted),
		}},
		{"it is refused", false, []*call{begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), byPasskey(7, 8, none, 9, refused)}},
		{"the password is enough beside it", false, []*call{begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), loginAs(7, 8, 2, "p0")}},
		{"the password is not enough beside it", true, []*call{begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), wrongLogin(7, 8, "p0", challenged)}},
		{"a factor is asked for that is not there", false, []*call{begin(), wrongLogin(3, 4, "p0", challenged)}},
		{"a removed passkey logs in", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), passkey(7, 8, removePasskey, accepted), byPasskey(9, 10, 2, 9, accepted),
		}},
		{"one that an operator removed does", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), operator(7, 8, removeFactors), byPasskey(9, 10, 2, 9, accepted),
		}},
		{"a stranger's passkey outlives the proof", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), byCode(7, 8, 2, 1, accepted), byPasskey(9, 10, 3, 9, accepted),
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			expect(t, test.fits, test.calls, nil)
		})
	}
}

// TestModelOfAccounts has the histories about the order of logins and changes.
func TestModelOfAccounts(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fits  bool
		calls []*call
	}{
		{"nobody logs in to a deleted account, and nothing of it is accepted", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), operator(5, 20, deleteUser), valid(6, 7, 1), notValid(8, 9, 1), notValid(21, 22, 1),
			wrongLogin(23, 24, "p0", wrongPassword), at(25, 26, call{Kind: suspend, Answer: refused}),
			at(27, 28, call{Kind: revokeOne, Target: 1, Answer: refused}), operator(29, 30, deleteUser),
		}},
		{"a deletion that does not wait", false, []*call{begin(), loginAs(3, 4, 1, "p0"), operator(5, 20, deleteUser), valid(21, 22, 1)}},
		{"the first deletion still runs, and the second has answered", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), operator(5, 40, deleteUser), operator(6, 20, deleteUser), valid(21, 22, 1),
		}},
		{"a login after the deletion", false, []*call{begin(), operator(5, 20, deleteUser), loginAs(21, 22, 1, "p0")}},
		{"an operator is told that a live account is gone", false, []*call{begin(), at(5, 6, call{Kind: suspend, Answer: refused})}},
		{"and that it is there although it is deleted", false, []*call{begin(), operator(5, 6, deleteUser), operator(7, 8, reactivate)}},
		{"a deletion without an answer may happen later", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), at(5, 6, call{Kind: deleteUser, Answer: unknown}), valid(7, 8, 1), loginAs(9, 10, 2, "p0"),
			wrongLogin(11, 12, "p0", wrongPassword), notValid(13, 14, 1),
		}},
		{"a grace is a suspension", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), operator(5, 6, markUser), notValid(7, 8, 1), wrongLogin(9, 10, "p0", disabled),
			operator(11, 12, restoreUser), loginAs(13, 14, 2, "p0"), valid(15, 16, 2), notValid(17, 18, 1),
		}},
		{"a login in the grace", false, []*call{begin(), operator(5, 6, markUser), loginAs(7, 8, 1, "p0")}},
		{"a new password ends the others", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), loginAs(5, 6, 2, "p0"), change(7, 20, accepted),
			valid(8, 9, 2), notValid(21, 22, 2), valid(23, 24, 1), wrongLogin(25, 26, "p0", wrongPassword), loginAs(27, 28, 3, "p1"), valid(29, 30, 3),
		}},
		{"a new password spares the caller's session only", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), loginAs(5, 6, 2, "p0"), change(7, 20, accepted), valid(21, 22, 2),
		}},
		{"a login that raced with it is refused", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), loginAs(5, 30, 2, "p0"), change(7, 20, accepted), notValid(31, 32, 2),
		}},
		{"positions: a login by the old password is not accepted", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), loginAs(5, 30, 2, "p0"), change(7, 20, accepted), valid(31, 32, 2),
		}},
		{"one by the new password, while the change waits, is accepted", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), change(7, 20, accepted), loginAs(10, 11, 2, "p1"), valid(12, 13, 2), valid(21, 22, 2),
		}},
		{"and is not refused", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), change(7, 20, accepted), loginAs(10, 11, 2, "p1"), notValid(21, 22, 2),
		}},
		{"the old password fails once another got in with the new one", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), change(7, 20, accepted), loginAs(10, 11, 2, "p1"), loginAs(12, 13, 3, "p0"),
		}},
		{"rehash: the old password does not come back", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), change(7, 20, accepted), loginAs(21, 22, 2, "p0"),
		}},
		{"recheck: a session that had ended changes nothing", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), change(5, 30, accepted), logoutOf1(6, 10, accepted), loginAs(11, 12, 2, "p0"),
		}},
		{"recheck: nor ends others", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), at(5, 30, call{Kind: revokeOthers, Session: 1}), logoutOf1(6, 10, accepted),
			loginAs(11, 12, 2, "p0"), notValid(31, 32, 2),
		}},
		{"a change without an answer may happen later", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), change(5, 6, unknown), loginAs(7, 8, 2, "p0"), wrongLogin(9, 10, "p0", wrongPassword),
			loginAs(11, 12, 3, "p1"), notValid(13, 14, 2), valid(15, 16, 2), valid(17, 18, 3),
		}},
		{"but only once", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), change(5, 6, unknown), loginAs(7, 8, 2, "p1"), loginAs(9, 10, 3, "p0"),
		}},
		{"a suspended account is out", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), operator(5, 6, suspend), notValid(7, 8, 1), wrongLogin(9, 10, "p0", disabled),
			operator(11, 12, reactivate), notValid(13, 14, 1), loginAs(15, 16, 2, "p0"), valid(17, 18, 2),
		}},
		{"its sessions do not come back", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), operator(5, 6, suspend), operator(11, 12, reactivate), valid(13, 14, 1),
		}},
		{"it does not log in", false, []*call{begin(), operator(5, 6, suspend), loginAs(7, 8, 1, "p0")}},
		{"a suspension is not told to who has no password", false, []*call{
			begin(), operator(5, 6, suspend), wrongLogin(7, 8, "p1", disabled),
		}},
		{"while it is reactivated, replicas may lag", true, []*call{
			begin(), operator(3, 4, suspend), operator(5, 20, reactivate), loginAs(6, 7, 1, "p0"), notValid(8, 9, 1), valid(21, 22, 1),
		}},
		{"and not after", false, []*call{
			begin(), operator(3, 4, suspend), operator(5, 20, reactivate), loginAs(6, 7, 1, "p0"), notValid(21, 22, 1),
		}},
		{"all sessions end", false, []*call{begin(), loginAs(3, 4, 1, "p0"), operator(5, 6, revokeUser), valid(7, 8, 1)}},
		{"they end with the second factors", false, []*call{begin(), loginAs(3, 4, 1, "p0"), operator(5, 6, removeFactors), valid(7, 8, 1)}},
		{"the first code takes all that was there", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), byCode(5, 20, 2, 1, accepted), notValid(21, 22, 1), valid(23, 24, 2), wrongLogin(25, 26, "p0", wrongPassword),
		}},
		{"a stranger's session outlives the proof", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), byCode(5, 20, 2, 1, accepted), valid(21, 22, 1),
		}},
		{"a stranger's password does", false, []*call{begin(), byCode(5, 20, 1, 1, accepted), loginAs(21, 22, 2, "p0")}},
		{"the owner's own session does not", false, []*call{begin(), byCode(5, 20, 1, 1, accepted), notValid(21, 22, 1)}},
		{"the second code takes nothing", true, []*call{
			begin(), byCode(3, 4, 1, 1, accepted), byCode(5, 6, 2, 2, accepted), valid(7, 8, 1), valid(9, 10, 2),
		}},
		{"a code logs in twice", false, []*call{begin(), byCode(3, 14, 1, 1, accepted), byCode(5, 16, 2, 1, accepted)}},
		{"a code without an answer may have taken all", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), byCode(5, 6, none, 1, unknown), valid(7, 8, 1), wrongLogin(9, 10, "p0", wrongPassword), notValid(11, 12, 1),
		}},
		{"a passkey logs in", true, []*call{begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), byPasskey(7, 8, 2, 9, accepted), valid(9, 10, 2)}},
		{"an answer of it logs in twice", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), byPasskey(7, 18, 2, 9, accepted), byPasskey(9, 20, 3, 9, accepted),
		}},
		{"it is refused", false, []*call{begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), byPasskey(7, 8, none, 9, refused)}},
		{"the password is enough beside it", false, []*call{begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), loginAs(7, 8, 2, "p0")}},
		{"the password is not enough beside it", true, []*call{begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), wrongLogin(7, 8, "p0", challenged)}},
		{"a factor is asked for that is not there", false, []*call{begin(), wrongLogin(3, 4, "p0", challenged)}},
		{"a removed passkey logs in", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), passkey(7, 8, removePasskey, accepted), byPasskey(9, 10, 2, 9, accepted),
		}},
		{"one that an operator removed does", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), operator(7, 8, removeFactors), byPasskey(9, 10, 2, 9, accepted),
		}},
		{"a stranger's passkey outlives the proof", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), byCode(7, 8, 2, 1, accepted), byPasskey(9, 10, 3, 9, accepted),
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			expect(t, test.fits, test.calls, nil)
		})
	}
}

// TestModelOfRedis: a flush may delete sessions that began before it ended, and no others.
func TestModelOfRedis(t *testing.T) {
	t.Parallel()
	lost := func() []*call {
		return []*call{begin(), loginAs(3, 4, 1, "p0"), at(11, 12, call{Kind: refresh, Session: 1, Answer: refused}), valid(13, 14, 1)}
	}
	expect(t, true, lost(), []window{{8, 9}})
	expect(t, false, lost(), []window{{1, 2}})
	expect(t, false, lost(), []window{{20, 21}})
	expect(t, false, lost(), nil)
}

func expect(t *testing.T, fits bool, calls []*call, flushes []window) {
	t.Helper()
	found, err := check(calls, flushes, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if fits && len(found) > 0 {
		t.Error("this is right, and was found to be a violation:", found[0])
	}
	if !fits && len(found) == 0 {
		t.Error("this is a violation, and was found to be right")
	}
	if !fits && len(found) > 0 && len(found[0].stuck) == 0 {
		t.Error("the violation names no event:", found[0])
	}
}
