package login

import (
	"context"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/refusal"
)

// CodeRequest has the data of a login by a mailed code.
type CodeRequest struct {
	// ChallengeToken is that of SendLoginCode, Code what was mailed.
	ChallengeToken, Code string
	// DeviceName is shown to the owner in the list of sessions.
	DeviceName string
	// DeviceToken is the token that the client was given, or "".
	DeviceToken string
}

// AnswerCode starts a session for somebody who reads the mails of an account, or asks for the account's second factor:
// the code is one factor. The code is used up before the session starts: of several calls with one code, one gets a
// session.
func (f *Flow) AnswerCode(ctx context.Context, req CodeRequest) (Result, error) {
	if err := f.CheckClock(); err != nil {
		return Result{}, err
	}
	used, err := f.cfg.Accounts.UseLoginCode(ctx, req.ChallengeToken, req.Code)
	found := used.Owner
	caller.NoteUser(ctx, found.ID)
	if err != nil {
		f.recordWrongCode(ctx, found.ID, req.ChallengeToken, err)
		return Result{}, err
	}
	if err := f.refuseDisabled(ctx, found.User, false); err != nil { // since the code was spent
		return Result{}, err
	}
	ctx, cancel := besteffort.Detach(ctx) // what is used up must give a session
	defer cancel()
	var device uuid.UUID
	if shown, ok := f.cfg.Devices.Open(req.DeviceToken); ok && shown.UserID == found.ID && shown.Epoch == found.PasswordEpoch {
		device = shown.ID
	}
	methods := []string{AMROneTime}
	var result Result
	if len(found.Factors) > 0 {
		result, err = f.askFactor(ctx, found, device, methods)
	} else {
		result, err = f.finish(ctx, found, start{keepsTokens: true, device: device, name: req.DeviceName, amr: methods})
	}
	result.PasswordRemoved = err == nil && used.PasswordRemoved
	return result, err
}

// recordWrongCode records a wrong code, after the answer. For an address that nobody has it writes as much elsewhere:
// work that is under way slows the answer down, and would tell which it is (AUC 0.6 without).
func (f *Flow) recordWrongCode(ctx context.Context, userID uuid.UUID, token string, err error) {
	if !refusal.Is(err, latchkeyv1.ErrorReason_ERROR_REASON_CODE_INVALID) {
		return
	}
	f.cfg.Afterwards.Do(ctx, "record a wrong code", func(ctx context.Context) error {
		if userID == uuid.Nil {
			return f.queries.CountDecoy(ctx, f.cfg.Pool, int32(account.HashToken(token)[0]))
		}
		return f.cfg.Trail.Record(ctx, f.cfg.Pool, audit.LoginCodeFailed, userID, uuid.Nil)
	})
}
