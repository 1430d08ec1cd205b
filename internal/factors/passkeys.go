package factors

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/passkey"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

const (
	// registration is the purpose of the challenge of a registration. It is stored: do not change it.
	registration = "passkey_registration"
	// registrationTTL is the life of such a challenge.
	registrationTTL = 10 * time.Minute
	// maxPasskeys is the most passkeys of an account.
	maxPasskeys = 20
)

// Ceremony is what a client needs to ask an authenticator.
type Ceremony struct {
	// Token comes back with the answer.
	Token string
	// Options are JSON for the browser.
	Options string
}

// checkPasskeys refuses everything about passkeys if the service has none.
func (f *Flow) checkPasskeys() error {
	if f.cfg.Passkeys == nil {
		return refusal.NotEnabled("passkeys are turned off: they need LATCHKEY_PASSKEY_RP_ID")
	}
	return nil
}

// StartPasskey begins the registration of a passkey, by the session that asks for it.
func (f *Flow) StartPasskey(ctx context.Context, by revoke.Authority) (Ceremony, error) {
	if err := f.checkPasskeys(); err != nil {
		return Ceremony{}, err
	}
	if err := f.cfg.Redis.Allow(ctx, changesScope, by.UserID.String(), changesRate()); err != nil {
		return Ceremony{}, err
	}
	owner, err := account.FindOwner(ctx, f.cfg.Pool, by.UserID)
	if err != nil {
		return Ceremony{}, err
	}
	return change(ctx, f, by, func(ctx context.Context, tx pgx.Tx, _ []db.Factor) (Ceremony, error) {
		existing, err := f.passkeys(ctx, tx, by.UserID)
		if err != nil {
			return Ceremony{}, err
		}
		name := owner.FirstName
		if owner.LastName != "" {
			name = fmt.Sprintf("%s %s", owner.FirstName, owner.LastName)
		}
		options, state, err := f.cfg.Passkeys.BeginRegistration(passkey.User{ID: by.UserID, Name: owner.Email, DisplayName: name}, existing)
		if err != nil {
			return Ceremony{}, err
		}
		// Not the session's position: rows that spare the session, and changes of address, came after it and would end the
		// challenge. The session is looked at again before the commit, so none before the head has ended it.
		head, err := f.cfg.Revoker.Head(ctx, tx)
		if err != nil {
			return Ceremony{}, err
		}
		token := NewToken()
		present, err := f.KeepChallenge(ctx, tx, db.CreateChallengeParams{
			TokenHash: account.HashToken(token), Purpose: registration, UserID: by.UserID,
			SessionID: by.SessionID, Position: head.Position, Data: state,
			ExpiresAt: f.cfg.Now().Add(registrationTTL),
		})
		if err == nil && !present {
			err = refusal.AccountGone()
		}
		if err != nil {
			return Ceremony{}, err
		}
		return Ceremony{Token: token, Options: string(options)}, nil
	})
}

// Registered is a new passkey, and the recovery codes that came with it.
type Registered struct {
	Factor Factor
	// Codes are nil if the account had recovery codes.
	Codes []string
}

// FinishPasskey gives the account the passkey of the answer. The challenge is spent before the answer is looked at, since
// the library would accept the answer again.
func (f *Flow) FinishPasskey(ctx context.Context, by revoke.Authority, token, answer, name string) (Registered, error) {
	if err := f.checkPasskeys(); err != nil {
		return Registered{}, err
	}
	state, err := f.queries.TakeChallenge(ctx, f.cfg.Pool, db.TakeChallengeParams{
		TokenHash: account.HashToken(token), Purpose: registration, UserID: by.UserID, SessionID: by.SessionID, Now: f.cfg.Now(),
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return Registered{}, refusal.FactorCodeInvalid("challenge_token")
	}
	if err != nil {
		return Registered{}, fmt.Errorf("spend the challenge: %w", err)
	}
	made, err := f.cfg.Passkeys.FinishRegistration(by.UserID, state, []byte(answer))
	if errors.Is(err, passkey.ErrRefused) {
		return Registered{}, refusal.FactorCodeInvalid("credential_json")
	}
	if err != nil {
		return Registered{}, err
	}
	if name == "" {
		name = passkey.ModelName(made.AAGUID)
	}
	added := Factor{Kind: Passkey, ID: uuid.New(), Name: name, CreateTime: f.cfg.Now(), LastUseTime: f.cfg.Now()}
	return change(ctx, f, by, func(ctx context.Context, tx pgx.Tx, _ []db.Factor) (Registered, error) {
		if err := f.putPasskey(ctx, tx, by.UserID, added, made); err != nil {
			return Registered{}, err
		}
		result := Registered{Factor: added}
		_, err := f.queries.FindRecoverySet(ctx, tx, by.UserID)
		if errors.Is(err, pgx.ErrNoRows) {
			result.Codes, err = f.replaceCodes(ctx, tx, by.UserID)
		}
		if err != nil {
			return Registered{}, fmt.Errorf("look for recovery codes: %w", err)
		}
		return result, f.note(ctx, tx, by, audit.PasskeyAdded, mail.PasskeyAdded)
	})
}

// putPasskey stores a passkey. It refuses one that any account has: nobody else's passkey may log in here.
func (f *Flow) putPasskey(ctx context.Context, tx pgx.Tx, userID uuid.UUID, added Factor, made passkey.Credential) error {
	count, err := f.queries.CountPasskeys(ctx, tx, userID)
	if err != nil {
		return fmt.Errorf("count the passkeys: %w", err)
	}
	if count >= maxPasskeys {
		return refusal.New(codes.ResourceExhausted, latchkeyv1.ErrorReason_ERROR_REASON_RATE_LIMITED,
			"the account has 20 passkeys: remove one first")
	}
	err = f.queries.CreateFactor(ctx, tx, db.CreateFactorParams{
		ID: added.ID, UserID: userID, Kind: string(Passkey), Name: added.Name, Now: added.CreateTime,
	})
	if err != nil {
		return fmt.Errorf("add the factor: %w", err)
	}
	created, err := f.queries.CreatePasskey(ctx, tx, db.CreatePasskeyParams{
		FactorID: added.ID, RpID: f.cfg.Passkeys.ID(), CredentialID: made.ID, PublicKey: made.PublicKey,
		Flags: int16(made.Flags), SignCount: int64(made.SignCount), Aaguid: made.AAGUID, Transports: append([]string{}, made.Transports...), // NULL is not allowed
	})
	if err != nil {
		return fmt.Errorf("keep the passkey: %w", err)
	}
	if created == 0 {
		return refusal.FactorCodeInvalid("credential_json")
	}
	return nil
}

// RenamePasskey changes what the owner calls a passkey.
func (f *Flow) RenamePasskey(ctx context.Context, by revoke.Authority, id uuid.UUID, name string) error {
	if err := f.cfg.Redis.Allow(ctx, changesScope, by.UserID.String(), changesRate()); err != nil {
		return err
	}
	_, err := revoke.Change(ctx, f.cfg.Revoker, by, func(ctx context.Context, tx pgx.Tx) (none struct{}, err error) {
		renamed, err := f.queries.RenamePasskey(ctx, tx, db.RenamePasskeyParams{ID: id, UserID: by.UserID, Name: name})
		if err != nil || renamed == 0 {
			return none, err
		}
		return none, f.cfg.Trail.Record(ctx, tx, audit.PasskeyRenamed, by.UserID, by.SessionID)
	})
	if err != nil {
		return fmt.Errorf("rename the passkey: %w", err)
	}
	return nil
}

// RemovePasskey removes a passkey, and the recovery codes if no second factor is left. It refuses the last way to log in.
// It returns the list of the good passkeys as browsers take it, or "" without an RP id.
func (f *Flow) RemovePasskey(ctx context.Context, by revoke.Authority, id uuid.UUID) (string, error) {
	if err := f.cfg.Redis.Allow(ctx, changesScope, by.UserID.String(), changesRate()); err != nil {
		return "", err
	}
	return change(ctx, f, by, func(ctx context.Context, tx pgx.Tx, second []db.Factor) (string, error) {
		removed, err := f.queries.DeletePasskey(ctx, tx, db.DeletePasskeyParams{ID: id, UserID: by.UserID})
		if err != nil {
			return "", fmt.Errorf("remove the passkey: %w", err)
		}
		if removed > 0 {
			if err := f.checkWayIn(ctx, tx, by.UserID); err != nil {
				return "", err
			}
			if len(second) == 1 {
				if _, err := f.queries.DeleteRecoverySet(ctx, tx, by.UserID); err != nil {
					return "", fmt.Errorf("remove the recovery codes: %w", err)
				}
			}
			if err := f.note(ctx, tx, by, audit.PasskeyRemoved, mail.PasskeyRemoved); err != nil {
				return "", err
			}
		}
		return f.accepted(ctx, tx, by.UserID)
	})
}

// checkWayIn refuses an account, which is locked, without a password and without a passkey that works here, unless mailed
// codes log in.
func (f *Flow) checkWayIn(ctx context.Context, tx pgx.Tx, userID uuid.UUID) error {
	if f.cfg.LoginByCode {
		return nil
	}
	owner, err := account.FindOwner(ctx, tx, userID)
	if err != nil || owner.Hash != password.None {
		return err
	}
	left, err := f.passkeys(ctx, tx, userID)
	if err != nil || len(left) > 0 {
		return err
	}
	return refusal.New(codes.FailedPrecondition, latchkeyv1.ErrorReason_ERROR_REASON_LAST_FACTOR,
		"the account has no password, so this passkey is the last way to log in: add another passkey, or set a password, first")
}

func (f *Flow) accepted(ctx context.Context, tx pgx.Tx, userID uuid.UUID) (string, error) {
	if f.cfg.Passkeys == nil {
		return "", nil
	}
	left, err := f.passkeys(ctx, tx, userID)
	if err != nil {
		return "", err
	}
	var ids [][]byte
	for _, credential := range left {
		ids = append(ids, credential.ID)
	}
	text, err := f.cfg.Passkeys.AcceptedCredentials(userID, ids)
	return string(text), err
}

// passkeys returns the passkeys of an account that work here.
func (f *Flow) passkeys(ctx context.Context, on db.DBTX, userID uuid.UUID) ([]passkey.Credential, error) {
	if f.cfg.Passkeys == nil {
		return nil, nil
	}
	rows, err := f.queries.ListPasskeys(ctx, on, db.ListPasskeysParams{UserID: userID, RpID: f.cfg.Passkeys.ID()})
	if err != nil {
		return nil, fmt.Errorf("list the passkeys: %w", err)
	}
	list := make([]passkey.Credential, len(rows))
	for i, row := range rows {
		list[i] = credentialOf(row)
	}
	return list, nil
}

func credentialOf(row db.Passkey) passkey.Credential {
	return passkey.Credential{
		ID: row.CredentialID, PublicKey: row.PublicKey, Transports: row.Transports, AAGUID: row.Aaguid,
		Flags: byte(row.Flags), SignCount: uint32(row.SignCount), //nolint:gosec // G115: written from a byte and a uint32
	}
}
