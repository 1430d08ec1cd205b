package login

import (
	"context"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/accesstoken"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/session"
)

const (
	// AMRPossession is the authentication method of a passkey: the possession of its key is proved (RFC 8176, section 2).
	AMRPossession = "pop"
	// AMRUser says that the authenticator has verified that its user is present: here, by a PIN or a part of the body.
	AMRUser = "user"
)

// withPasskey returns the methods of an authentication by passkey, beside those of the first factor. A passkey by itself
// must have verified its user; so it always counts as two factors.
func withPasskey(first []string, userVerified bool) []string {
	methods := append([]string{}, first...)
	methods = append(methods, AMRPossession)
	if userVerified {
		methods = append(methods, AMRUser)
	}
	return append(methods, accesstoken.AMRMulti)
}

// AnswerPasskey starts a session for the answer of a passkey: to StartPasskeyLogin, or to the challenge after a password.
// The answer and the challenge are used up in one transaction, before the session starts.
func (f *Flow) AnswerPasskey(ctx context.Context, req AnswerRequest) (Result, error) {
	if err := f.CheckClock(); err != nil {
		return Result{}, err
	}
	if f.cfg.Factors.IsPasskeyLogin(req.ChallengeToken) {
		return f.logInByPasskey(ctx, req)
	}
	challenge, proof, err := f.cfg.Factors.CheckPasskeyOfLogin(ctx, req.ChallengeToken, req.Answer.Text)
	caller.NoteUser(ctx, challenge.UserID)
	if err != nil {
		return Result{}, err
	}
	if err := f.refuseDisabled(ctx, proof.Owner.User, req.KeepsAccount); err != nil {
		return Result{}, err
	}
	ctx, cancel := besteffort.Detach(ctx) // what is used up must give a session
	defer cancel()
	if err := f.cfg.Factors.UsePasskeyOfLogin(ctx, challenge, proof); err != nil {
		return Result{}, err
	}
	return f.finish(ctx, proof.Owner, start{
		keepsTokens: true, device: challenge.DeviceID, name: req.DeviceName, amr: withPasskey(challenge.FirstAMR, proof.UserVerified),
	})
}

// logInByPasskey logs the owner of a passkey in, without a password. There is no mail about a new device: the client has
// no way to show its device token, and the passkey is on it.
func (f *Flow) logInByPasskey(ctx context.Context, req AnswerRequest) (Result, error) {
	proof, err := f.cfg.Factors.CheckPasskeyLogin(ctx, req.ChallengeToken, req.Answer.Text)
	if err != nil {
		return Result{}, err
	}
	caller.NoteUser(ctx, proof.Owner.ID)
	if err := f.refuseDisabled(ctx, proof.Owner.User, req.KeepsAccount); err != nil {
		return Result{}, err
	}
	if err := f.requireProof(ctx, proof.Owner.User); err != nil {
		return Result{}, err
	}
	ctx, cancel := besteffort.Detach(ctx) // what is used up must give a session
	defer cancel()
	if err := f.cfg.Factors.UsePasskeyLogin(ctx, req.ChallengeToken, proof, uuid.Nil); err != nil {
		return Result{}, err
	}
	return f.finish(ctx, proof.Owner, start{name: req.DeviceName, amr: withPasskey(nil, proof.UserVerified)})
}

// ReauthenticatePasskey authenticates the owner of a session again, by the answer of a passkey to StartPasskeyLogin.
func (f *Flow) ReauthenticatePasskey(ctx context.Context, by revoke.Authority, token, answer string) (Tokens, error) {
	return f.reauthenticate(ctx, by, func(_ account.Credential, _ session.Session) ([]string, error) {
		proof, err := f.cfg.Factors.CheckPasskeyLogin(ctx, token, answer)
		if err != nil {
			return nil, err
		}
		if proof.Owner.ID != by.UserID {
			return nil, refusal.FactorCodeInvalid("passkey_json")
		}
		return withPasskey(nil, proof.UserVerified), f.cfg.Factors.UsePasskeyLogin(ctx, token, proof, by.SessionID)
	})
}

// StartPasskeyLogin begins a login by passkey.
func (f *Flow) StartPasskeyLogin() (factors.Ceremony, error) {
	return f.cfg.Factors.BeginPasskeyLogin()
}
