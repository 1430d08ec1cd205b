package mail

// Notice is what happened to an account. The values are in rows that outlive a
// deployment, and name the templates: add, never change.
type Notice string

// The notices. A mail says what happened, when, and what to do; it holds nothing that
// whoever caused it has chosen.
const (
	// PasswordChanged: the password was changed and sessions ended. Never left out.
	PasswordChanged Notice = "password_changed"
	// RefreshTokenReused: a spent refresh token came back, and its session was ended.
	RefreshTokenReused Notice = "refresh_token_reused"
	// PasswordLoginClosed: after too many wrong passwords in a row none is looked at
	// until a reset.
	PasswordLoginClosed Notice = "password_login_closed"
	// LoginsLimited: many wrong passwords were tried, and logins are slowed down.
	LoginsLimited Notice = "logins_limited"
	// NewDeviceLogin: somebody logged in from a client that the account had not seen.
	NewDeviceLogin Notice = "new_device_login"
	// SignUpAttempted: somebody tried to sign up with the address of this account.
	SignUpAttempted Notice = "sign_up_attempted"
)

// subject is empty for a kind that this version does not know.
func (n Notice) subject(product string) string {
	switch n {
	case PasswordChanged:
		return "Your password for " + product + " was changed"
	case RefreshTokenReused:
		return "A session of your account at " + product + " was signed out"
	case PasswordLoginClosed:
		return "Reset your password to sign in to " + product
	case LoginsLimited:
		return "Wrong passwords were tried for your account at " + product
	case NewDeviceLogin:
		return "New sign-in to your account at " + product
	case SignUpAttempted:
		return "You already have an account at " + product
	}
	return ""
}

func (n Notice) known() bool { return n.subject("") != "" }
