//go:build linux

package history

import (
	"context"
	"sync"
	"syscall"
	"time"
)

// scenario is a schedule in which only one of the mechanisms keeps the promise. It is repeated with other timings until
// it finds a violation.
type scenario func(ctx context.Context, w *world, try int)

// waiting is how many validations wait in a frozen replica.
const waiting = 8

// prepare makes an account with a session, which replica B has seen.
func (w *world) prepare(ctx context.Context) (*account, *session) {
	w.t.Helper()
	a, err := w.newAccount(ctx, false)
	if err != nil {
		w.t.Fatal(err)
	}
	return a, w.firstSession(ctx, a)
}

func (w *world) firstSession(ctx context.Context, a *account) *session {
	w.t.Helper()
	s, c := w.login(ctx, w.replicas[0], a)
	if s == nil {
		w.t.Fatal("no login:", c)
	}
	w.validate(ctx, w.replicas[1], s)
	return s
}

// ask makes validations wait in a frozen replica, and then continues the replica.
func (w *world) ask(ctx context.Context, r *replica, s *session) {
	w.t.Helper()
	const underWay = 30 * time.Millisecond // by then they are in the replica's socket
	var answers sync.WaitGroup
	for range waiting {
		answers.Go(func() { w.look(ctx, r, s, true) })
	}
	pause(ctx, underWay)
	r.signal(w.t, syscall.SIGCONT)
	answers.Wait()
}

// atMost starts a call. It returns when the call returns, or after d.
func atMost(ctx context.Context, d time.Duration, do func()) (done <-chan struct{}) {
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		do()
	}()
	waiting, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	select {
	case <-returned:
	case <-waiting.Done():
	}
	return returned
}

// revokeWhileFrozen: B is frozen for less than its lease and has not seen the row. The logout must not return before
// that lease has ended or B has seen the row.
func revokeWhileFrozen(ctx context.Context, w *world, _ int) {
	a, b := w.replicas[0], w.replicas[1]
	_, s := w.prepare(ctx)
	b.signal(w.t, syscall.SIGSTOP)
	done := atMost(ctx, leaseTime*3/10, func() { w.logout(ctx, a, s, changeTime) })
	w.ask(ctx, b, s)
	<-done
}

// revokeUntilLeaseEnds: B is frozen for longer, and the logout has returned. B must not trust its memory.
func revokeUntilLeaseEnds(ctx context.Context, w *world, _ int) {
	a, b := w.replicas[0], w.replicas[1]
	_, s := w.prepare(ctx)
	b.signal(w.t, syscall.SIGSTOP)
	w.logout(ctx, a, s, changeTime)
	w.ask(ctx, b, s)
}

// removeSecondFactors: an operator removes the second factors of an account whose session B has seen. The session must be
// over: it may be that of the person who made the owner lose them.
func removeSecondFactors(ctx context.Context, w *world, _ int) {
	a, s := w.prepare(ctx)
	w.operate(ctx, w.replicas[0], a, removeFactors)
	w.validate(ctx, w.replicas[1], s)
}

// retryWhileFrozen: the logout's caller gave up while it waited, and calls again. The second call finds that the
// session is ended, and must wait nevertheless.
func retryWhileFrozen(ctx context.Context, w *world, _ int) {
	a, b := w.replicas[0], w.replicas[1]
	_, s := w.prepare(ctx)
	b.signal(w.t, syscall.SIGSTOP)
	w.logout(ctx, a, s, leaseTime/5)
	done := atMost(ctx, leaseTime*2/10, func() { w.logout(ctx, a, s, changeTime) })
	w.ask(ctx, b, s)
	<-done
}

// revokeWhileJoining: B has just started. It must read the ledger only after every revoking replica knows of B.
func revokeWhileJoining(ctx context.Context, w *world, _ int) {
	const revocations = 8
	a, b := w.replicas[0], w.replicas[1]
	var held []*session
	for range revocations {
		_, s := w.prepare(ctx)
		held = append(held, s)
	}
	b.stop(w.t)
	b.start(ctx, w.t)
	for _, s := range held {
		w.logout(ctx, a, s, changeTime)
		w.validate(ctx, b, s)
	}
}

// loginDuringReset: the old password is checked while a new one is set. The login read the account before, so the
// change ends its session, whenever the token is made.
func loginDuringReset(ctx context.Context, w *world, try int) {
	a, b := w.replicas[0], w.replicas[1]
	account, err := w.newAccount(ctx, false)
	if err != nil {
		w.t.Fatal(err)
	}
	var changing sync.WaitGroup
	changing.Go(func() { w.resetPassword(ctx, a, account) })
	pause(ctx, stagger(try))
	s, _ := w.login(ctx, b, account)
	changing.Wait()
	if s != nil {
		w.validate(ctx, a, s)
		w.validate(ctx, b, s)
	}
	// If the old password were valid again, this login would succeed.
	w.login(ctx, a, account)
}

// stagger returns when the other call begins, within a hash of some 20 ms.
func stagger(try int) time.Duration { return time.Duration(2+try*3%24) * time.Millisecond }

// changeAfterLogout: a session changes the password and is logged out while the new one is hashed. A login with the old
// password shows that the logout came first.
func changeAfterLogout(ctx context.Context, w *world, _ int) {
	a, b := w.replicas[0], w.replicas[1]
	account, s := w.prepare(ctx)
	done := atMost(ctx, 3*time.Millisecond, func() { w.changePassword(ctx, a, s, firstPassword) })
	w.logout(ctx, b, s, changeTime)
	w.login(ctx, b, account)
	<-done
}

// revokeAtNewPrimary: the primary is set read-only and keeps its connections, and the standby is promoted. B starts at
// the new primary. A has nothing to write, but must notice. There is one standby, so only the first try can show a
// fault.
func revokeAtNewPrimary(ctx context.Context, w *world, try int) {
	if try > 0 {
		return
	}
	a, b := w.replicas[0], w.replicas[1]
	_, s := w.prepare(ctx)
	w.validate(ctx, a, s)
	w.pair.SetReadOnly() //nolint:contextcheck // they end with the test
	w.pair.Promote()     //nolint:contextcheck // see above
	b.stop(w.t)
	b.start(ctx, w.t)
	w.logout(ctx, b, s, changeTime)
	for range 20 {
		w.validate(ctx, a, s)
		pause(ctx, leaseTime/10)
	}
}

// deleteWhileFrozen: B is frozen and has not seen the row of a deletion. The call must not return before that lease has
// ended or B has seen the row.
func deleteWhileFrozen(ctx context.Context, w *world, _ int) {
	a, b := w.replicas[0], w.replicas[1]
	account, s := w.prepare(ctx)
	b.signal(w.t, syscall.SIGSTOP)
	done := atMost(ctx, leaseTime*3/10, func() { w.operate(ctx, a, account, deleteUser) })
	w.ask(ctx, b, s)
	<-done
}

// deleteAgainWhileFrozen: a second call finds the account gone, and must wait like the first.
func deleteAgainWhileFrozen(ctx context.Context, w *world, _ int) {
	a, b := w.replicas[0], w.replicas[1]
	account, s := w.prepare(ctx)
	b.signal(w.t, syscall.SIGSTOP)
	first := atMost(ctx, leaseTime/5, func() { w.operate(ctx, a, account, deleteUser) })
	second := atMost(ctx, leaseTime/5, func() { w.operate(ctx, a, account, deleteUser) })
	w.ask(ctx, b, s)
	<-first
	<-second
}

// logInDuringTheGrace: an account that is to be deleted cannot be used until it is restored, on neither replica.
func logInDuringTheGrace(ctx context.Context, w *world, _ int) {
	a, b := w.replicas[0], w.replicas[1]
	account, s := w.prepare(ctx)
	w.operate(ctx, a, account, markUser)
	w.validate(ctx, b, s)
	w.login(ctx, b, account)
	w.operate(ctx, b, account, restoreUser)
	w.validate(ctx, a, s) // what was ended stays ended
	w.login(ctx, a, account)
}
