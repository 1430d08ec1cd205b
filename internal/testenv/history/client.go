//go:build linux

package history

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// account is the clients' knowledge of one account. All of it may be out of date.
type account struct {
	number int
	id     uuid.UUID

	// resetting, moving and proving keep a second client from planting a token in place of the first one's.
	resetting, moving, proving sync.Mutex
	// changingKeys is held while a passkey or an app is added or removed, and while a passkey is asked for an answer.
	changingKeys sync.Mutex

	mu       sync.Mutex
	held     []*session
	password string   // believed to be the current one
	tried    []string // all that were or may have been set
	// address is believed to be the current one, addresses are all that were or may have been set, the first one first.
	address   string
	addresses []string
	// suspended is a belief. lockedOut means that the limiter refuses logins.
	suspended, lockedOut bool
	calls, unknown       int
	// deleted is a belief. last counts the calls since.
	deleted bool
	last    int
	// passkey was added and not removed by its owner. A proof of the address, or an operator, may have removed it. keys are
	// all that the account has had. secrets counts passkeys, and what may log in once.
	passkey *key
	keys    []*key
	secrets int
	// apps and recoveries are all that the account has had. The last ones may have been removed, too.
	apps       []*app
	recoveries []*recovery
}

// session is the session of one login.
type session struct {
	account *account
	number  int
	id      string

	mu sync.Mutex
	// access is the newest access token; all of the session's are equally good.
	access, refreshToken string
	// revoked is a belief.
	revoked bool
	// request is kept until it has an answer, as the contract requires of clients. The mutex also keeps other clients
	// from refreshing with the same token.
	refreshing sync.Mutex
	request    string
}

func (s *session) token() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.access
}

func (s *session) take(tokens *latchkeyv1.Tokens) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.access, s.refreshToken = tokens.GetAccessToken(), tokens.GetRefreshToken()
}

// Deadlines. A validation has a longer one than every freeze: validations that wait in a frozen replica are those that
// are answered wrongly if a wait is missing.
const (
	readTime   = 10 * time.Second
	changeTime = 5 * time.Second
)

// login logs in with the password of the sign-up. It returns nil if the login was refused.
func (w *world) login(ctx context.Context, r *replica, a *account) (*session, *call) {
	return w.loginAt(ctx, r, a, a.believed(), firstPassword)
}

// believed returns the address that is believed to be the current one.
func (a *account) believed() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.address
}

// loginAt is login with a typed address and password.
func (w *world) loginAt(ctx context.Context, r *replica, a *account, address, typed string) (*session, *call) {
	s := &session{account: a}
	c := &call{Account: a.number, Kind: login, Address: address, Password: typed}
	w.perform(ctx, r, changeTime, c, func(ctx context.Context, to *clients) error {
		response, err := to.auth.Login(ctx, &latchkeyv1.LoginRequest{Email: address, Password: typed})
		if err != nil {
			return err
		}
		if challenge := response.GetChallenge(); challenge != nil {
			c.open(a, challenge)
			return errChallenged
		}
		w.hold(s, c, response.GetTokens())
		return nil
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	switch c.Answer {
	case accepted:
		a.address, a.password, a.suspended = address, typed, false
		return s, c
	case disabled:
		a.suspended = true
	case unknown:
		a.lockedOut = a.lockedOut || c.limited
	case challenged:
		a.address, a.password = address, typed
	case wrongPassword, refused:
	}
	return nil, c
}

func (w *world) validate(ctx context.Context, r *replica, s *session) *call {
	return w.look(ctx, r, s, false)
}

// look is validate, and notes the address that the answer shows if it is asked to. Such an answer is one more event that
// porcupine has to order.
func (w *world) look(ctx context.Context, r *replica, s *session, atAddress bool) *call {
	c := &call{Account: s.account.number, Kind: validate, Session: s.number}
	token := s.token()
	return w.perform(ctx, r, readTime, c, func(ctx context.Context, to *clients) error {
		response, err := to.auth.ValidateToken(ctx, &latchkeyv1.ValidateTokenRequest{AccessToken: token})
		if err != nil {
			return err
		}
		if !response.GetValid() {
			c.Error = response.GetReason().String()
			return errRefused
		}
		if atAddress {
			c.Address = response.GetUser().GetEmail()
		}
		return nil
	})
}

// refresh returns nil if another client is refreshing: two clients who share a token look like a theft.
func (w *world) refresh(ctx context.Context, r *replica, s *session) *call {
	if !s.refreshing.TryLock() {
		return nil
	}
	defer s.refreshing.Unlock()
	if s.request == "" {
		s.request = uuid.NewString()
	}
	s.mu.Lock()
	request := &latchkeyv1.RefreshTokenRequest{RefreshToken: s.refreshToken, RequestId: s.request}
	s.mu.Unlock()
	c := &call{Account: s.account.number, Kind: refresh, Session: s.number}
	w.perform(ctx, r, changeTime, c, func(ctx context.Context, to *clients) error {
		response, err := to.auth.RefreshToken(ctx, request)
		if err != nil {
			return err
		}
		s.take(response.GetTokens())
		return nil
	})
	if c.Answer != unknown {
		s.request = ""
	}
	return c
}

func (w *world) logout(ctx context.Context, r *replica, s *session, deadline time.Duration) *call {
	s.mu.Lock()
	request := &latchkeyv1.LogoutRequest{RefreshToken: s.refreshToken}
	s.mu.Unlock()
	c := &call{Account: s.account.number, Kind: logout, Session: s.number}
	w.perform(ctx, r, deadline, c, func(ctx context.Context, to *clients) error {
		_, err := to.auth.Logout(ctx, request)
		return err
	})
	s.believe(c)
	return c
}

// believe notes the effect of a revoking call on the session.
func (s *session) believe(c *call) {
	if c.Answer == accepted {
		s.mu.Lock()
		s.revoked = true
		s.mu.Unlock()
	}
}

func (s *session) isRevoked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.revoked
}

func bearer(ctx context.Context, token string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
}

func (w *world) revokeSession(ctx context.Context, r *replica, by, target *session) *call {
	c := &call{Account: by.account.number, Kind: revokeSession, Session: by.number, Target: target.number}
	token := by.token()
	w.perform(ctx, r, changeTime, c, func(ctx context.Context, to *clients) error {
		_, err := to.sessions.RevokeSession(bearer(ctx, token), &latchkeyv1.RevokeSessionRequest{SessionId: target.id})
		return err
	})
	target.believe(c)
	return c
}

// revokeOne is an operator's revokeSession.
func (w *world) revokeOne(ctx context.Context, r *replica, target *session) *call {
	c := &call{Account: target.account.number, Kind: revokeOne, Target: target.number}
	w.perform(ctx, r, changeTime, c, func(ctx context.Context, to *clients) error {
		_, err := to.admin.RevokeUserSession(bearer(ctx, adminKey), &latchkeyv1.RevokeUserSessionRequest{
			UserId: target.account.id.String(), SessionId: target.id,
		})
		return err
	})
	target.believe(c)
	return c
}

func (w *world) revokeOthers(ctx context.Context, r *replica, by *session) *call {
	c := &call{Account: by.account.number, Kind: revokeOthers, Session: by.number}
	token := by.token()
	return w.performForAll(ctx, r, by.account, by, c, func(ctx context.Context, to *clients) error {
		_, err := to.sessions.RevokeOtherSessions(bearer(ctx, token), &latchkeyv1.RevokeOtherSessionsRequest{})
		return err
	})
}

func (w *world) changePassword(ctx context.Context, r *replica, by *session, current string) *call {
	c := &call{Account: by.account.number, Kind: changePassword, Session: by.number, Password: current, NewPassword: by.account.newPassword()}
	token := by.token()
	return w.performForAll(ctx, r, by.account, by, c, func(ctx context.Context, to *clients) error {
		_, err := to.auth.ChangePassword(bearer(ctx, token), &latchkeyv1.ChangePasswordRequest{
			CurrentPassword: current, NewPassword: c.NewPassword,
		})
		return err
	})
}

// resetPassword returns nil if another client is resetting, whose token a new one would replace, or if the database did
// not accept the token.
func (w *world) resetPassword(ctx context.Context, r *replica, a *account) *call {
	if !a.resetting.TryLock() {
		return nil
	}
	defer a.resetting.Unlock()
	token, err := w.plantReset(ctx, a.id)
	if err != nil {
		return nil
	}
	c := &call{Account: a.number, Kind: resetPassword, NewPassword: a.newPassword()}
	return w.performForAll(ctx, r, a, nil, c, func(ctx context.Context, to *clients) error {
		_, err := to.auth.ResetPassword(ctx, &latchkeyv1.ResetPasswordRequest{Token: token, NewPassword: c.NewPassword})
		return err
	})
}

// operate is an operator's call.
func (w *world) operate(ctx context.Context, r *replica, a *account, k kind) *call {
	c := &call{Account: a.number, Kind: k}
	id := a.id.String()
	w.performForAll(ctx, r, a, nil, c, func(ctx context.Context, to *clients) error {
		ctx = bearer(ctx, adminKey)
		var err error
		switch k { //nolint:exhaustive // the operators' ones
		case suspend:
			_, err = to.admin.SuspendUser(ctx, &latchkeyv1.SuspendUserRequest{UserId: id})
		case reactivate:
			_, err = to.admin.ReactivateUser(ctx, &latchkeyv1.ReactivateUserRequest{UserId: id})
		case revokeUser:
			_, err = to.admin.RevokeUserSessions(ctx, &latchkeyv1.RevokeUserSessionsRequest{UserId: id})
		case removeFactors:
			_, err = to.admin.RemoveUserFactors(ctx, &latchkeyv1.RemoveUserFactorsRequest{UserId: id})
		case deleteUser, markUser: // the setting of the world says which
			_, err = to.admin.DeleteUser(ctx, &latchkeyv1.DeleteUserRequest{UserId: id})
		case restoreUser:
			_, err = to.admin.RestoreUser(ctx, &latchkeyv1.RestoreUserRequest{UserId: id})
		}
		return err
	})
	if c.Answer == accepted && (k == suspend || k == reactivate) {
		a.mu.Lock()
		a.suspended = k == suspend
		a.mu.Unlock()
	}
	if k == deleteUser && c.Answer != unknown {
		a.mu.Lock()
		a.deleted = true
		a.mu.Unlock()
	}
	return c
}

// performForAll makes a call that changes the account, and mostly ends all sessions but one, and notes its effect. A
// session of a login at the same time may be noted as revoked or not.
func (w *world) performForAll(ctx context.Context, r *replica, a *account, except *session, c *call, do func(context.Context, *clients) error) *call {
	before := a.sessions()
	w.perform(ctx, r, changeTime, c, do)
	if c.Answer == accepted && !c.endsNone() {
		for _, s := range before {
			if s != except {
				s.believe(c)
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case c.Answer == unknown:
		a.unknown++
	case c.Answer == accepted && c.NewPassword != "":
		a.password = c.NewPassword
	}
	return c
}

// newPassword returns a password that was never used.
func (a *account) newPassword() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	next := fmt.Sprintf("correct horse %d", len(a.tried))
	a.tried = append(a.tried, next)
	return next
}
