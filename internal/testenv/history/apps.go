//go:build linux

package history

import (
	"context"
	"encoding/base32"
	"time"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/totp"
)

// app is an authenticator app.
type app struct {
	seed   []byte
	number int
	// last is the step of the last code that was taken from it.
	last int64
}

// recovery is a set of recovery codes.
type recovery struct {
	number int
	texts  []string
	// taken are the numbers of the codes that were used, in their order.
	taken []int
}

// factorCode is a code that answers a challenge.
type factorCode struct {
	kind         kind
	text         string
	factor, once int
}

// open notes the challenge that a login was answered with.
func (c *call) open(a *account, challenge *latchkeyv1.Challenge) {
	c.token, c.Challenge = challenge.GetChallengeToken(), a.once()
}

// choice says which code to take.
type choice int

const (
	// fresh is a code that was not used.
	fresh choice = iota
	// again is the last one that was used.
	again
	// replaced is one of the app, or the set, before the last.
	replaced
)

// chosen returns the one of all from which to take a code, or nil.
func chosen[T any](all []*T, which choice) *T {
	at := len(all) - 1
	if which == replaced {
		at--
	}
	if at < 0 {
		return nil
	}
	return all[at]
}

// appCode takes a code from an app. It returns false if there is none yet: it does not use the step of before, which may
// be over when the replica looks at the code.
func (a *account) appCode(which choice) (factorCode, bool) {
	now := totp.Step(time.Now())
	a.mu.Lock()
	defer a.mu.Unlock()
	from := chosen(a.apps, which)
	if from == nil {
		return factorCode{}, false
	}
	step := max(now, from.last+1)
	if which == again {
		step = from.last
	}
	if step > now+1 {
		return factorCode{}, false
	}
	from.last = step
	return factorCode{appLogin, totp.Code(from.seed, step), from.number, int(step)}, true
}

// recoveryCode takes a recovery code, or returns false if there is none.
func (a *account) recoveryCode(which choice) (factorCode, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	from := chosen(a.recoveries, which)
	if from == nil || which == again && len(from.taken) == 0 || which != again && len(from.taken) == len(from.texts) {
		return factorCode{}, false
	}
	if which != again {
		a.secrets++
		from.taken = append(from.taken, a.secrets)
	}
	last := len(from.taken) - 1
	return factorCode{recoveryLogin, from.texts[last], from.number, from.taken[last]}, true
}

// addApp gives an account another authenticator app, on the authority of a session. It returns nil if the account's
// factors are being changed, or if the replica gives no seed.
func (w *world) addApp(ctx context.Context, r *replica, by *session) *call {
	a := by.account
	if !a.changingKeys.TryLock() {
		return nil
	}
	defer a.changingKeys.Unlock()
	starting, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	begun, err := r.clients.Load().accounts.EnrollTotp(bearer(starting, by.token()), &latchkeyv1.EnrollTotpRequest{})
	if err != nil {
		return nil // nothing has changed
	}
	seed, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(begun.GetSecret())
	if err != nil {
		w.t.Error("the seed of an app:", err)
		return nil
	}
	// The step of before leaves two for logins.
	made := &app{seed: seed, number: a.once(), last: totp.Step(time.Now()) - 1}
	c := &call{Account: a.number, Kind: addApp, Session: by.number, Factor: made.number, Once: int(made.last)}
	var codes []string
	w.performForAll(ctx, r, a, nil, c, func(ctx context.Context, to *clients) error {
		response, err := to.accounts.ConfirmTotp(bearer(ctx, by.token()), &latchkeyv1.ConfirmTotpRequest{Code: totp.Code(seed, made.last)})
		codes = response.GetRecoveryCodes()
		return err
	})
	if c.Answer == accepted {
		a.mu.Lock()
		a.apps = append(a.apps, made)
		a.recoveries = append(a.recoveries, &recovery{number: made.number, texts: codes})
		a.mu.Unlock()
	}
	return c
}

// removeApp removes the authenticator app of an account. It returns nil if its factors are being changed.
func (w *world) removeApp(ctx context.Context, r *replica, by *session) *call {
	a := by.account
	if !a.changingKeys.TryLock() {
		return nil
	}
	defer a.changingKeys.Unlock()
	c := &call{Account: a.number, Kind: removeApp, Session: by.number}
	return w.performForAll(ctx, r, a, nil, c, func(ctx context.Context, to *clients) error {
		_, err := to.accounts.RemoveTotp(bearer(ctx, by.token()), &latchkeyv1.RemoveTotpRequest{})
		return err
	})
}

// answer answers the challenge of a login with a code.
func (w *world) answer(ctx context.Context, r *replica, a *account, asked *call, code factorCode) *call {
	s := &session{account: a}
	c := &call{Account: a.number, Kind: code.kind, Factor: code.factor, Once: code.once, Challenge: asked.Challenge}
	request := &latchkeyv1.AnswerChallengeRequest{ChallengeToken: asked.token}
	if code.kind == appLogin {
		request.Answer = &latchkeyv1.AnswerChallengeRequest_TotpCode{TotpCode: code.text}
	} else {
		request.Answer = &latchkeyv1.AnswerChallengeRequest_RecoveryCode{RecoveryCode: code.text}
	}
	w.performForAll(ctx, r, a, nil, c, func(ctx context.Context, to *clients) error {
		response, err := to.auth.AnswerChallenge(ctx, request)
		if err == nil {
			w.hold(s, c, response.GetTokens())
		}
		return err
	})
	return c
}

// useSomeCode answers the challenge of a login with a code of the app or a recovery code, seldom with one that is not good. If
// there is no code left, it lets an operator remove the factors.
func (c *client) useSomeCode(ctx context.Context, r *replica, a *account, asked *call) *call {
	which := fresh
	switch {
	case c.random.percent(8):
		which = again
	case c.random.percent(8): //nolint:gocritic // dupCase: each draws anew
		which = replaced
	}
	code, ok := factorCode{}, false
	if c.random.percent(50) {
		code, ok = a.appCode(which)
	}
	if !ok {
		code, ok = a.recoveryCode(which)
	}
	if !ok {
		if which != fresh || c.random.percent(50) {
			return nil
		}
		return c.load.w.operate(ctx, r, a, removeFactors)
	}
	return c.load.w.answer(ctx, r, a, asked, code)
}

// changeFactor adds or removes a passkey or an app.
func (c *client) changeFactor(ctx context.Context, r *replica, a *account, s *session) *call {
	w := c.load.w
	if c.random.percent(50) { // with a passkey, passwords begin no sessions
		if done := w.removePasskey(ctx, r, s); done != nil {
			return done
		}
		return w.addPasskey(ctx, r, s)
	}
	a.mu.Lock()
	has := len(a.apps) > 0
	a.mu.Unlock()
	if has && c.random.percent(60) {
		return w.removeApp(ctx, r, s)
	}
	return w.addApp(ctx, r, s)
}

// withApp makes an account with an authenticator app.
func (w *world) withApp(ctx context.Context) (*account, *session) {
	w.t.Helper()
	a, s := w.prepare(ctx)
	if done := w.addApp(ctx, w.replicas[0], s); done == nil || done.Answer != accepted {
		w.t.Fatal("no app:", done)
	}
	return a, s
}

// askFactor logs in to an account with a second factor, and returns the call that was answered with a challenge.
func (w *world) askFactor(ctx context.Context, a *account) *call {
	w.t.Helper()
	_, c := w.login(ctx, w.replicas[0], a)
	if c.Answer != challenged {
		w.t.Fatal("no challenge:", c)
	}
	return c
}

// next returns a code that was not used.
func (w *world) next(take func(which choice) (factorCode, bool)) factorCode {
	w.t.Helper()
	code, ok := take(fresh)
	if !ok {
		w.t.Fatal("no code left")
	}
	return code
}

// useAppTwice: a code of an app answers one of several challenges.
func useAppTwice(ctx context.Context, w *world, _ int) {
	a, _ := w.withApp(ctx)
	w.answerAll(ctx, a, w.next(a.appCode))
}

// useRecoveryTwice: so does a recovery code.
func useRecoveryTwice(ctx context.Context, w *world, _ int) {
	a, _ := w.withApp(ctx)
	w.answerAll(ctx, a, w.next(a.recoveryCode))
}

func (w *world) answerAll(ctx context.Context, a *account, code factorCode) {
	w.t.Helper()
	var asked [callers]*call
	for i := range asked {
		asked[i] = w.askFactor(ctx, a)
	}
	w.twice(func(i int, r *replica) { w.answer(ctx, r, a, asked[i], code) })
}

// answerTwice: a challenge is answered by one of several good codes.
func answerTwice(ctx context.Context, w *world, _ int) {
	a, _ := w.withApp(ctx)
	asked := w.askFactor(ctx, a)
	var good [callers]factorCode
	for i := range good {
		good[i] = w.next(a.recoveryCode)
	}
	w.twice(func(i int, r *replica) { w.answer(ctx, r, a, asked, good[i]) })
}

// answerAgain: a code of the app ends the challenge that it answers.
func answerAgain(ctx context.Context, w *world, _ int) {
	a, _ := w.withApp(ctx)
	asked := w.askFactor(ctx, a)
	w.answer(ctx, w.replicas[0], a, asked, w.next(a.appCode))
	w.answer(ctx, w.replicas[1], a, asked, w.next(a.appCode))
}

// answerAfterEnd: the end of an account's sessions ends a challenge of a login before it.
func answerAfterEnd(ctx context.Context, w *world, _ int) {
	a, _ := w.withApp(ctx)
	asked := w.askFactor(ctx, a)
	w.operate(ctx, w.replicas[1], a, revokeUser)
	w.answer(ctx, w.replicas[0], a, asked, w.next(a.appCode))
}

// passwordBesideApp: the password alone does not log in to an account with an app, and does when that is removed. Then a
// code of the app does not answer a challenge of before.
func passwordBesideApp(ctx context.Context, w *world, _ int) {
	a, s := w.withApp(ctx)
	r := w.replicas[1]
	_, asked := w.login(ctx, r, a)
	w.removeApp(ctx, w.replicas[0], s)
	w.answer(ctx, r, a, asked, w.next(a.appCode))
	w.login(ctx, r, a)
}

// recoverWithoutApp: nor does a recovery code that came with the app.
func recoverWithoutApp(ctx context.Context, w *world, _ int) {
	a, s := w.withApp(ctx)
	asked := w.askFactor(ctx, a)
	w.removeApp(ctx, w.replicas[0], s)
	w.answer(ctx, w.replicas[1], a, asked, w.next(a.recoveryCode))
}
