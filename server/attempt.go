package server

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/device"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
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
	// failuresLife is how long failures in a row of a device or a session are kept: whoever has stolen one has a hundred
	// guesses a year with it.
	failuresLife = 365 * 24 * time.Hour
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

// attempt is one guess at the password of an account, or of an address that has none. openAttempt takes its place among
// the failures, check closes it whatever comes of it.
type attempt struct {
	guesser
	user     db.User // no id: there is no such account
	lookup   string
	wrong    error // the answer to a wrong password
	place    *ratelimit.Attempt
	carried  []string // addresses whose counters of an older backend were carried over: they end with a success
	failures int32    // the count in PostgreSQL, this attempt in it; 0: there is none
	closed   bool     // too many in a row: nothing is compared any more
}

// guesserOf says who logs in. A device token of another account, or of an older password, is as good as none.
func (s *Server) guesserOf(ctx context.Context, found db.FindUserByEmailRow, lookup, deviceToken string) guesser {
	subject := failureSubject(found.User, lookup)
	if found.PasswordEpoch > 0 {
		subject += " " + strconv.FormatInt(found.PasswordEpoch, 10) // guesses at an older password say nothing of this one
	}
	source := caller.From(ctx).Source()
	stranger := guesser{kind: guessLogin, subject: subject, source: source}
	if t, ok := s.cfg.Devices.Open(deviceToken); ok && found.User.ID != uuid.Nil && t.UserID == found.User.ID && t.Epoch == found.PasswordEpoch {
		return guesser{kind: guessDevice, subject: "device " + t.ID.String(), known: true, client: t.ID, stranger: &stranger}
	}
	if s.resetFrom(found, source) {
		return guesser{kind: guessLogin, subject: "reset " + subject, known: true}
	}
	return stranger
}

// resetFrom says whether the password was just reset from there: its owner must get in, whoever guesses meanwhile.
func (s *Server) resetFrom(found db.FindUserByEmailRow, source string) bool {
	return found.ResetAt != nil && s.cfg.Now().Sub(*found.ResetAt) < freshReset &&
		string(found.ResetNetwork) == s.cfg.LoginFailures.SourceHash(source)
}

// failureSubject is whose failures a login counts with: the address in any letter
// case. An account that shares it with the holder of the lookup value counts alone,
// or its owner could clear the failures of the other by logging in.
func failureSubject(user db.User, lookup string) string {
	if user.ID != uuid.Nil && !user.EmailLookup.Valid {
		return "account " + user.ID.String() // no address has a space
	}
	return lookup
}

// openAttempt takes a place for a, whose guesser, user, lookup and answer are set. Accounts and addresses without one cost
// the same.
func (s *Server) openAttempt(ctx context.Context, a *attempt) error {
	var err error
	a.place, err = s.cfg.LoginFailures.Reserve(ctx, a.subject, a.source)
	if err != nil {
		return fmt.Errorf("count the attempt: %w", a.roundedForStrangers(err))
	}
	if err := s.raiseFailures(ctx, a); err != nil {
		return errors.Join(err, s.release(ctx, a))
	}
	if a.closed && a.stranger != nil {
		// A device that somebody else guesses with, or has worn out, is as good as none.
		if err := s.release(ctx, a); err != nil {
			return err
		}
		a.guesser = *a.stranger
		return s.openAttempt(ctx, a)
	}
	return nil
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
func (s *Server) raiseFailures(ctx context.Context, a *attempt) error {
	for range raiseTries {
		raised, err := s.queries.RaiseFailures(ctx, s.cfg.Pool, db.RaiseFailuresParams{
			UserID: a.user.ID, Kind: string(a.kind), Subject: a.client, Most: maxFailuresInARow, Lookup: a.lookup,
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
func (s *Server) lowerFailures(ctx context.Context, a *attempt) error {
	return s.queries.LowerFailures(ctx, s.cfg.Pool, db.LowerFailuresParams{
		UserID: a.user.ID, Kind: string(a.kind), Subject: a.client, Counted: a.failures > 0, Lookup: a.lookup,
	})
}

// check compares the password and closes the attempt. Without an error it is the right one.
//
// A guess that was compared counts, whatever became of the call: a hit whose time is over looks like a miss whose time
// is over, in its answer and in what is counted, or a short deadline would make guesses free.
func (s *Server) check(ctx context.Context, a *attempt, typed string) (password.Result, error) {
	result, err := s.compare(ctx, a, typed)
	over := ctx.Err()
	switch {
	case err != nil: // nothing was compared
		return password.Result{}, errors.Join(hashError("check the password", err), s.release(ctx, a))
	case over != nil:
		return password.Result{}, errors.Join(hashError("check the password", over), s.fail(ctx, a))
	case !result.Match:
		if err := s.fail(ctx, a); err != nil {
			return password.Result{}, err
		}
		return password.Result{}, a.wrong
	}
	return result, s.succeed(ctx, a)
}

// compare compares the password with that of the account. A miss costs what a hit costs, and so do accounts that are
// closed, have no usable hash or are not there.
func (s *Server) compare(ctx context.Context, a *attempt, typed string) (password.Result, error) {
	by := hashClaim(ctx, a.known)
	if a.user.ID != uuid.Nil {
		result, err := s.compareStored(ctx, by, a, typed)
		if !errors.Is(err, password.ErrMalformedHash) {
			return result, err
		}
		if a.user.PasswordHash != password.None {
			// Nobody can log in with what is stored: said in the log, for the operator.
			s.log.ErrorContext(ctx, "unusable password hash", "user_id", a.user.ID, "error", err)
		}
	}
	return password.Result{}, s.cfg.Passwords.VerifyUnknown(ctx, by, a.lookup, typed)
}

// compareStored compares nothing with the hash of a closed account, at its cost.
func (s *Server) compareStored(ctx context.Context, by password.Claim, a *attempt, typed string) (password.Result, error) {
	if a.closed {
		return password.Result{}, s.cfg.Passwords.VerifyClosed(ctx, by, a.user.PasswordHash, typed)
	}
	return s.cfg.Passwords.Verify(ctx, by, a.user.PasswordHash, typed)
}

// succeed: what could not be counted must not pass, so its error refuses the right password too.
func (s *Server) succeed(ctx context.Context, a *attempt) error {
	ctx, cancel := besteffort.Settling(ctx)
	defer cancel()
	s.forgetCarried(ctx, a.carried...)
	var err error
	if a.failures > 0 { // it was counted as a failure, and a later step may refuse: a disabled account, a full queue
		err = s.lowerFailures(ctx, a)
	}
	if err = errors.Join(err, a.place.Succeed(ctx)); err != nil {
		return fmt.Errorf("count the attempt: %w", err)
	}
	return nil
}

func (s *Server) release(ctx context.Context, a *attempt) error {
	ctx, cancel := besteffort.Settling(ctx)
	defer cancel()
	if err := errors.Join(s.lowerFailures(ctx, a), a.place.Release(ctx)); err != nil {
		return fmt.Errorf("give the attempt's place back: %w", err)
	}
	return nil
}

func (s *Server) fail(ctx context.Context, a *attempt) error {
	settling, cancel := besteffort.Settling(ctx)
	defer cancel()
	count, err := a.place.Fail(settling)
	if err != nil {
		return fmt.Errorf("count the attempt: %w", err)
	}
	// After the answer, and with nothing to do where there is no account: the time would tell that there is one.
	s.afterwards.Do(ctx, "record a failed login", func(ctx context.Context) error { return s.recordFailure(ctx, a, count) })
	return nil
}

// recordFailure is what is written of a failure of an account: the first one of the count in PostgreSQL, a sample of
// events, and mails to the owner when somebody is shut out.
func (s *Server) recordFailure(ctx context.Context, a *attempt, count ratelimit.Failures) error {
	if a.user.ID == uuid.Nil {
		return nil
	}
	failures := a.failures
	if failures == 0 && !a.closed {
		var err error
		failures, err = s.queries.StartFailures(ctx, s.cfg.Pool, db.StartFailuresParams{
			UserID: a.user.ID, Kind: string(a.kind), Subject: a.client, Now: s.cfg.Now(),
		})
		if err != nil && !errors.Is(err, pgx.ErrNoRows) { // the account is gone
			return fmt.Errorf("count the failure: %w", err)
		}
	}
	limit, total := s.cfg.LoginFailures.Limits()
	// Above them when a counter of an existing backend was carried over meanwhile.
	shutOut := count.Source >= limit || count.All >= total
	sampled := count.All <= eventsFirst || count.All%eventEvery == 0
	// The replica that counted the hundredth failure may have died before it closed the password: a later failure closes it.
	closing := failures >= maxFailuresInARow || a.closed && sampled
	if !shutOut && !closing && !sampled {
		return nil
	}
	return postgres.InTx(ctx, s.cfg.Pool, func(tx pgx.Tx) error {
		kind, notice := audit.LoginFailed, mail.LoginsLimited
		closed := int64(0) // by this failure, and not by another one
		if closing {
			var err error
			closed, err = s.queries.CloseFailures(ctx, tx, db.CloseFailuresParams{
				UserID: a.user.ID, Kind: string(a.kind), Subject: a.client, Most: maxFailuresInARow, Now: s.cfg.Now(),
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
		if err := s.trail.Record(ctx, tx, kind, a.user.ID, uuid.Nil); err != nil {
			return err
		}
		if kind == audit.LoginFailed {
			return nil
		}
		return s.notifyOwner(ctx, tx, notice, a.user.ID)
	})
}

// closing is what happens when too many passwords in a row were wrong.
func (a *attempt) closing() (audit.Kind, mail.Notice) {
	if a.kind == guessLogin {
		return audit.PasswordClosed, mail.PasswordLoginClosed
	}
	return audit.ClientClosed, mail.PasswordClientClosed
}

// deviceToken is what a client gets that has shown the password of this epoch. A device keeps its id.
func (s *Server) deviceToken(userID uuid.UUID, epoch int64, id uuid.UUID) string {
	if id == uuid.Nil {
		id = uuid.New()
	}
	return s.cfg.Devices.Issue(device.Token{UserID: userID, Epoch: epoch, ID: id})
}
