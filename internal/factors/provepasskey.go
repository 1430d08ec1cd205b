package factors

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/passkey"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

const (
	// passkeyLogin is the place of the token of a login by passkey for the Sealer, and the purpose of the row that says
	// that the token is spent. Both are stored: do not change it.
	passkeyLogin = "passkey_login"
	// passkeyLoginTTL is the life of such a token.
	passkeyLoginTTL = 5 * time.Minute
	timeBytes       = 8
)

// BeginPasskeyLogin begins a login by passkey. Anybody may ask for one, so nothing is stored: the token is the state,
// sealed. A row is stored when it is spent, by somebody who has a passkey.
func (f *Flow) BeginPasskeyLogin() (Ceremony, error) {
	if err := f.checkPasskeys(); err != nil {
		return Ceremony{}, err
	}
	options, state, err := f.cfg.Passkeys.BeginLogin()
	if err != nil {
		return Ceremony{}, err
	}
	plain := binary.BigEndian.AppendUint64(nil, uint64(f.cfg.Now().Add(passkeyLoginTTL).UnixMilli()))
	return Ceremony{Token: f.sealToken(passkeyLogin, append(plain, state...)), Options: string(options)}, nil
}

// IsPasskeyLogin returns whether a token is one of BeginPasskeyLogin, also if it has expired.
func (f *Flow) IsPasskeyLogin(token string) bool {
	_, _, ok := f.openLogin(token)
	return ok
}

func (f *Flow) openLogin(token string) (state []byte, expires time.Time, ok bool) {
	plain, ok := f.openToken(passkeyLogin, token)
	if !ok || len(plain) < timeBytes {
		return nil, time.Time{}, false
	}
	return plain[timeBytes:], time.UnixMilli(int64(binary.BigEndian.Uint64(plain))), true //nolint:gosec // G115: sealed by us
}

// PasskeyProof is a right answer of a passkey, which is not used up yet.
type PasskeyProof struct {
	// Owner is the account of the passkey. It has no Hash, and Position is from before the answer was checked.
	Owner account.Credential
	// UserVerified is true if the authenticator has verified its user this time.
	UserVerified bool

	factorID   uuid.UUID
	credential passkey.Credential
	fellBack   bool
}

// CheckPasskeyLogin checks the answer to BeginPasskeyLogin. Nothing is counted and nothing limits it: an answer cannot be
// guessed, so nobody can lock the owner of a passkey out. Use it up with UsePasskeyLogin.
func (f *Flow) CheckPasskeyLogin(ctx context.Context, token, answer string) (PasskeyProof, error) {
	if err := f.checkPasskeys(); err != nil {
		return PasskeyProof{}, err
	}
	state, expires, ok := f.openLogin(token)
	if !ok || !f.cfg.Now().Before(expires) {
		return PasskeyProof{}, refusal.ChallengeInvalid()
	}
	return f.checkPasskey(ctx, state, answer)
}

// UsePasskeyLogin uses the token and the answer up. Of several calls with one token, one succeeds. sessionID is the session
// that proves, or uuid.Nil at a login.
func (f *Flow) UsePasskeyLogin(ctx context.Context, token string, proof PasskeyProof, sessionID uuid.UUID) error {
	_, expires, ok := f.openLogin(token)
	if !ok {
		return refusal.ChallengeInvalid()
	}
	return f.usePasskey(ctx, proof, sessionID, func(ctx context.Context, tx pgx.Tx) error {
		done, err := f.spendOnce(ctx, tx, db.SpendOnceParams{
			TokenHash: account.HashToken(token), Purpose: passkeyLogin, UserID: proof.Owner.ID, Position: proof.Owner.Position, ExpiresAt: expires,
		})
		if err != nil {
			return err
		}
		switch {
		case !done.Present && sessionID != uuid.Nil: // deleted since the answer was checked
			return refusal.AccountGone()
		case !done.Present:
			return refusal.FactorCodeInvalid(passkeyField)
		case !done.Spent:
			return refusal.ChallengeInvalid()
		}
		return nil
	})
}

// OfferPasskeys returns what a client needs to answer with one of the account's passkeys after the password. Both are nil
// if none works here.
func (f *Flow) OfferPasskeys(ctx context.Context, userID uuid.UUID) (options, state []byte, err error) {
	list, err := f.passkeys(ctx, f.cfg.Pool, userID)
	if err != nil || len(list) == 0 {
		return nil, nil, err
	}
	return f.cfg.Passkeys.BeginProof(userID, list)
}

// passkeyField is the field of requests with the answer of a passkey.
const passkeyField = "passkey_json"

func (f *Flow) checkPasskey(ctx context.Context, state []byte, answer string) (proof PasskeyProof, err error) {
	proved, err := f.cfg.Passkeys.FinishLogin(state, []byte(answer), func(id []byte) (passkey.Owner, error) {
		row, err := f.queries.FindPasskey(ctx, f.cfg.Pool, db.FindPasskeyParams{CredentialID: id, RpID: f.cfg.Passkeys.ID()})
		if errors.Is(err, pgx.ErrNoRows) {
			return passkey.Owner{}, passkey.ErrUnknown
		}
		if err != nil {
			return passkey.Owner{}, fmt.Errorf("look the passkey up: %w", err)
		}
		proof.factorID = row.Passkey.FactorID
		proof.Owner = account.Credential{
			User: account.FromRow(row.User), Position: row.Position, PasswordEpoch: row.PasswordEpoch, DevicesSince: row.DevicesSince,
		}
		return passkey.Owner{UserID: row.User.ID, Credential: credentialOf(row.Passkey)}, nil
	})
	if errors.Is(err, passkey.ErrRefused) {
		return PasskeyProof{}, refusal.FactorCodeInvalid(passkeyField)
	}
	if err != nil {
		return PasskeyProof{}, err
	}
	proof.credential, proof.UserVerified, proof.fellBack = proved.Credential, proved.UserVerified, proved.CountFellBack
	return proof, nil
}

// usePasskey uses an answer up, and runs spend in the same transaction. A passkey that was removed meanwhile is refused.
func (f *Flow) usePasskey(ctx context.Context, proof PasskeyProof, sessionID uuid.UUID, spend func(ctx context.Context, tx pgx.Tx) error) error {
	return postgres.InTx(ctx, f.cfg.Pool, func(tx pgx.Tx) error {
		if err := spend(ctx, tx); err != nil {
			return err
		}
		used, err := f.queries.UsePasskey(ctx, tx, db.UsePasskeyParams{
			FactorID: proof.factorID, Flags: int16(proof.credential.Flags), SignCount: int64(proof.credential.SignCount), Now: f.cfg.Now(),
		})
		if err != nil {
			return fmt.Errorf("note the use of the passkey: %w", err)
		}
		if used == 0 {
			return refusal.FactorCodeInvalid(passkeyField)
		}
		if proof.fellBack {
			// Perhaps somebody has copied the passkey, perhaps an authenticator was restored. Refusing would lock owners out.
			return f.cfg.Trail.Record(ctx, tx, audit.PasskeyCountFellBack, proof.Owner.ID, sessionID)
		}
		return nil
	})
}
