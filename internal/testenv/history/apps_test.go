package history

import "testing"

// factorApp is app 5 with its recovery codes. Its confirmation uses the code of step 100 up.
const factorApp = 5

// appOf1 adds or removes app 5, by session 1.
func appOf1(from, to int64, k kind, a answer) *call { //nolint:unparam // as of the others
	c := at(from, to, call{Kind: k, Session: 1, Answer: a})
	if k == addApp {
		c.Factor, c.Once = factorApp, 100
	}
	return c
}

// asked is a login with p0 that is answered with a challenge.
func asked(from, to int64, challenge int) *call {
	return at(from, to, call{Kind: login, Password: "p0", Answer: challenged, Challenge: challenge})
}

// answered answers a challenge as a session, or as none if it is not accepted.
func answered(from, to int64, k kind, challenge, once, session int, a answer) *call {
	return at(from, to, call{Kind: k, Factor: factorApp, Challenge: challenge, Once: once, Session: session, Answer: a})
}

// TestModelOfApps has the histories about authenticator apps and recovery codes.
func TestModelOfApps(t *testing.T) {
	t.Parallel()
	withApp := func(rest ...*call) []*call {
		return append([]*call{begin(), loginAs(3, 4, 1, "p0"), appOf1(5, 6, addApp, accepted)}, rest...)
	}
	const app, code = appLogin, recoveryLogin
	for _, test := range []struct {
		name  string
		fits  bool
		calls []*call
	}{
		{"a code of the app answers the challenge", true, withApp(asked(7, 8, 1), answered(9, 10, app, 1, 101, 2, accepted), valid(11, 12, 2))},
		{"the session of before stays", false, withApp(notValid(7, 8, 1))},
		{"the password is enough beside the app", false, withApp(loginAs(7, 8, 2, "p0"))},
		{"a mailed code is enough beside it", false, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), appOf1(5, 6, addApp, accepted), byCode(7, 8, 2, 1, accepted),
		}},
		{"a mailed code and one of the app", true, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), appOf1(5, 6, addApp, accepted),
			at(7, 8, call{Kind: codeLogin, Once: 1, Challenge: 2, Answer: challenged}), answered(9, 10, app, 2, 101, 2, accepted), valid(11, 12, 2),
		}},
		{"a good code is refused", false, withApp(asked(7, 8, 1), answered(9, 10, app, 1, 101, none, refused))},
		{"a code logs in twice", false, withApp(
			asked(7, 8, 1), asked(9, 10, 2), answered(11, 20, app, 1, 101, 2, accepted), answered(12, 21, app, 2, 101, 3, accepted),
		)},
		{"an older code than the last logs in", false, withApp(
			asked(7, 8, 1), asked(9, 10, 2), answered(11, 12, app, 1, 102, 2, accepted), answered(13, 14, app, 2, 101, 3, accepted),
		)},
		{"the code of the confirmation logs in", false, withApp(asked(7, 8, 1), answered(9, 10, app, 1, 100, 2, accepted))},
		{"a code without an answer may be used up", true, withApp(
			asked(7, 8, 1), asked(9, 10, 2), answered(11, 12, app, 1, 101, none, unknown), answered(13, 14, app, 2, 101, none, refused),
		)},
		{"or not", true, withApp(
			asked(7, 8, 1), asked(9, 10, 2), answered(11, 12, app, 1, 101, none, unknown), answered(13, 14, app, 2, 101, 2, accepted),
		)},
		{"a recovery code logs in", true, withApp(asked(7, 8, 1), answered(9, 10, code, 1, 8, 2, accepted), valid(11, 12, 2))},
		{"a recovery code logs in twice", false, withApp(
			asked(7, 8, 1), asked(9, 10, 2), answered(11, 20, code, 1, 8, 2, accepted), answered(12, 21, code, 2, 8, 3, accepted),
		)},
		{"another one does", true, withApp(
			asked(7, 8, 1), asked(9, 10, 2), answered(11, 20, code, 1, 8, 2, accepted), answered(12, 21, code, 2, 9, 3, accepted),
		)},
		{"a challenge is answered twice", false, withApp(
			asked(7, 8, 1), answered(9, 20, code, 1, 8, 2, accepted), answered(10, 21, code, 1, 9, 3, accepted),
		)},
		{"one that was never opened is answered", false, withApp(answered(7, 8, app, 1, 101, 2, accepted))},
		{"the end of the sessions ends a challenge", true, withApp(
			asked(7, 8, 1), operator(9, 10, revokeUser), answered(11, 12, app, 1, 101, none, refused),
		)},
		{"a challenge outlives the end of the sessions", false, withApp(
			asked(7, 8, 1), operator(9, 10, revokeUser), answered(11, 12, app, 1, 101, 2, accepted),
		)},
		{"the end of one session ends a challenge", false, withApp(
			asked(7, 8, 1), logoutOf1(9, 10, accepted), answered(11, 12, app, 1, 101, none, refused),
		)},
		{"a challenge outlives a new password", false, withApp(
			asked(7, 8, 1), change(9, 10, accepted), answered(11, 12, app, 1, 101, 2, accepted),
		)},
		{"or a change of address", false, withApp(
			asked(7, 8, 1), move(9, 10, "a1", accepted), answered(11, 12, app, 1, 101, 2, accepted),
		)},
		{"a session that an answer began before the end goes on", false, withApp(
			asked(7, 8, 1), answered(9, 30, app, 1, 101, 2, accepted), operator(10, 20, revokeUser), valid(31, 32, 2),
		)},
		{"a removed app is asked for", false, withApp(appOf1(7, 8, removeApp, accepted), asked(9, 10, 1))},
		{"a removed app answers", false, withApp(
			asked(7, 8, 1), appOf1(9, 10, removeApp, accepted), answered(11, 12, app, 1, 101, 2, accepted),
		)},
		{"its recovery codes do", false, withApp(
			asked(7, 8, 1), appOf1(9, 10, removeApp, accepted), answered(11, 12, code, 1, 8, 2, accepted),
		)},
		{"without it the password is enough", true, withApp(appOf1(7, 8, removeApp, accepted), loginAs(9, 10, 2, "p0"), valid(11, 12, 2))},
		{"beside a passkey the recovery codes stay", true, withApp(
			passkey(7, 8, addPasskey, accepted), appOf1(9, 10, removeApp, accepted), asked(11, 12, 1), answered(13, 14, code, 1, 8, 2, accepted),
		)},
		{"and go with it", false, withApp(
			passkey(7, 8, addPasskey, accepted), appOf1(9, 10, removeApp, accepted), asked(11, 12, 1), passkey(13, 14, removePasskey, accepted),
			answered(15, 16, code, 1, 8, 2, accepted),
		)},
		{"another app takes the place of the one before", false, withApp(
			asked(7, 8, 1), at(9, 10, call{Kind: addApp, Session: 1, Factor: 6, Once: 100}), answered(11, 12, app, 1, 101, 2, accepted),
		)},
		{"and its recovery codes do", false, withApp(
			asked(7, 8, 1), at(9, 10, call{Kind: addApp, Session: 1, Factor: 6, Once: 100}), answered(11, 12, code, 1, 8, 2, accepted),
		)},
		{"one that an operator removed is asked for", false, withApp(operator(7, 8, removeFactors), asked(9, 10, 1))},
		{"a stranger's app outlives the proof", false, withApp(
			byCode(7, 8, 2, 1, accepted), at(9, 10, call{Kind: codeLogin, Once: 2, Challenge: 3, Answer: challenged}),
		)},
		{"an ended session adds an app", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), logoutOf1(5, 6, accepted), appOf1(7, 8, addApp, accepted),
		}},
		{"an undo takes the thief's app", true, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), move(5, 6, "a1", accepted), appOf1(7, 8, addApp, accepted), undo(9, 10, accepted), loginAs(11, 12, 2, "p0"),
		}},
		{"and leaves that of the owner", true, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), appOf1(5, 6, addApp, accepted), move(7, 8, "a1", accepted), undo(9, 10, accepted),
			asked(11, 12, 1), answered(13, 14, code, 1, 8, 2, accepted),
		}},
		{"but not the codes of the thief's", false, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), move(7, 8, "a1", accepted), appOf1(9, 10, addApp, accepted),
			undo(11, 12, accepted), asked(13, 14, 1), answered(15, 16, code, 1, 8, 2, accepted),
		}},
		{"a suspended account answers", false, withApp(asked(7, 8, 1), operator(9, 10, suspend), answered(11, 12, app, 1, 101, 2, accepted))},
		{"a deleted one is asked for a factor", false, withApp(operator(7, 8, deleteUser), asked(9, 10, 1))},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			expect(t, test.fits, test.calls, nil)
		})
	}
}
