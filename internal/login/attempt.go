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
	"github.com/latchkey-auth/latchkey/internal/device"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

const (
	// maxFailuresInARow wrong passwords close the password: NIST SP 800-63B-4, section 3.2.2, allows no more than 100.
	maxFailuresInARow = 100
	// freshReset is how long the network from which a password was reset has its own count of failures.
	freshReset = 15 * time.Minute
	// raiseTries limits the tries to raise a count in PostgreSQL while other attempts change it.
	raiseTries = 3
	// The first eventsFirst failures within the limiter's window get an audit event, and after that one failure of
	// eventEvery.
	eventsFirst = 5
	eventEvery  = 10
)

// guessKind says which failures are counted together in PostgreSQL. The values are stored: do not change them.
type guessKind string

const (
	guessLogin  guessKind = "login"  // all clients without a device token together
	guessDevice guessKind = "device" // each device token by itself
	guessChange guessKind = "change" // guesses at the current password, each session by itself
)

// guesser says under which names the failures of a client are counted.
type guesser struct {
	kind guessKind
	// subject and source are the arguments of the limiter.
	subject, source string
	// known means that the client has shown something that only the owner of an account was given.
	known bool
	// client is the device or the session whose failures are counted in PostgreSQL. It is uuid.Nil for guessLogin.
	client uuid.UUID
	// stranger is how a device is counted after a hundred failures in a row. If it is nil, the attempt is refused then.
	stranger *guesser
}

// device returns the id in the client's device token, or uuid.Nil.
func (g guesser) device() uuid.UUID {
	if g.kind == guessDevice {
		return g.client
	}
	return uuid.Nil
}

// outcome is the result of an attempt.
type outcome int

const (
	notCompared outcome = iota // its place is given back
	failed                     // it counts
	succeeded                  // the failures of its guesser are cleared
)

// attempt is one guess at the password of an account, or of an address that no account has. guess takes a place among
// the failures for it, and closes it on every return.
type attempt struct {
	guesser
	user     account.Credential // without an id if there is no such account
	wrong    error              // the answer to a wrong password
	visit    *password.Visit    // nil: the call did not announce its hash
	place    *ratelimit.Attempt
	carried  []string // addresses whose counters of an older backend were carried over; a success deletes those
	failures int32    // the count in PostgreSQL with this attempt; 0: there is no count
	closed   bool     // too many in a row: nothing is compared any more
	outcome  outcome
}

// guesserOf returns how the client is counted. shown is its device token, or zero if it has shown none that is genuine.
// A device token of another account, or of an older password, counts as none.
func (f *Flow) guesserOf(ctx context.Context, found account.Credential, shown device.Token) guesser {
	subject := failureSubject(found)
	if found.PasswordEpoch > 0 {
		subject += " " + strconv.FormatInt(found.PasswordEpoch, 10) // guesses at an older password say nothing about this one
	}
	source := caller.From(ctx).Source()
	stranger := guesser{kind: guessLogin, subject: subject, source: source}
	if found.ID != uuid.Nil && shown.UserID == found.ID && shown.Epoch == found.PasswordEpoch {
		return guesser{kind: guessDevice, subject: "device " + shown.ID.String(), known: true, client: shown.ID, stranger: &stranger}
	}
	if f.resetFrom(found, source) {
		return guesser{kind: guessLogin, subject: "reset " + subject, known: true}
	}
	return stranger
}

// resetFrom returns whether the password was just reset from this network: then its owner must get in, even if others
// guess at the same time.
func (f *Flow) resetFrom(found account.Credential, source string) bool {
	return found.ResetTime != nil && f.cfg.Now().Sub(*found.ResetTime) < freshReset &&
		string(found.ResetNetwork) == f.cfg.Failures.SourceHash(source)
}

// failureSubject returns the subject under which failures of an account are counted: the address in any letter case. An
// account that shares its lookup form with another counts by itself. Otherwise its owner could clear the failures of
// the other by logging in.
func failureSubject(c account.Credential) string {
	if c.ID != uuid.Nil && c.SharesLookup {
		return "account " + c.ID.String() // cannot be an address, because of the space
	}
	return c.Lookup
}

// guess compares the password and counts the guess. It returns no error only if the password is right. An address that
// no account has costs the same as one that an account has.
func (f *Flow) guess(ctx context.Context, a *attempt, typed string) (password.Result, error) {
	result, err := f.guessAs(ctx, a, typed)
	if errors.Is(err, errWornOut) {
		// Too many guesses failed with this device token, perhaps of somebody else: count the client as if it had none.
		a.guesser, a.closed = *a.stranger, false
		return f.guessAs(ctx, a, typed)
	}
	return result, err
}

// errWornOut means that too many wrong passwords in a row came from the device, so that it counts as a stranger.
var errWornOut = errors.New("the device has failed too often")

// guessAs takes a place for a, whose guesser, user and wrong are set, compares the password, and closes the attempt.
// Nothing else closes attempts.
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
		case errors.Is(err, a.wrong), errors.Is(err, errWornOut): // the caller may act on neither before it is counted
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

// roundedForStrangers rounds the time to wait. The exact time would reveal when somebody else failed, perhaps the
// owner.
func (a *attempt) roundedForStrangers(err error) error {
	var limited *ratelimit.LimitedError
	if a.known || !errors.As(err, &limited) {
		return err
	}
	return &ratelimit.LimitedError{RetryAfter: roundUp(limited.RetryAfter)}
}

// roundUp rounds up to a second, a minute or five minutes.
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

// raiseFailures counts the attempt in PostgreSQL if the account has a count there. If it has none, it writes as much,
// so that the time is the same. It counts before the password is compared, so that no guess is free, even if the
// process dies afterwards.
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
	a.closed = true // other attempts fill it up at this moment
	return nil
}

// lowerFailures undoes raiseFailures.
func (f *Flow) lowerFailures(ctx context.Context, a *attempt) error {
	return f.queries.LowerFailures(ctx, f.cfg.Pool, db.LowerFailuresParams{
		UserID: a.user.ID, Kind: string(a.kind), Subject: a.client, Counted: a.failures > 0, Lookup: a.user.Lookup,
	})
}

// check compares the password and sets the outcome of the attempt.
//
// A guess that was compared counts, even if the deadline has passed. After the deadline a right password has the same
// answer and the same count as a wrong one. Otherwise a short deadline would make guesses free.
func (f *Flow) check(ctx context.Context, a *attempt, typed string) (password.Result, error) {
	a.outcome = failed // until it is known: even a panic makes no guess free
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

// compare compares the password with that of the account. A wrong password costs the same as a right one, and so does
// an account that is closed, has no usable hash or does not exist.
func (f *Flow) compare(ctx context.Context, a *attempt, typed string) (password.Result, error) {
	if err := a.visit.Arrive(); err != nil {
		return password.Result{}, err
	}
	by := account.HashClaim(ctx, a.known)
	if a.user.ID != uuid.Nil {
		result, err := f.compareStored(ctx, by, a, typed)
		if !errors.Is(err, password.ErrMalformedHash) {
			return result, err
		}
		if a.user.Hash != password.None {
			// Nobody can log in with this hash. Tell the operator in the log.
			f.cfg.Logger.ErrorContext(ctx, "unusable password hash", "user_id", a.user.ID, "error", err)
		}
	}
	return password.Result{}, f.cfg.Passwords.VerifyUnknown(ctx, by, a.user.Lookup, typed)
}

// compareStored compares the password with the stored hash. For a closed account it compares nothing, but at the same
// cost.
func (f *Flow) compareStored(ctx context.Context, by password.Claim, a *attempt, typed string) (password.Result, error) {
	if a.closed {
		return password.Result{}, f.cfg.Passwords.VerifyClosed(ctx, by, a.user.Hash, typed)
	}
	return f.cfg.Passwords.Verify(ctx, by, a.user.Hash, typed)
}

// close settles the place of the attempt and its count in PostgreSQL, even if the caller is gone. An attempt that could
// not be counted must not pass, so an error of close refuses the right password too.
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
			// This runs after the answer, because it does nothing if there is no account: the time would reveal whether
			// there is one.
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

// recordFailure writes the rest about a failed attempt: the first failure of the count in PostgreSQL, a sample of
// events, and mails to the owner if somebody is shut out.
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
		if err != nil && !errors.Is(err, pgx.ErrNoRows) { // without a row the account is gone
			return fmt.Errorf("count the failure: %w", err)
		}
	}
	limit, total := f.cfg.Failures.Limits()
	// The counts may be above the limits if a counter of an older backend was carried over in the meantime.
	shutOut := count.Source >= limit || count.All >= total
	sampled := count.All <= eventsFirst || count.All%eventEvery == 0
	// The replica that counted the hundredth failure may have died before it closed the password. Then a later failure
	// closes it.
	closing := failures >= maxFailuresInARow || a.closed && sampled
	if !shutOut && !closing && !sampled {
		return nil
	}
	return postgres.InTx(ctx, f.cfg.Pool, func(tx pgx.Tx) error {
		kind, notice := audit.LoginFailed, mail.LoginsLimited
		closed := int64(0) // closed by this failure, and not by another one
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

// closing returns the event and the notice for too many wrong passwords in a row.
func (a *attempt) closing() (audit.Kind, mail.Notice) {
	if a.kind == guessLogin {
		return audit.PasswordClosed, mail.PasswordLoginClosed
	}
	return audit.ClientClosed, mail.PasswordClientClosed
}

// CheckCurrent implements account.Guesses. It counts each session by itself: somebody who has one session of the
// account can keep neither the owner's sessions from changing the password nor the owner from logging in.
func (f *Flow) CheckCurrent(ctx context.Context, sessionID uuid.UUID, c account.Credential, typed string) error {
	_, err := f.guess(ctx, &attempt{
		guesser: guesser{kind: guessChange, subject: "change " + c.ID.String(), source: sessionID.String(), known: true, client: sessionID},
		user:    c, wrong: refusal.CurrentPassword(),
	}, typed)
	return err
}

// CheckOwner implements account.Guesses. The client counts like one that logs in without a device token.
func (f *Flow) CheckOwner(ctx context.Context, c account.Credential, typed string) error {
	_, err := f.guess(ctx, &attempt{guesser: f.guesserOf(ctx, c, device.Token{}), user: c, wrong: refusal.CurrentPassword()}, typed)
	return err
}
