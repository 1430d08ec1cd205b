package history

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// kind is a method, or signUp for the creation of an account.
type kind string

const (
	signUp         kind = "SignUp"
	login          kind = "Login"
	validate       kind = "ValidateToken"
	refresh        kind = "RefreshToken"
	logout         kind = "Logout"
	revokeSession  kind = "RevokeSession"
	revokeOthers   kind = "RevokeOtherSessions"
	changePassword kind = "ChangePassword"
	resetPassword  kind = "ResetPassword"
	suspend        kind = "SuspendUser"
	reactivate     kind = "ReactivateUser"
	revokeUser     kind = "RevokeUserSessions"
	revokeOne      kind = "RevokeUserSession"
	removeFactors  kind = "RemoveUserFactors"
	codeLogin      kind = "AnswerChallenge by mailed code"
	addPasskey     kind = "FinishPasskeyRegistration"
	removePasskey  kind = "RemovePasskey"
	passkeyLogin   kind = "AnswerChallenge by passkey"
	verifyEmail    kind = "VerifyEmail"
	addApp         kind = "ConfirmTotp"
	removeApp      kind = "RemoveTotp"
	appLogin       kind = "AnswerChallenge by app"
	recoveryLogin  kind = "AnswerChallenge by recovery code"
	deleteUser     kind = "DeleteUser"
	// markUser is DeleteUser with a grace, restoreUser ends that.
	markUser      kind = "DeleteUser with a grace"
	restoreUser   kind = "RestoreUser"
	confirmChange kind = "ConfirmEmailChange"
	undoChange    kind = "UndoEmailChange"
)

// begins reports whether the call starts a session.
func (k kind) begins() bool { return k == login || k == passkeyLogin || k.usesUp() }

// usesUp reports whether the call uses a code up before it starts a session. If the session cannot start, the code is used
// up nevertheless.
func (k kind) usesUp() bool { return k == codeLogin || k == appLogin || k == recoveryLogin }

// changesFactors reports whether the call adds or removes a second factor.
func (k kind) changesFactors() bool {
	return k == addPasskey || k == removePasskey || k == addApp || k == removeApp
}

// revokesOne reports whether the call names the session that it ends.
func (k kind) revokesOne() bool { return k == logout || k == revokeSession || k == revokeOne }

// activates reports whether the call makes an account usable again.
func (k kind) activates() bool { return k == reactivate || k == restoreUser }

// endsNone reports whether the call changes the whole account and ends no session.
func (k kind) endsNone() bool {
	return k.activates() || k.changesFactors() || k == confirmChange || k == appLogin || k == recoveryLogin
}

// commits reports whether the call changes the whole account.
func (k kind) commits() bool {
	switch k {
	case revokeOthers, changePassword, resetPassword, suspend, reactivate, revokeUser, removeFactors, deleteUser, markUser, restoreUser,
		codeLogin, addPasskey, removePasskey, confirmChange, undoChange, verifyEmail, addApp, removeApp, appLogin, recoveryLogin:
		return true
	case signUp, login, validate, refresh, logout, revokeSession, revokeOne, passkeyLogin:
	}
	return false
}

// answer is the result that the caller got.
type answer string

const (
	unknown       answer = "no answer"
	accepted      answer = "OK"
	refused       answer = "refused" // the token, or the session
	wrongPassword answer = "wrong password"
	disabled      answer = "suspended"
	challenged    answer = "asked for a second factor"
)

// none is no session, no factor, no challenge and no secret.
const none = 0

// call is one call as its client saw it.
type call struct {
	Account int
	Kind    kind
	// Session is the session whose token the call carried, or the one that a login made. Sessions count from 1 in each
	// account.
	Session int
	// Target is the session that RevokeSession or RevokeUserSession named.
	Target int
	// Password is the password that was typed, NewPassword the one to be set.
	Password, NewPassword string
	// Address is the one that was typed at a login, that signUp and ConfirmEmailChange set, or that ValidateToken showed.
	// Empty: nobody looked at it.
	Address string
	// Proved is true if signUp made an account whose address is proved.
	Proved bool
	// Factor is the number of the passkey, app or set of recovery codes that was used, added or removed. Once is that of what
	// works once: a mail, a recovery code, the answer of a passkey, or the step of an app's code. Challenge is that of the
	// challenge that a login was answered with, or that was answered. But for steps, they count from 1 in each account.
	Factor, Once, Challenge int
	Answer                  answer
	// Call and Return are numbers from one counter of all clients: if a call returned before another one began, its
	// Return is lower than the other's Call.
	Call, Return int64
	// Lost means that Redis may have lost the session by then.
	Lost bool
	// limited means that the limiter refused the call.
	limited bool
	// token is that of the challenge that a login was answered with.
	token string
	// Where is the replica, Error its error text for people.
	Where, Error string
}

// endsNone reports whether the call changes the whole account and ends no session.
func (c *call) endsNone() bool { return c.Kind.endsNone() || c.Kind == verifyEmail && !c.byMailAlone() }

// byMailAlone reports whether nothing but a mail shows who makes a VerifyEmail.
func (c *call) byMailAlone() bool { return c.Password == "" && c.Session == none }

func (c *call) target() int {
	if c.Kind == logout {
		return c.Session
	}
	return c.Target
}

// String is a line for people.
func (c *call) String() string {
	text := fmt.Sprintf("[%d, %d] %s %s", c.Call, c.Return, c.Where, c.Kind)
	if c.Session != none {
		text += fmt.Sprintf(" session %d", c.Session)
	}
	if c.Target != none {
		text += fmt.Sprintf(" target %d", c.Target)
	}
	if c.Password != "" {
		text += " with " + c.Password
	}
	if c.NewPassword != "" {
		text += " to " + c.NewPassword
	}
	if c.Address != "" {
		text += " address " + c.Address
	}
	if c.Factor != none {
		text += fmt.Sprintf(" factor %d", c.Factor)
	}
	if c.Once != none {
		text += fmt.Sprintf(" secret %d", c.Once)
	}
	if c.Challenge != none {
		text += fmt.Sprintf(" challenge %d", c.Challenge)
	}
	text += ": " + string(c.Answer)
	if c.Error != "" {
		text += " (" + c.Error + ")"
	}
	return text
}

// phase is the part of a call that an event is.
type phase string

const (
	happens phase = ""
	begins  phase = "begins: "
	ends    phase = "is final: "
)

// event is the unit that porcupine orders.
type event struct {
	*call
	phase phase
}

// String is a line for people.
func (e event) String() string { return string(e.phase) + e.call.String() }

// operations returns the events of a call with the intervals in which they happen.
func (c *call) operations() []porcupine.Operation {
	// The end needs a place between two numbers of the counter.
	const scale = 2
	at := func(p phase, from, to int64) porcupine.Operation {
		return porcupine.Operation{Input: event{c, p}, Call: from, Return: to}
	}
	from, to := c.Call*scale, c.Return*scale
	var all []porcupine.Operation
	switch {
	case c.Kind.revokesOne() && c.Answer != refused:
		all = append(all, at(begins, from, from))
		if c.Answer == unknown {
			return all
		}
		all = append(all, at(ends, to+1, to+1))
	case c.Kind.commits() && c.Answer == unknown:
		return []porcupine.Operation{at(begins, from, from)}
	case c.Kind.commits() && c.Answer == accepted:
		all = append(all, at(ends, to+1, to+1))
	case c.Answer == unknown:
		return nil
	}
	return append(all, at(happens, from, to))
}
