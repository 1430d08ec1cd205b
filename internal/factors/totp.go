package factors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/totp"
)

// enrolmentTTL is how long a seed that was shown can be confirmed: the owner may have to install an app first.
const enrolmentTTL = 30 * time.Minute

// Enrolment is a new seed as an authenticator app takes it.
type Enrolment struct {
	// Secret is what people type, URI what the QR code holds, and QR its image as SVG.
	Secret, URI, QR string
}

// EnrolTOTP makes a seed and shows it once, to the session that asks for it. Nothing changes until ConfirmTOTP: the app
// that the account has stays good.
func (f *Flow) EnrolTOTP(ctx context.Context, by revoke.Authority) (Enrolment, error) {
	if err := f.cfg.Redis.Allow(ctx, changesScope, by.UserID.String(), changesRate()); err != nil {
		return Enrolment{}, err
	}
	owner, err := account.FindOwner(ctx, f.cfg.Pool, by.UserID)
	if err != nil {
		return Enrolment{}, err
	}
	seed, id := totp.NewSeed(), uuid.New()
	uri := totp.URI(f.cfg.Product, owner.Email, seed)
	image, err := totp.QR(uri)
	if err != nil {
		return Enrolment{}, err
	}
	_, err = change(ctx, f, by, func(ctx context.Context, tx pgx.Tx, _ []db.Factor) (struct{}, error) {
		return struct{}{}, f.queries.PutTotpEnrolment(ctx, tx, db.PutTotpEnrolmentParams{
			UserID: by.UserID, SessionID: by.SessionID, FactorID: id,
			SealedSeed: f.cfg.Sealer.Seal(seedPlace(id), seed), ExpiresAt: f.cfg.Now().Add(enrolmentTTL),
		})
	})
	if err != nil {
		return Enrolment{}, fmt.Errorf("keep the new seed: %w", err)
	}
	return Enrolment{Secret: totp.Secret(seed), URI: uri, QR: image}, nil
}

// seedPlace is the place of a seed for the Sealer. It is stored with the seed: do not change it.
func seedPlace(factorID uuid.UUID) string { return "totp_factors.sealed_seed " + factorID.String() }

// ConfirmTOTP makes the seed that EnrolTOTP showed to this session the account's second factor, and returns new recovery
// codes. The code proves that the app has the seed. It takes the place of an app that the account had.
func (f *Flow) ConfirmTOTP(ctx context.Context, by revoke.Authority, typed string) (codes []string, err error) {
	found, err := f.queries.FindTotpEnrolment(ctx, f.cfg.Pool, db.FindTotpEnrolmentParams{
		UserID: by.UserID, SessionID: by.SessionID, Now: f.cfg.Now(),
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, refusal.FactorCodeInvalid("code")
	}
	if err != nil {
		return nil, fmt.Errorf("look the new seed up: %w", err)
	}
	seed, _, err := f.cfg.Sealer.Open(seedPlace(found.FactorID), found.SealedSeed)
	if err != nil {
		return nil, fmt.Errorf("open the new seed: %w", err)
	}
	step, ok := totp.Check(seed, typed, f.cfg.Now())
	if !ok {
		return nil, refusal.FactorCodeInvalid("code")
	}
	return change(ctx, f, by, func(ctx context.Context, tx pgx.Tx, _ []db.Factor) ([]string, error) {
		taken, err := f.queries.TakeTotpEnrolment(ctx, tx, db.TakeTotpEnrolmentParams{
			UserID: by.UserID, SessionID: by.SessionID, FactorID: found.FactorID, Now: f.cfg.Now(),
		})
		if err != nil {
			return nil, fmt.Errorf("take the new seed: %w", err)
		}
		if taken == 0 {
			return nil, refusal.FactorCodeInvalid("code")
		}
		// Sealed again: the row may have been sealed under the previous key.
		if err := f.putTOTP(ctx, tx, by.UserID, found.FactorID, seed, step); err != nil {
			return nil, err
		}
		codes, err := f.replaceCodes(ctx, tx, by.UserID)
		if err != nil {
			return nil, err
		}
		return codes, f.note(ctx, tx, by, audit.FactorAdded, mail.FactorAdded)
	})
}

func (f *Flow) putTOTP(ctx context.Context, tx pgx.Tx, userID, id uuid.UUID, seed []byte, step int64) error {
	if _, err := f.queries.DeleteFactorsOfKind(ctx, tx, db.DeleteFactorsOfKindParams{UserID: userID, Kind: string(TOTP)}); err != nil {
		return fmt.Errorf("remove the app before: %w", err)
	}
	err := f.queries.CreateFactor(ctx, tx, db.CreateFactorParams{ID: id, UserID: userID, Kind: string(TOTP), Now: f.cfg.Now()})
	if err != nil {
		return fmt.Errorf("add the factor: %w", err)
	}
	// The code of the confirmation is used up: it is no answer to a challenge any more.
	err = f.queries.CreateTotp(ctx, tx, db.CreateTotpParams{FactorID: id, SealedSeed: f.cfg.Sealer.Seal(seedPlace(id), seed), Step: step})
	if err != nil {
		return fmt.Errorf("keep the seed: %w", err)
	}
	return nil
}

// RemoveTOTP removes the account's authenticator app, and its recovery codes if no second factor is left. If it has none,
// nothing changes.
func (f *Flow) RemoveTOTP(ctx context.Context, by revoke.Authority) error {
	if err := f.cfg.Redis.Allow(ctx, changesScope, by.UserID.String(), changesRate()); err != nil {
		return err
	}
	_, err := change(ctx, f, by, func(ctx context.Context, tx pgx.Tx, second []db.Factor) (none struct{}, err error) {
		removed, err := f.queries.DeleteFactorsOfKind(ctx, tx, db.DeleteFactorsOfKindParams{UserID: by.UserID, Kind: string(TOTP)})
		if err != nil {
			return none, fmt.Errorf("remove the app: %w", err)
		}
		if removed == 0 {
			return none, nil
		}
		if len(second) == int(removed) {
			if _, err := f.queries.DeleteRecoverySet(ctx, tx, by.UserID); err != nil {
				return none, fmt.Errorf("remove the recovery codes: %w", err)
			}
		}
		return none, f.note(ctx, tx, by, audit.FactorRemoved, mail.FactorRemoved)
	})
	return err
}

// note records a change and queues a mail about it.
func (f *Flow) note(ctx context.Context, tx pgx.Tx, by revoke.Authority, kind audit.Kind, notice mail.Notice) error {
	if err := f.cfg.Trail.Record(ctx, tx, kind, by.UserID, by.SessionID); err != nil {
		return fmt.Errorf("record the change: %w", err)
	}
	return f.notify(ctx, tx, notice, by.UserID)
}

func (f *Flow) notify(ctx context.Context, tx pgx.Tx, notice mail.Notice, userID uuid.UUID) error {
	return f.cfg.Notifier.Notify(ctx, tx, notice, userID, caller.From(ctx).TraceID)
}
