package login

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/session"
)

const (
	// AMROneTime is the authentication method of a code from an app or a mail, or of a recovery code (RFC 8176, section 2).
	AMROneTime = "otp"
	// A challenge works for challengeTTL and challengeTries answers. Its token has 256 random bits.
	challengeTTL   = 10 * time.Minute
	challengeTries = 5
	challengeBytes = 32
	// challengesScope is the limiter's name for the challenges of an account: each is a row.
	challengesScope = "Challenge"
)

// challengesRate is that of sessions: a challenge takes the place of a session that would begin.
func challengesRate() ratelimit.Rate { return startsRate() }

// Challenge asks the client of a login for a second factor.
type Challenge struct {
	Token string
	// Kinds are the kinds of answers that the account has.
	Kinds []factors.Kind
	// Options are for an answer by passkey, or "".
	Options    string
	ExpireTime time.Time
}

// askFactor answers the right password, or another first factor, of an account that has a second one. No session begins,
// and there is no token but that of the challenge. The challenge carries the ledger's position from before the first
// factor was compared, so it ends with the same events as the session would. first are the methods of the first factor.
func (f *Flow) askFactor(ctx context.Context, found account.Credential, device uuid.UUID, first []string) (Result, error) {
	if err := f.cfg.Rates.Allow(ctx, challengesScope, found.ID.String(), challengesRate()); err != nil {
		return Result{}, fmt.Errorf("count the challenge: %w", err)
	}
	challenge := &Challenge{}
	for _, kind := range found.Factors {
		challenge.Kinds = append(challenge.Kinds, factors.Kind(kind))
	}
	var state []byte
	if slices.Contains(challenge.Kinds, factors.Passkey) {
		options, opened, err := f.cfg.Factors.OfferPasskeys(ctx, found.ID)
		if err != nil {
			return Result{}, err
		}
		if options == nil { // they were made for another domain
			challenge.Kinds = slices.DeleteFunc(challenge.Kinds, func(kind factors.Kind) bool { return kind == factors.Passkey })
		}
		challenge.Options, state = string(options), opened
	}
	now := f.cfg.Now()
	challenge.Token, challenge.ExpireTime = newToken(), now.Add(challengeTTL)
	recoverable, err := f.queries.CreateChallenge(ctx, f.cfg.Pool, db.CreateChallengeParams{
		TokenHash: account.HashToken(challenge.Token), Purpose: factors.LoginChallenge, UserID: found.ID,
		DeviceID: uuid.NullUUID{UUID: device, Valid: device != uuid.Nil},
		Position: found.Position, FirstAmr: first, Data: state, CreatedAt: now, ExpiresAt: challenge.ExpireTime,
	})
	if errors.Is(err, pgx.ErrNoRows) { // the account was deleted since the first factor was compared
		return Result{}, refusal.InvalidCredentials()
	}
	if err != nil {
		return Result{}, fmt.Errorf("keep the challenge: %w", err)
	}
	if recoverable {
		challenge.Kinds = append(challenge.Kinds, factors.RecoveryCodes)
	}
	return Result{Challenge: challenge}, nil
}

// newToken returns the token of a challenge, or an authorization code.
func newToken() string {
	var random [challengeBytes]byte
	_, _ = rand.Read(random[:]) // never fails (crypto/rand, since Go 1.24)
	return base64.RawURLEncoding.EncodeToString(random[:])
}

// tryChallenge counts an answer to the challenge with this token and purpose, of at most so many, and returns the challenge
// and the hash of the token. If there is none to answer, it returns the error that refused makes.
func (f *Flow) tryChallenge(
	ctx context.Context, token, purpose string, most int32, refused func() error,
) (tried db.TryChallengeRow, hash []byte, err error) {
	hash = account.HashToken(token)
	tried, err = f.queries.TryChallenge(ctx, f.cfg.Pool, db.TryChallengeParams{TokenHash: hash, Purpose: purpose, Most: most, Now: f.cfg.Now()})
	if errors.Is(err, pgx.ErrNoRows) {
		return tried, nil, refused()
	}
	if err != nil {
		return tried, nil, fmt.Errorf("look the challenge up: %w", err)
	}
	caller.NoteUser(ctx, tried.User.ID)
	return tried, hash, nil
}

// AnswerRequest has the data of an answer to a challenge.
type AnswerRequest struct {
	ChallengeToken string
	Answer         factors.Answer
	// DeviceName is shown to the owner in the list of sessions.
	DeviceName string
	// KeepsAccount is that of Request.
	KeepsAccount bool
}

// AnswerChallenge starts the session of a login whose first factor was right, for the right code. The try is counted before
// the code is compared. The challenge and the code are used up together, before the session starts: of several calls with
// one challenge or one code, one gets a session.
func (f *Flow) AnswerChallenge(ctx context.Context, req AnswerRequest) (Result, error) {
	if err := f.CheckClock(); err != nil {
		return Result{}, err
	}
	tried, hash, err := f.tryChallenge(ctx, req.ChallengeToken, factors.LoginChallenge, challengeTries, refusal.ChallengeInvalid)
	if err != nil {
		return Result{}, err
	}
	found := account.Credential{
		User: account.FromRow(tried.User), Position: tried.Position, PasswordEpoch: tried.PasswordEpoch, DevicesSince: tried.DevicesSince,
	}
	if err := f.refuseDisabled(ctx, found.User, req.KeepsAccount); err != nil {
		return Result{}, err
	}
	// From here on the call is finished even if its client hangs up: a code that is used up must give a session.
	ctx, cancel := besteffort.Detach(ctx)
	defer cancel()
	prover := factors.Prover{UserID: found.ID, Epoch: found.PasswordEpoch, Subject: tried.DeviceID.UUID, Challenge: hash}
	if err := f.cfg.Factors.Prove(ctx, prover, req.Answer); err != nil {
		return Result{}, err
	}
	return f.finish(ctx, found, start{
		keepsTokens: true, device: tried.DeviceID.UUID, name: req.DeviceName, amr: withSecondFactor(tried.FirstAmr),
	})
}

// withSecondFactor returns the methods of an authentication to which a code was added.
func withSecondFactor(first []string) []string {
	kept := slices.DeleteFunc(slices.Clone(first), func(method string) bool { return method == AMROneTime || method == accesstoken.AMRMulti })
	return append(kept, AMROneTime, accesstoken.AMRMulti)
}

// ReauthenticateFactor authenticates the owner of a session again, by a code of a second factor. The first factor is the
// one with which the session began: only its owner has its tokens. Wrong codes are counted for each session by itself.
func (f *Flow) ReauthenticateFactor(ctx context.Context, by revoke.Authority, answer factors.Answer) (Tokens, error) {
	return f.reauthenticate(ctx, by, func(_ account.Credential, sess session.Session) ([]string, error) {
		epoch, err := f.queries.FindPasswordEpoch(ctx, f.cfg.Pool, by.UserID)
		if err != nil {
			return nil, fmt.Errorf("read the password's epoch: %w", err)
		}
		prover := factors.Prover{UserID: by.UserID, Epoch: epoch, Subject: by.SessionID, SessionID: by.SessionID}
		err = f.cfg.Factors.Prove(ctx, prover, answer)
		return withSecondFactor(sess.AMR), err
	})
}
