//go:build linux

package history

import (
	"context"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// proofLabel is the label of codes that prove an address.
const proofLabel = "latchkey verify email\x00"

// plantProof makes the secret with which the owner of an address proves it, as SignUp and the sender of mails do.
func (w *world) plantProof(ctx context.Context, a *account) (m mailed, err error) {
	token, sum := newToken()
	return w.plantMail(ctx, a, "verify_email", proofLabel, []byte{}, sum[:], mailed{token: token})
}

// beside is what somebody shows beside a mail: a password, a session or neither.
type beside struct {
	password string
	by       *session
	// code says that the mail's code is used, and not its link.
	code bool
}

// verify proves the address of an account by a mail.
func (w *world) verify(ctx context.Context, r *replica, a *account, m mailed, with beside) *call {
	c := &call{Account: a.number, Kind: verifyEmail, Password: with.password, Once: m.number}
	request := &latchkeyv1.VerifyEmailRequest{Token: &m.token}
	if with.code {
		request = &latchkeyv1.VerifyEmailRequest{Email: &m.address, Code: &m.code}
	}
	if with.password != "" {
		request.Password = &with.password
	}
	if with.by != nil {
		c.Session = with.by.number
	}
	before, removed := a.sessions(), false
	w.perform(ctx, r, changeTime, c, func(ctx context.Context, to *clients) error {
		if with.by != nil {
			ctx = bearer(ctx, with.by.token())
		}
		response, err := to.auth.VerifyEmail(ctx, request)
		removed = response.GetPasswordRemoved()
		return err
	})
	a.believeProof(c, before, removed)
	return c
}

// verify proves the address of an account, most of the time with the password or a session. It returns nil if another
// client is proving it, or if the database did not accept the mail.
func (c *client) verify(ctx context.Context, r *replica, a *account, typed string) *call {
	if !a.proving.TryLock() {
		return nil
	}
	defer a.proving.Unlock()
	m, err := c.load.w.plantProof(ctx, a)
	if err != nil {
		return nil
	}
	with := beside{code: c.random.percent(50)}
	switch {
	case c.random.percent(30):
		with.password = typed
	case c.random.percent(50):
		with.by = c.session(a, c.random.percent(80))
	}
	return c.load.w.verify(ctx, r, a, m, with)
}

// mustPlant is plantProof, and fails the test if it cannot.
func (w *world) mustPlant(ctx context.Context, a *account) mailed {
	w.t.Helper()
	m, err := w.plantProof(ctx, a)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// verifyByMail: a stranger has signed up with the address, and added an app. The owner proves the address with the mail
// alone, by its link or its code. Then nothing of the stranger is there: no session on B, no password, and no app that a
// login of the owner would be asked for.
func verifyByMail(ctx context.Context, w *world, try int) {
	a, planted := w.withApp(ctx)
	w.validate(ctx, w.replicas[1], planted)
	w.verify(ctx, w.replicas[0], a, w.mustPlant(ctx, a), beside{code: try%2 > 0})
	w.validate(ctx, w.replicas[1], planted)
	w.login(ctx, w.replicas[1], a)
	if m, err := w.plantCode(ctx, a); err == nil {
		w.codeLogin(ctx, w.replicas[1], a, m)
	}
}

// verifyByOwner: the owner proves the address with the password, or with a session. The session on B goes on, and so does
// the password.
func verifyByOwner(ctx context.Context, w *world, _ int) {
	a, b := w.replicas[0], w.replicas[1]
	for _, byPassword := range []bool{true, false} {
		account, s := w.prepare(ctx)
		with := beside{by: s}
		if byPassword {
			with = beside{password: firstPassword}
		}
		w.verify(ctx, a, account, w.mustPlant(ctx, account), with)
		w.validate(ctx, b, s)
		w.login(ctx, b, account)
	}
}

// verifyByGuess: a proof with a wrong password, or with a session that has ended, proves nothing: it would take the account
// from its owner, or give it to a stranger.
func verifyByGuess(ctx context.Context, w *world, _ int) {
	a, b := w.replicas[0], w.replicas[1]
	account, s := w.prepare(ctx)
	w.verify(ctx, a, account, w.mustPlant(ctx, account), beside{password: "correct horse 1"})
	w.login(ctx, b, account)
	w.logout(ctx, a, s, changeTime)
	w.verify(ctx, b, account, w.mustPlant(ctx, account), beside{by: s})
	w.login(ctx, b, account)
}

// verifyTwice: a mail proves an address once, by its link.
func verifyTwice(ctx context.Context, w *world, _ int) {
	a, _ := w.prepare(ctx)
	m := w.mustPlant(ctx, a)
	w.twice(func(_ int, r *replica) { w.verify(ctx, r, a, m, beside{password: firstPassword}) })
}
