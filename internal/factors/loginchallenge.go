package factors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

const (
	// loginChallenge is the place of the token of a login's challenge for the Sealer, and the purpose of its row. Both are
	// stored: do not change it.
	loginChallenge = "login"
	// LoginChallengeTTL is the life of such a token, and loginTries are the codes that it takes.
	LoginChallengeTTL = 10 * time.Minute
	loginTries        = 5
)

// LoginChallenge is what the right first factor of a login has shown. The token is this, sealed, so a login costs no row
// and no trip before its second factor. The first code makes a row, which counts the codes and says that the challenge is
// spent.
type LoginChallenge struct {
	UserID uuid.UUID `json:"user"`
	// DeviceID is the device that the client has proved to be, or uuid.Nil.
	DeviceID uuid.UUID `json:"device"`
	// Position is the ledger's position from before the first factor was compared.
	Position int64 `json:"position"`
	// FirstAMR are the methods of the first factor.
	FirstAMR []string `json:"amr"`
	// Passkeys is the state of OfferPasskeys, or nil.
	Passkeys   json.RawMessage `json:"passkeys,omitempty"`
	ExpireTime time.Time       `json:"expires"`

	hash []byte // of the token
}

// SealLogin returns the token of a challenge.
func (f *Flow) SealLogin(challenge LoginChallenge) (string, error) {
	plain, err := json.Marshal(challenge)
	if err != nil {
		return "", fmt.Errorf("write the challenge: %w", err)
	}
	return f.sealToken(loginChallenge, plain), nil
}

// openLoginChallenge returns false if the token is none of SealLogin, or has expired.
func (f *Flow) openLoginChallenge(token string) (challenge LoginChallenge, ok bool) {
	plain, ok := f.openToken(loginChallenge, token)
	if !ok || json.Unmarshal(plain, &challenge) != nil || !f.cfg.Now().Before(challenge.ExpireTime) {
		return LoginChallenge{}, false
	}
	challenge.hash = account.HashToken(token)
	return challenge, true
}

// LoginCode is a code for the challenge of a login, which was counted and not compared yet.
type LoginCode struct {
	Challenge LoginChallenge
	// Owner is the account. It has no Hash, and the Position of the challenge.
	Owner account.Credential

	counted counted
}

// TryLoginCode counts a code before it is looked at, so that none is free: in the challenge, and as a wrong code of the
// account, for ProveLogin. The answer is CHALLENGE_INVALID if there is nothing to answer: the token is no challenge, has
// expired, was spent or took five codes, or the account's sessions were ended. keepsAccount is true if the code may be of an
// account that is to be deleted.
func (f *Flow) TryLoginCode(ctx context.Context, token string, keepsAccount bool) (LoginCode, error) {
	challenge, ok := f.openLoginChallenge(token)
	if !ok {
		return LoginCode{}, refusal.ChallengeInvalid()
	}
	now := f.cfg.Now()
	row, err := f.queries.TryLoginCode(ctx, f.cfg.Pool, db.TryLoginCodeParams{
		TokenHash: challenge.hash, Purpose: loginChallenge, UserID: challenge.UserID, DeviceID: challenge.DeviceID, Position: challenge.Position,
		Most: loginTries, Now: now, ExpiresAt: challenge.ExpireTime.Add(spentFor), KeepsAccount: keepsAccount,
		MostWrong: failuresAllowed, Many: failuresInARow, MostTogether: failuresTogether, Ago: now.Add(-failureWindow), LongAgo: now.Add(-longWindow),
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return LoginCode{}, refusal.ChallengeInvalid()
	}
	if err != nil {
		return LoginCode{}, fmt.Errorf("look the challenge up: %w", err)
	}
	code := LoginCode{
		Challenge: challenge,
		Owner: account.Credential{
			User: account.FromRow(row.User), Position: challenge.Position, PasswordEpoch: row.PasswordEpoch, DevicesSince: row.DevicesSince,
		},
		counted: counted{failures: row.Failures, app: row.AppID, sealedSeed: row.SealedSeed, lastStep: row.LastStep},
	}
	if row.Failures > 0 && !row.Tried { // nothing is compared
		ctx, cancel := besteffort.Detach(ctx)
		defer cancel()
		return code, errors.Join(refusal.ChallengeInvalid(), f.uncount(ctx, f.cfg.Pool, code.prover(), false))
	}
	return code, nil
}

func (c *LoginCode) prover() Prover {
	return Prover{UserID: c.Owner.ID, Epoch: c.Owner.PasswordEpoch, Subject: c.Challenge.DeviceID, challenge: &c.Challenge}
}

// ProveLogin is Prove for a code that TryLoginCode has counted. The challenge is spent with it.
func (f *Flow) ProveLogin(ctx context.Context, code LoginCode, answer Answer) error {
	return f.prove(ctx, code.prover(), answer, code.counted)
}

// CheckPasskeyOfLogin checks the answer of a passkey to the challenge of a login. It is not counted: it cannot be guessed.
// The proof's owner has the Position of the challenge. Use it up with UsePasskeyOfLogin.
func (f *Flow) CheckPasskeyOfLogin(ctx context.Context, token, answer string) (LoginChallenge, PasskeyProof, error) {
	challenge, ok := f.openLoginChallenge(token)
	if !ok {
		return LoginChallenge{}, PasskeyProof{}, refusal.ChallengeInvalid()
	}
	if f.cfg.Passkeys == nil || len(challenge.Passkeys) == 0 {
		return LoginChallenge{}, PasskeyProof{}, refusal.FactorCodeInvalid(passkeyField)
	}
	proof, err := f.checkPasskey(ctx, challenge.Passkeys, answer)
	if err == nil && proof.Owner.ID != challenge.UserID {
		err = refusal.FactorCodeInvalid(passkeyField)
	}
	proof.Owner.Position = challenge.Position
	return challenge, proof, err
}

// UsePasskeyOfLogin uses the challenge and the answer up. Of several calls with one challenge, one succeeds.
func (f *Flow) UsePasskeyOfLogin(ctx context.Context, challenge LoginChallenge, proof PasskeyProof) error {
	return f.usePasskey(ctx, proof, uuid.Nil, func(ctx context.Context, tx pgx.Tx) error { return f.spendLogin(ctx, tx, challenge) })
}

// spendLogin spends the challenge of a login, for one caller.
func (f *Flow) spendLogin(ctx context.Context, tx pgx.Tx, challenge LoginChallenge) error {
	done, err := f.spendOnce(ctx, tx, db.SpendOnceParams{
		TokenHash: challenge.hash, Purpose: loginChallenge, UserID: challenge.UserID, Position: challenge.Position, ExpiresAt: challenge.ExpireTime,
		EndsWithSessions: true,
	})
	if err == nil && !done.Spent {
		err = refusal.ChallengeInvalid()
	}
	return err
}
