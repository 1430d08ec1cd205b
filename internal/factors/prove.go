package factors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/recoverycode"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/totp"
)

// The limits of wrong codes. Three codes of a million are good at a time, so a hundred guesses in a row (NIST SP 800-63B-4,
// section 3.2.2), ten in 15 minutes, find one with a probability of 1 in 3,300. After them it is ten guesses a day: 1 in
// 33,000. All devices and sessions together have 50 guesses a day: 1 in 6,700. Nobody is shut out for good.
const (
	failuresAllowed  = 10
	failureWindow    = 15 * time.Minute
	failuresInARow   = 100
	failuresTogether = 50
	longWindow       = 24 * time.Hour
)

// subjects are the subjects with which the wrong codes of a prover are counted. uuid.Max is that of all devices and sessions
// of an account together.
func (p Prover) subjects() []uuid.UUID {
	if p.Subject == uuid.Nil {
		return []uuid.UUID{p.Subject}
	}
	return []uuid.UUID{p.Subject, uuid.Max}
}

// Prover is who answers, and with which others the wrong codes are counted.
type Prover struct {
	UserID uuid.UUID
	// Epoch is that of the password: wrong codes that were tried with an older one say nothing.
	Epoch int64
	// Subject is the device or the session whose wrong codes are counted by themselves, and with those of all others of the
	// account, or uuid.Nil.
	Subject uuid.UUID
	// SessionID is the session that proves, or uuid.Nil at a login.
	SessionID uuid.UUID

	// challenge is the login's challenge, which the answer spends. Nil: there is none.
	challenge *LoginChallenge
}

// Answer is a code of one kind, TOTP or RecoveryCodes.
type Answer struct {
	Kind Kind
	// Field is the name of the field in the request.
	Field string
	Text  string
}

// accept uses a code up, spends the challenge and takes back what was counted before the code was compared: all or none of
// it. It returns false if another call has used the code up.
type accept func(ctx context.Context) (bool, error)

// Prove returns nil if the answer is right, and refusal.FactorCodeInvalid if not. It uses the code up: if several calls have
// the same code, one succeeds.
//
// Each answer counts as wrong before it is compared, so that no guess is free. Too many wrong ones limit this prover, and
// never the password.
func (f *Flow) Prove(ctx context.Context, p Prover, answer Answer) error {
	counted, err := f.count(ctx, p)
	if err != nil {
		return err
	}
	return f.prove(ctx, p, answer, counted)
}

// prove is Prove for an answer that was counted. If it answers a challenge, the challenge is spent with it.
func (f *Flow) prove(ctx context.Context, p Prover, answer Answer, counted counted) error {
	if counted.failures == 0 {
		return f.limited(ctx, p)
	}
	use, err := f.find(ctx, p, answer, counted)
	if err != nil {
		detached, cancel := besteffort.Detach(ctx)
		defer cancel()
		return errors.Join(err, f.uncount(detached, f.cfg.Pool, p, false)) // nothing was compared
	}
	if use == nil {
		return f.wrong(ctx, p, answer, counted)
	}
	switch used, err := use(ctx); {
	case err != nil:
		return fmt.Errorf("use the code up: %w", err)
	case !used:
		return refusal.FactorCodeInvalid(answer.Field)
	}
	return nil
}

// find compares an answer. It returns nil if it is wrong.
func (f *Flow) find(ctx context.Context, p Prover, answer Answer, counted counted) (accept, error) {
	switch answer.Kind {
	case TOTP:
		return f.findTOTP(p, answer.Text, counted)
	case RecoveryCodes:
		return f.findRecoveryCode(ctx, p, answer.Text)
	case Password, Passkey:
	}
	return nil, fmt.Errorf("a code of the kind %q", answer.Kind)
}

func (f *Flow) findTOTP(p Prover, typed string, found counted) (accept, error) {
	if !found.app.Valid {
		return nil, nil
	}
	id := found.app.UUID
	seed, _, err := f.cfg.Sealer.Open(seedPlace(id), found.sealedSeed)
	if err != nil {
		return nil, fmt.Errorf("open the seed of factor %s: %w", id, err)
	}
	step, ok := totp.Check(seed, typed, f.cfg.Now())
	if !ok || step <= found.lastStep {
		return nil, nil
	}
	return func(ctx context.Context) (bool, error) {
		var challenge []byte
		if p.challenge != nil {
			challenge = p.challenge.hash
		}
		answered, err := f.queries.AnswerTotp(ctx, f.cfg.Pool, db.AnswerTotpParams{
			Challenge: challenge, Purpose: loginChallenge, UserID: p.UserID, FactorID: id, Step: step, Now: f.cfg.Now(),
			Subjects: p.subjects(), Epoch: p.Epoch,
		})
		if err == nil && p.challenge != nil && !answered.Live {
			err = refusal.ChallengeInvalid()
		}
		return answered.Accepted, err
	}, nil
}

func (f *Flow) findRecoveryCode(ctx context.Context, p Prover, typed string) (accept, error) {
	code, err := recoverycode.Parse(typed)
	if err != nil {
		return nil, nil //nolint:nilerr // a wrong code
	}
	set, err := f.queries.FindRecoverySet(ctx, f.cfg.Pool, p.UserID)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look the recovery codes up: %w", err)
	}
	key, _, err := f.cfg.Sealer.Open(codesPlace(set.ID), set.SealedKey)
	if err != nil {
		return nil, fmt.Errorf("open the key of recovery codes %s: %w", set.ID, err)
	}
	return func(ctx context.Context) (bool, error) {
		err := postgres.InTx(ctx, f.cfg.Pool, func(tx pgx.Tx) error { return f.useRecoveryCode(ctx, tx, p, recoverycode.Hash(key, code)) })
		if errors.Is(err, errUsed) {
			return false, nil
		}
		return err == nil, err
	}, nil
}

// errUsed rolls the transaction back when another call has used the code up: the challenge stays good for the next code.
var errUsed = errors.New("the code was used before")

func (f *Flow) useRecoveryCode(ctx context.Context, tx pgx.Tx, p Prover, hash []byte) error {
	// The counts are locked before the challenge, as TryLoginCode does it.
	if err := f.uncount(ctx, tx, p, true); err != nil {
		return err
	}
	if p.challenge != nil {
		if err := f.spendLogin(ctx, tx, *p.challenge); err != nil {
			return err
		}
	}
	used, err := f.queries.SpendRecoveryCode(ctx, tx, db.SpendRecoveryCodeParams{UserID: p.UserID, CodeHash: hash, Now: f.cfg.Now()})
	if err != nil {
		return fmt.Errorf("spend the recovery code: %w", err)
	}
	if used == 0 {
		return errUsed
	}
	if err := f.cfg.Trail.Record(ctx, tx, audit.RecoveryCodeUsed, p.UserID, p.SessionID); err != nil {
		return err
	}
	return f.notify(ctx, tx, mail.RecoveryCodeUsed, p.UserID)
}

// counted is what was read when an answer was counted as wrong.
type counted struct {
	// failures are those of the window, with this one; failuresAllowed if there may be no more. 0: there were too many, so
	// this one was not counted.
	failures int32
	// app is the account's authenticator app, if it has one.
	app        uuid.NullUUID
	sealedSeed []byte
	lastStep   int64
}

func (f *Flow) count(ctx context.Context, p Prover) (counted, error) {
	now := f.cfg.Now()
	row, err := f.queries.CountFactorFailure(ctx, f.cfg.Pool, db.CountFactorFailureParams{
		UserID: p.UserID, Subject: p.Subject, Epoch: p.Epoch, Now: now,
		MostWrong: failuresAllowed, Many: failuresInARow, MostTogether: failuresTogether, Ago: now.Add(-failureWindow), LongAgo: now.Add(-longWindow),
	})
	if err != nil {
		return counted{}, fmt.Errorf("count the code: %w", err)
	}
	return counted{failures: row.Failures, app: row.AppID, sealedSeed: row.SealedSeed, lastStep: row.LastStep}, nil
}

// limited says when the next code will be compared.
func (f *Flow) limited(ctx context.Context, p Prover) error {
	limits, err := f.queries.FindFactorFailures(ctx, f.cfg.Pool, db.FindFactorFailuresParams{UserID: p.UserID, Subjects: p.subjects()})
	if err != nil {
		return fmt.Errorf("read the count of codes: %w", err)
	}
	if len(limits) == 0 { // the account was deleted meanwhile
		if p.SessionID != uuid.Nil {
			return refusal.AccountGone()
		}
		return refusal.ChallengeInvalid()
	}
	wait := time.Second
	for _, limit := range limits {
		most, window := int32(failuresAllowed), failureWindow
		switch {
		case limit.Subject == uuid.Max:
			most, window = failuresTogether, longWindow
		case limit.InARow >= failuresInARow:
			window = longWindow
		}
		if limit.Failures >= most {
			wait = max(wait, limit.Since.Add(window).Sub(f.cfg.Now()))
		}
	}
	return &ratelimit.LimitedError{RetryAfter: wait}
}

func (f *Flow) uncount(ctx context.Context, on db.DBTX, p Prover, wasRight bool) error {
	err := f.queries.UncountFactorFailure(ctx, on, db.UncountFactorFailureParams{
		UserID: p.UserID, Subjects: p.subjects(), Epoch: p.Epoch, WasRight: wasRight,
	})
	if err != nil {
		return fmt.Errorf("count the code: %w", err)
	}
	return nil
}

// wrong records a wrong code. With the last one that is allowed, the owner gets a mail: somebody else who gets that far
// knows the password.
func (f *Flow) wrong(ctx context.Context, p Prover, answer Answer, counted counted) error {
	f.cfg.Afterwards.Do(ctx, "record a wrong code", func(ctx context.Context) error {
		return postgres.InTx(ctx, f.cfg.Pool, func(tx pgx.Tx) error {
			kind := audit.FactorFailed
			if counted.failures >= failuresAllowed {
				kind = audit.FactorsLimited
				if err := f.notify(ctx, tx, mail.FactorsLimited, p.UserID); err != nil {
					return err
				}
			}
			return f.cfg.Trail.Record(ctx, tx, kind, p.UserID, p.SessionID)
		})
	})
	return refusal.FactorCodeInvalid(answer.Field)
}
