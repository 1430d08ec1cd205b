//go:build linux

package history

import (
	"context"
	"fmt"
	"syscall"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// plantChange makes the token of a change of address, as ChangeEmail and the sender of mails do.
func (w *world) plantChange(ctx context.Context, user uuid.UUID, to string) (string, error) {
	token, sum := newToken()
	const insert = `INSERT INTO one_time_secrets (user_id, purpose, asker, address, new_email, token_hash, ledger, created_at, expires_at)
		VALUES ($1, 'change_email', '', $3, $3, $2, latchkey_ledger_position(), now(), now() + interval '10 minutes')
		ON CONFLICT (user_id, purpose, asker) DO UPDATE
		SET address = excluded.address, new_email = excluded.new_email, token_hash = excluded.token_hash, ledger = excluded.ledger`
	if _, err := w.pool.Exec(ctx, insert, user, sum[:], to); err != nil {
		return "", fmt.Errorf("plant a change of address: %w", err)
	}
	return token, nil
}

// plantUndo gives the undo of an account another token, because the one that was mailed can be read nowhere. If there is no
// undo, the token is good for nothing.
func (w *world) plantUndo(ctx context.Context, user uuid.UUID) (string, error) {
	token, sum := newToken()
	const update = `UPDATE one_time_secrets SET token_hash = $2 WHERE user_id = $1 AND purpose = 'undo_email_change'`
	if _, err := w.pool.Exec(ctx, update, user, sum[:]); err != nil {
		return "", fmt.Errorf("plant an undo: %w", err)
	}
	return token, nil
}

// confirmChange gives an account an address that it never had. It returns nil if another client is changing the address,
// or if the database did not accept the token.
func (w *world) confirmChange(ctx context.Context, r *replica, a *account) *call {
	if !a.moving.TryLock() {
		return nil
	}
	defer a.moving.Unlock()
	a.mu.Lock()
	to := fmt.Sprintf("moved%d-%s", len(a.addresses), a.addresses[0])
	a.mu.Unlock()
	token, err := w.plantChange(ctx, a.id, to)
	if err != nil {
		return nil
	}
	a.mu.Lock()
	a.addresses = append(a.addresses, to)
	a.mu.Unlock()
	c := &call{Account: a.number, Kind: confirmChange, Address: to}
	w.performForAll(ctx, r, a, nil, c, func(ctx context.Context, to *clients) error {
		_, err := to.auth.ConfirmEmailChange(ctx, &latchkeyv1.ConfirmEmailChangeRequest{Token: &token})
		return err
	})
	if c.Answer == accepted {
		a.mu.Lock()
		a.address = to
		a.mu.Unlock()
	}
	return c
}

// undoChange undoes the changes of an account's address, if there are any. It returns nil if another client is changing
// the address, or if the database did not accept the token.
func (w *world) undoChange(ctx context.Context, r *replica, a *account) *call {
	if !a.moving.TryLock() {
		return nil
	}
	defer a.moving.Unlock()
	token, err := w.plantUndo(ctx, a.id)
	if err != nil {
		return nil
	}
	c := &call{Account: a.number, Kind: undoChange}
	return w.performForAll(ctx, r, a, nil, c, func(ctx context.Context, to *clients) error {
		_, err := to.auth.UndoEmailChange(ctx, &latchkeyv1.UndoEmailChangeRequest{Token: token})
		return err
	})
}

// prepareProved is prepare for an account whose address is proved.
func (w *world) prepareProved(ctx context.Context) (*account, *session) {
	w.t.Helper()
	a, err := w.newAccount(ctx, true)
	if err != nil {
		w.t.Fatal(err)
	}
	return a, w.firstSession(ctx, a)
}

// changeWhileFrozen: B is frozen and has the account in its memory. A change of address must not return before B has
// forgotten it or may not trust its memory.
func changeWhileFrozen(ctx context.Context, w *world, _ int) {
	a, b := w.replicas[0], w.replicas[1]
	account, s := w.prepareProved(ctx)
	b.signal(w.t, syscall.SIGSTOP)
	done := atMost(ctx, leaseTime*3/10, func() { w.confirmChange(ctx, a, account) })
	w.ask(ctx, b, s)
	<-done
	w.look(ctx, b, s, true)
}

// undoAfterChange: somebody has changed the address of an account. The undo must end the session with which they did it.
func undoAfterChange(ctx context.Context, w *world, _ int) {
	a, b := w.replicas[0], w.replicas[1]
	account, s := w.prepareProved(ctx)
	w.confirmChange(ctx, a, account)
	w.look(ctx, b, s, true)
	w.undoChange(ctx, a, account)
	w.validate(ctx, b, s)
}

// undoAfterPassword: they have set a password, too. It must not log in after the undo.
func undoAfterPassword(ctx context.Context, w *world, _ int) {
	a, b := w.replicas[0], w.replicas[1]
	account, s := w.prepareProved(ctx)
	before := account.believed()
	w.confirmChange(ctx, a, account)
	set := w.changePassword(ctx, a, s, firstPassword)
	w.undoChange(ctx, b, account)
	w.loginAt(ctx, a, account, before, set.NewPassword)
}

// undoAfterPasskey: they have added a passkey. It must not log in after the undo, nor keep the password from it.
func undoAfterPasskey(ctx context.Context, w *world, _ int) {
	a, b := w.replicas[0], w.replicas[1]
	account, s := w.prepareProved(ctx)
	before := account.believed()
	w.confirmChange(ctx, a, account)
	if done := w.addPasskey(ctx, a, s); done == nil || done.Answer != accepted {
		w.t.Fatal("no passkey:", done)
	}
	w.undoChange(ctx, b, account)
	if p, err := w.useKey(ctx, b, account, account.passkey); err == nil {
		w.passkeyLogin(ctx, b, account, p)
	}
	w.loginAt(ctx, a, account, before, firstPassword)
}

// undoAfterEnd: they have ended the other sessions of the account. The undo must work nevertheless.
func undoAfterEnd(ctx context.Context, w *world, _ int) {
	a, b := w.replicas[0], w.replicas[1]
	account, s := w.prepareProved(ctx)
	w.confirmChange(ctx, a, account)
	w.revokeOthers(ctx, a, s)
	w.undoChange(ctx, b, account)
}

// undoAgain: an undo is used once. Later changes of the address stay.
func undoAgain(ctx context.Context, w *world, _ int) {
	account, _ := w.prepareProved(ctx)
	w.confirmChange(ctx, w.replicas[0], account)
	w.undoChange(ctx, w.replicas[1], account)
	w.undoChange(ctx, w.replicas[0], account)
}
