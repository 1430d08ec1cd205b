package login

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

const (
	// maxFailuresInARow closes the password: NIST SP 800-63B-4, section 3.2.2, allows no more than 100.
	maxFailuresInARow = 100
	// freshReset is how long the network that a password was reset from has places of its own.
	freshReset = 15 * time.Minute
	// raiseTries bounds how often a durable count that others change meanwhile is asked for again.
	raiseTries = 3
	// eventsFirst failures within the limiter's window are in the audit trail, then one of eventEvery.
	eventsFirst = 5
	eventEvery  = 10
)

// guessKind is whose failures are counted together in PostgreSQL. The values are stored: rename none.
type guessKind string

const (
	guessLogin  guessKind = "login"  // by clients that nobody knows, all together
	guessDevice guessKind = "device" // by clients with a device token, each by itself
	guessChange guessKind = "change" // of the current password, each session by itself
)

// guesser is who tries a password, as far as failures are concerned.
type guesser struct {
	kind guessKind
	// subject and source are the limiter's.
	subject, source string
	// known clients have shown what only the owner of an account was given.
	known bool
	// client is the device or the session whose failures are counted in PostgreSQL; none for guessLogin.
	client uuid.UUID
	// stranger is who a device is once it has failed a hundred times in a row; nil: that is the end.
	stranger *guesser
}

// device is that of a client with a device token.
func (g guesser) device() uuid.UUID {
	if g.kind == guessDevice {
		return g.client
	}
	return uuid.Nil
}

// outcome is what has become of an attempt.
type outcome int

const (
	notCompared outcome = iota // its place is given back
	failed                     // it counts
	succeeded                  // it ends what was counted of its guesser
)

// attempt is one guess at the password of an account, or of an address that has none. guess takes its place among the
// failures and closes it, whatever the exit.
type attempt struct {
	guesser
	user     account.Credential // no id: there is no such account
	wrong    error              // the answer to a wrong password
	place    *ratelimit.Attempt
	carried  []string // addresses whose counters of an older backend were carried over: they end with a success
	failures int32    // the count in PostgreSQL, this attempt in it; 0: there is none
	closed   bool     // too many in a row: nothing is compared any more
	outcome  outcome
}

// guesserOf says who logs in. A device token of another account, or of an older password, is as good as none.
func (f *Flow) guesserOf(ctx context.Context, found account.Credential, deviceToken string) guesser {
	subject := failureSubject(found)
	if found.PasswordEpoch > 0 {
		subject += " " + strconv.FormatInt(found.PasswordEpoch, 10) // guesses at an older password say nothing of this one
	}
	source := caller.From(ctx).Source()
	stranger := guesser{kind: guessLogin, subject: subject, source: source}
	if t, ok := f.cfg.Devices.Open(deviceToken); ok && found.ID != uuid.Nil && t.UserID == found.ID && t.Epoch == found.PasswordEpoch {
		return guesser{kind: guessDevice, subject: "device " + t.ID.String(), known: true, client: t.ID, stranger: &stranger}
	}
	if f.resetFrom(found, source) {
		return guesser{kind: guessLogin, subject: "reset " + subject, known: true}
	}
	return stranger
}

// resetFrom says whether the password was just reset from there: its owner must get in, whoever guesses meanwhile.
func (f *Flow) resetFrom(found account.Credential, source string) bool {
	return found.ResetTime != nil && f.cfg.Now().Sub(*found.ResetTime) < freshReset &&
		string(found.ResetNetwork) == f.cfg.Failures.SourceHash(source)
}

// failureSubject is whose failures a login counts with: the address in any letter
// case. An account that shares it with the holder of the lookup value counts alone,
// or its owner could clear the failures of the other by logging in.
func failureSubject(c account.Credential) string {
	if c.ID != uuid.Nil && c.SharesLookup {
		return "account " + c.ID.String() // no address has a space
	}
	return c.Lookup
}

// guess compares the password and counts the guess. Without an error it is the right one. Accounts and addresses without
// one cost the same.
func (f *Flow) guess(ctx context.Context, a *attempt, typed string) (password.Result, error) {
	result, err := f.guessAs(ctx, a, typed)
	if errors.Is(err, errWornOut) {
		// A device that somebody else guesses with, or has worn out, is as good as none.
		a.guesser, a.closed = *a.stranger, false
		return f.guessAs(ctx, a, typed)
	}
	return result, err
}

// errWornOut: too many passwords in a row were wrong from the device, so that it counts as a stranger.
var errWornOut = errors.New("the device has failed too often")

// guessAs takes a place for a, whose guesser, user and answer are set, compares, and closes the attempt: the only place
// that does.
func (f *Flow) guessAs(ctx context.Context, a *attempt, typed string) (result password.Result, err error) {
	a.place, err = f.cfg.Failures.Reserve(ctx, a.subject, a.source)
	if err != nil {
		return result, fmt.Errorf("count the attempt: %w", a.roundedForStrangers(err))
	}
	a.outcome = notCompared
	defer func() {
		closing := f.close(ctx, a)
		switch {
		case closing == nil:
		case errors.Is(err, a.wrong), errors.Is(err, errWornOut): // neither is acted on before it was counted
			err = closing
		default:
			err = errors.Join(err, closing)
		}
		if err != nil {
			result = password.Result{}
		}
	}()
	if err := f.raiseFailures(ctx, a); err != nil {
		return result, err
	}
	if a.closed && a.stranger != nil {
		return result, errWornOut
	}
	return f.check(ctx, a, typed)
}

// roundedForStrangers hides when exactly somebody else failed, the owner perhaps.
func (a *attempt) roundedForStrangers(err error) error {
	var limited *ratelimit.LimitedError
	if a.known || !errors.As(err, &limited) {
		return err
	}
	return &ratelimit.LimitedError{RetryAfter: roundUp(limited.RetryAfter)}
}

// roundUp is to a second, a minute or five minutes.
func roundUp(d time.Duration) time.Duration {
	unit := 5 * time.Minute
	switch {
	case d <= time.Second:
		unit = time.Second
	case d <= time.Minute:
		unit = time.Minute
	}
	if d%unit == 0 {
		return d
	}
	return d.Truncate(unit) + unit
}

// raiseFailures counts the attempt in PostgreSQL where the account has a count there, and writes as much where it has
// none. It counts before the password is compared: whatever is lost afterwards, no guess is free.
func (f *Flow) raiseFailures(ctx context.Context, a *attempt) error {
	for range raiseTries {
		raised, err := f.queries.RaiseFailures(ctx, f.cfg.Pool, db.RaiseFailuresParams{
			UserID: a.user.ID, Kind: string(a.kind), Subject: a.client, Most: maxFailuresInARow, Lookup: a.user.Lookup,
		})
		if err != nil {
			return fmt.Errorf("count the attempt: %w", err)
		}
		a.failures, a.closed = raised.Failures, raised.Closed && raised.Failures == 0
		if a.failures > 0 || a.closed || !raised.Present {
			return nil
		}
	}
	a.closed = true // others fill it up at this moment
	return nil
}

// lowerFailures takes back what raiseFailures has counted.
func (f *Flow) lowerFailures(ctx context.Context, a *attempt) error {
	return f.queries.LowerFailures(ctx, f.cfg.Pool, db.LowerFailuresParams{
		UserID: a.user.ID, Kind: string(a.kind), Subject: a.client, Counted: a.failures > 0, Lookup: a.user.Lookup,
	})
}

// check compares the password and sets the outcome of the attempt.
//
// A guess that was compared counts, whatever became of the call: a hit whose time is over looks like a miss whose time
// is over, in its answer and in what is counted, or a short deadline would make guesses free.
func (f *Flow) check(ctx context.Context, a *attempt, typed string) (password.Result, error) {
	a.outcome = failed // until it is known: a panic makes no guess free either
	result, err := f.compare(ctx, a, typed)
	over := ctx.Err()
	switch {
	case err != nil: // nothing was compared
		a.outcome = notCompared
		return password.Result{}, account.HashError("check the password", err)
	case over != nil:
		return password.Result{}, account.HashError("check the password", over)
	case !result.Match:
		return password.Result{}, a.wrong
	}
	a.outcome = succeeded
	return result, nil
}

// compare compares the password with that of the account. A miss costs what a hit costs, and so do accounts that are
// closed, have no usable hash or are not there.
func (f *Flow) compare(ctx context.Context, a *attempt, typed string) (password.Result, error) {
	by := account.HashClaim(ctx, a.known)
	if a.user.ID != uuid.Nil {
		result, err := f.compareStored(ctx, by, a, typed)
		if !errors.Is(err, password.ErrMalformedHash) {
			return result, err
		}
		if a.user.Hash != password.None {
			// Nobody can log in with what is stored: said in the log, for the operator.
			f.cfg.Logger.ErrorContext(ctx, "unusable password hash", "user_id", a.user.ID, "error", err)
		}
	}
	return password.Result{}, f.cfg.Passwords.VerifyUnknown(ctx, by, a.user.Lookup, typed)
}

// compareStored compares nothing with the hash of a closed account, at its cost.
func (f *Flow) compareStored(ctx context.Context, by password.Claim, a *attempt, typed string) (password.Result, error) {
	if a.closed {
		return password.Result{}, f.cfg.Passwords.VerifyClosed(ctx, by, a.user.Hash, typed)
	}
	return f.cfg.Passwords.Verify(ctx, by, a.user.Hash, typed)
}

// close settles the place of the attempt and its count in PostgreSQL, also when the caller is gone. What could not be
// counted must not pass, so its error refuses the right password too.
func (f *Flow) close(ctx context.Context, a *attempt) error {
	detached, cancel := besteffort.Detach(ctx)
	defer cancel()
	var err error
	switch a.outcome {
	case notCompared:
		err = errors.Join(f.lowerFailures(detached, a), a.place.Release(detached))
	case failed:
		var count ratelimit.Failures
		if count, err = a.place.Fail(detached); err == nil {
			// After the answer, and with nothing to do where there is no account: the time would tell that there is one.
			f.cfg.Afterwards.Do(ctx, "record a failed login", func(ctx context.Context) error { return f.recordFailure(ctx, a, count) })
		}
	case succeeded:
		if f.cfg.Older != nil && len(a.carried) > 0 {
			f.cfg.Older.DeleteFailures(detached, a.carried...)
		}
		if a.failures > 0 { // it was counted as a failure, and a later step may refuse: a disabled account, a full queue
			err = f.lowerFailures(detached, a)
		}
		err = errors.Join(err, a.place.Succeed(detached))
	}
	if err != nil {
		return fmt.Errorf("count the attempt: %w", err)
	}
	return nil
}

// recordFailure is what is written of a failure of an account: the first one of the count in PostgreSQL, a sample of
// events, and mails to the owner when somebody is shut out.
func (f *Flow) recordFailure(ctx context.Context, a *attempt, count ratelimit.Failures) error {
	if a.user.ID == uuid.Nil {
		return nil
	}
	failures := a.failures
	if failures == 0 && !a.closed {
		var err error
		failures, err = f.queries.StartFailures(ctx, f.cfg.Pool, db.StartFailuresParams{
			UserID: a.user.ID, Kind: string(a.kind), Subject: a.client, Now: f.cfg.Now(),
		})
		if err != nil && !errors.Is(err, pgx.ErrNoRows) { // the account is gone
			return fmt.Errorf("count the failure: %w", err)
		}
	}
	limit, total := f.cfg.Failures.Limits()
	// Above them when a counter of an older backend was carried over meanwhile.
	shutOut := count.Source >= limit || count.All >= total
	sampled := count.All <= eventsFirst || count.All%eventEvery == 0
	// The replica that counted the hundredth failure may have died before it closed the password: a later failure closes it.
	closing := failures >= maxFailuresInARow || a.closed && sampled
	if !shutOut && !closing && !sampled {
		return nil
	}
	return postgres.InTx(ctx, f.cfg.Pool, func(tx pgx.Tx) error {
		kind, notice := audit.LoginFailed, mail.LoginsLimited
		closed := int64(0) // by this failure, and not by another one
		if closing {
			var err error
			closed, err = f.queries.CloseFailures(ctx, tx, db.CloseFailuresParams{
				UserID: a.user.ID, Kind: string(a.kind), Subject: a.client, Most: maxFailuresInARow, Now: f.cfg.Now(),
			})
			if err != nil {
				return fmt.Errorf("close the password: %w", err)
			}
		}
		switch {
		case closed > 0:
			kind, notice = a.closing()
		case shutOut:
			kind = audit.LoginsLimited
		}
		if err := f.cfg.Trail.Record(ctx, tx, kind, a.user.ID, uuid.Nil); err != nil {
			return err
		}
		if kind == audit.LoginFailed {
			return nil
		}
		return f.cfg.Notifier.Notify(ctx, tx, notice, a.user.ID, caller.From(ctx).TraceID)
	})
}

// closing is what happens when too many passwords in a row were wrong.
func (a *attempt) closing() (audit.Kind, mail.Notice) {
	if a.kind == guessLogin {
		return audit.PasswordClosed, mail.PasswordLoginClosed
	}
	return audit.ClientClosed, mail.PasswordClientClosed
}

// CheckCurrent implements account.Guesses. It counts by session: somebody who holds one of the account's cannot keep the
// owner's own from changing the password, nor its owner from logging in.
func (f *Flow) CheckCurrent(ctx context.Context, sessionID uuid.UUID, c account.Credential, typed string) error {
	_, err := f.guess(ctx, &attempt{
		guesser: guesser{kind: guessChange, subject: "change " + c.ID.String(), source: sessionID.String(), known: true, client: sessionID},
		user:    c, wrong: refusal.CurrentPassword(),
	}, typed)
	return err
}
