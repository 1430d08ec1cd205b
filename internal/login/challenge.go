package login

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/session"
)

const (
	// AMROneTime is the authentication method of a code from an app or a mail, or of a recovery code (RFC 8176, section 2).
	AMROneTime = "otp"
)

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
	challenge := &Challenge{}
	for _, kind := range found.Factors {
		challenge.Kinds = append(challenge.Kinds, factors.Kind(kind))
	}
	asked := factors.LoginChallenge{
		UserID: found.ID, DeviceID: device, Position: found.Position, FirstAMR: first, ExpireTime: f.cfg.Now().Add(factors.LoginChallengeTTL),
	}
	if slices.Contains(challenge.Kinds, factors.Passkey) {
		options, opened, err := f.cfg.Factors.OfferPasskeys(ctx, found.ID)
		if err != nil {
			return Result{}, err
		}
		if options == nil { // they were made for another domain
			challenge.Kinds = slices.DeleteFunc(challenge.Kinds, func(kind factors.Kind) bool { return kind == factors.Passkey })
		}
		challenge.Options, asked.Passkeys = string(options), opened
	}
	if found.Recoverable {
		challenge.Kinds = append(challenge.Kinds, factors.RecoveryCodes)
	}
	var err error
	challenge.Token, err = f.cfg.Factors.SealLogin(asked)
	challenge.ExpireTime = asked.ExpireTime
	return Result{Challenge: challenge}, err
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
	code, err := f.cfg.Factors.TryLoginCode(ctx, req.ChallengeToken, req.KeepsAccount)
	caller.NoteUser(ctx, code.Owner.ID)
	if err != nil {
		return Result{}, err
	}
	if err := f.refuseDisabled(ctx, code.Owner.User, req.KeepsAccount); err != nil {
		return Result{}, err
	}
	// From here on the call is finished even if its client hangs up: a code that is used up must give a session.
	ctx, cancel := besteffort.Detach(ctx)
	defer cancel()
	if err := f.cfg.Factors.ProveLogin(ctx, code, req.Answer); err != nil {
		return Result{}, err
	}
	return f.finish(ctx, code.Owner, start{
		keepsTokens: true, device: code.Challenge.DeviceID, name: req.DeviceName,
		amr: withSecondFactor(code.Challenge.FirstAMR), oneTime: true,
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
