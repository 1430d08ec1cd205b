package history

import "testing"

// beginProved is begin for an account whose address is proved.
func beginProved() *call {
	return at(1, 2, call{Kind: signUp, NewPassword: "p0", Address: "a0", Proved: true})
}

// shown is a validation of session 1 that showed an address.
func shown(from, to int64, address string) *call {
	return at(from, to, call{Kind: validate, Session: 1, Address: address})
}

func move(from, to int64, address string, a answer) *call {
	return at(from, to, call{Kind: confirmChange, Address: address, Answer: a})
}

func undo(from, to int64, a answer) *call { return at(from, to, call{Kind: undoChange, Answer: a}) }

// loginAt is a login as session 2 with p0 and a typed address.
func loginAt(from, to int64, address string, a answer) *call {
	c := at(from, to, call{Kind: login, Address: address, Password: "p0", Answer: a})
	if a == accepted {
		c.Session = 2
	}
	return c
}

// TestModelOfAddresses has the histories about changes of address.
func TestModelOfAddresses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		fits  bool
		calls []*call
	}{
		{"the first address is shown", true, []*call{begin(), loginAs(3, 4, 1, "p0"), shown(5, 6, "a0")}},
		{"no other is", false, []*call{begin(), loginAs(3, 4, 1, "p0"), shown(5, 6, "a1")}},
		{"while a change runs either is right", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), move(5, 20, "a1", accepted), shown(6, 7, "a1"), shown(8, 9, "a0"), shown(10, 11, "a1"), shown(21, 22, "a1"),
		}},
		{"a missing wait: the old one after the return", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), move(5, 20, "a1", accepted), shown(21, 22, "a0"),
		}},
		{"a change ends no session", false, []*call{begin(), loginAs(3, 4, 1, "p0"), move(5, 6, "a1", accepted), notValid(7, 8, 1)}},
		{"a refused change changes nothing", false, []*call{
			begin(), loginAs(3, 4, 1, "p0"), move(5, 6, "a1", refused), shown(7, 8, "a1"),
		}},
		{"one without an answer may be shown, or not", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), move(5, 6, "a1", unknown), shown(7, 8, "a0"), shown(9, 10, "a1"), shown(11, 12, "a0"),
		}},
		{"the new address logs in, and the one before does not", true, []*call{
			begin(), loginAt(3, 4, "a1", wrongPassword), move(5, 6, "a1", accepted), loginAt(7, 8, "a0", wrongPassword), loginAt(9, 10, "a1", accepted),
		}},
		{"the one before logs in", false, []*call{begin(), move(5, 6, "a1", accepted), loginAt(7, 8, "a0", accepted)}},
		{"the new one does not", false, []*call{begin(), move(5, 6, "a1", accepted), loginAt(7, 8, "a1", wrongPassword)}},
		{"after the new one has logged in, the one before does", false, []*call{
			begin(), move(5, 20, "a1", accepted), loginAt(6, 7, "a1", accepted), at(8, 9, call{Kind: login, Session: 3, Address: "a0", Password: "p0"}),
		}},
		{"a change proves the address, so a code takes nothing", true, []*call{
			begin(), loginAs(3, 4, 1, "p0"), move(5, 6, "a1", accepted), byCode(7, 8, 2, 1, accepted), valid(9, 10, 1), wrongLogin(11, 12, "p1", wrongPassword),
		}},
		{"an undo puts back, and ends the sessions", true, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), move(5, 6, "a1", accepted), undo(7, 8, accepted), notValid(9, 10, 1),
			loginAt(11, 12, "a0", accepted), at(13, 14, call{Kind: validate, Session: 2, Address: "a0"}),
		}},
		{"no session survives it", false, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), move(5, 6, "a1", accepted), undo(7, 8, accepted), valid(9, 10, 1),
		}},
		{"an address that nobody had proved is not put back", false, []*call{begin(), move(5, 6, "a1", accepted), undo(7, 8, accepted)}},
		{"the thief's password logs in", false, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), move(5, 6, "a1", accepted), change(7, 8, accepted), undo(9, 10, accepted), loginAs(11, 12, 2, "p1"),
		}},
		{"the old one comes back", false, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), move(5, 6, "a1", accepted), change(7, 8, accepted), undo(9, 10, accepted), loginAs(11, 12, 2, "p0"),
		}},
		{"a password from before the change stays", true, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), change(5, 6, accepted), move(7, 8, "a1", accepted), undo(9, 10, accepted), loginAs(11, 12, 2, "p1"),
		}},
		{"the thief's passkey logs in", false, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), move(5, 6, "a1", accepted), passkey(7, 8, addPasskey, accepted), undo(9, 10, accepted),
			byPasskey(11, 12, 2, 9, accepted),
		}},
		{"or keeps the owner's password out", false, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), move(5, 6, "a1", accepted), passkey(7, 8, addPasskey, accepted), undo(9, 10, accepted),
			wrongLogin(11, 12, "p0", challenged),
		}},
		{"a passkey from before the change stays", true, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), passkey(5, 6, addPasskey, accepted), move(7, 8, "a1", accepted), undo(9, 10, accepted),
			wrongLogin(11, 12, "p0", challenged), byPasskey(13, 14, 2, 9, accepted),
		}},
		{"the end of sessions does not end the undo", false, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), move(5, 6, "a1", accepted), operator(7, 8, revokeUser), undo(9, 10, refused),
		}},
		{"an undo goes back before all changes", false, []*call{
			beginProved(), loginAs(3, 4, 1, "p0"), move(5, 6, "a1", accepted), move(7, 8, "a2", accepted), undo(9, 10, accepted),
			loginAs(11, 12, 2, "p0"), at(13, 14, call{Kind: validate, Session: 2, Address: "a1"}),
		}},
		{"nothing is undone twice", false, []*call{
			beginProved(), move(5, 6, "a1", accepted), undo(7, 8, accepted), undo(9, 10, accepted),
		}},
		{"a suspended account changes no address", false, []*call{begin(), operator(3, 4, suspend), move(5, 6, "a1", accepted)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			expect(t, test.fits, test.calls, nil)
		})
	}
}
