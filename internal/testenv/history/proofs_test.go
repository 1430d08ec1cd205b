package history

import "testing"

// byMail is a VerifyEmail by the mail alone, byOwner one with the password p0, and bySession1 one with session 1.
func byMail(from, to int64, once int, a answer) *call {
	return at(from, to, call{Kind: verifyEmail, Once: once, Answer: a})
}

func byOwner(from, to int64, typed string, once int, a answer) *call { //nolint:unparam // as of byMail
	return at(from, to, call{Kind: verifyEmail, Password: typed, Once: once, Answer: a})
}

func bySession1(from, to int64, once int, a answer) *call { //nolint:unparam // as of byMail
	return at(from, to, call{Kind: verifyEmail, Session: 1, Once: once, Answer: a})
}

// TestModelOfProofs has the histories about VerifyEmail.
func TestModelOfProofs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fits  bool
		calls []*call
	}{
		{"the mail alone takes all that was there", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), byMail(5, 20, 1, accepted), valid(6, 7, 1), notValid(21, 22, 1), wrongLogin(23, 24, "p0", wrongPassword),
		}},
		{"a stranger's session outlives it", false, []*call{begin(), loginAs(3, 4, 1, "p0"), byMail(5, 20, 1, accepted), valid(21, 22, 1)}},
		{"a stranger's password does", false, []*call{begin(), byMail(5, 20, 1, accepted), loginAs(21, 22, 1, "p0")}},
		{"a stranger's app does", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), appOf1(5, 6, addApp, accepted), byMail(7, 8, 1, accepted),
			at(9, 10, call{Kind: codeLogin, Once: 2, Challenge: 3, Answer: challenged}),
		}},
		{"a stranger's challenge does", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), appOf1(5, 6, addApp, accepted), asked(7, 8, 1), byMail(9, 10, 2, accepted),
			answered(11, 12, appLogin, 1, 101, 2, accepted),
		}},
		{"a proved address loses nothing to it", true, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), byMail(5, 6, 1, accepted), valid(7, 8, 1), loginAs(9, 10, 2, "p0"),
		}},
		{"nor is a session of it refused", false, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), byMail(5, 6, 1, accepted), notValid(7, 8, 1),
		}},
		{"the password keeps all", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), byOwner(5, 6, "p0", 1, accepted), valid(7, 8, 1), loginAs(9, 10, 2, "p0"),
		}},
		{"the password throws the sessions away", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), byOwner(5, 6, "p0", 1, accepted), notValid(7, 8, 1),
		}},
		{"or itself", false, []*call{begin(), byOwner(5, 6, "p0", 1, accepted), wrongLogin(7, 8, "p0", wrongPassword)}},
		{"a session keeps all", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), bySession1(5, 6, 1, accepted), valid(7, 8, 1), loginAs(9, 10, 2, "p0"),
		}},
		{"a session throws the sessions away", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), bySession1(5, 6, 1, accepted), notValid(7, 8, 1),
		}},
		{"after it the mail alone takes nothing", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), bySession1(5, 6, 1, accepted), byMail(7, 8, 2, accepted), valid(9, 10, 1), loginAs(11, 12, 2, "p0"),
		}},
		{"a mailed code takes something after it", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), byOwner(5, 6, "p0", 1, accepted), byCode(7, 8, 2, 2, accepted), notValid(9, 10, 1),
		}},
		{"a wrong password proves", false, []*call{begin(), byOwner(3, 4, "p1", 1, accepted)}},
		{"the right one is wrong", false, []*call{begin(), byOwner(3, 4, "p0", 1, wrongPassword)}},
		{"an ended session proves", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), logoutOf1(5, 6, accepted), bySession1(7, 8, 1, accepted),
		}},
		{"a mail proves twice", false, []*call{begin(), byOwner(3, 14, "p0", 1, accepted), byOwner(4, 15, "p0", 1, accepted)}},
		{"one without an answer may have taken all", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), byMail(5, 6, 1, unknown), valid(7, 8, 1), wrongLogin(9, 10, "p0", wrongPassword), notValid(11, 12, 1),
		}},
		{"a suspended account is proved", false, []*call{begin(), operator(3, 4, suspend), byMail(5, 6, 1, accepted)}},
		{"a deleted one is", false, []*call{begin(), operator(3, 4, deleteUser), byMail(5, 6, 1, accepted)}},
		{"what is proved can be undone", true, []*call{
			begin(), byOwner(3, 4, "p0", 1, accepted), move(5, 6, "a1", accepted), undo(7, 8, accepted), loginAt(9, 10, "a0", accepted),
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			expect(t, test.fits, test.calls, nil)
		})
	}
}
