package login

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/device"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/session"
)

// AMRPassword is the authentication method of RFC 8176, section 2.
const AMRPassword = "pwd"

// Request has the data of a login.
type Request struct {
	Email, Password string
	// DeviceName is shown to the owner in the list of sessions.
	DeviceName string
	// DeviceToken is the token that the client was given, or "".
	DeviceToken string
	// KeepsDeviceTokens is true if the client's contract has device tokens.
	KeepsDeviceTokens bool
	// KeepsAccount cancels the deletion of an account that is to be deleted, if the login succeeds.
	KeepsAccount bool
	// AnswersChallenges is true if the client's contract has challenges. Without, accounts with a second factor are
	// refused.
	AnswersChallenges bool
}

// Result is the answer to a login.
type Result struct {
	// Challenge is set if the account has a second factor. Then all other fields are zero.
	Challenge   *Challenge
	User        account.User
	Tokens      Tokens
	DeviceToken string
	// PasswordRemoved is true if the login has taken the account's password, which a stranger may have chosen. Only a
	// login by code does.
	PasswordRemoved bool
}

// LogIn starts a session for somebody who knows the password of the account, or asks for the account's second factor.
func (f *Flow) LogIn(ctx context.Context, req Request) (Result, error) {
	if err := f.CheckClock(); err != nil {
		return Result{}, err
	}
	// Ask nothing of the stores for a login that the hasher has no place for. Whose device token this is, is known later.
	shown, isGenuine := f.cfg.Devices.Open(req.DeviceToken)
	visit, err := f.cfg.Passwords.Enter(account.HashClaim(ctx, isGenuine))
	if err != nil {
		return Result{}, account.HashError("log in", err)
	}
	defer visit.Leave()
	found, err := account.Find(ctx, f.cfg.Pool, req.Email)
	if err != nil {
		return Result{}, err
	}
	caller.NoteUser(ctx, found.ID)
	a := &attempt{guesser: f.guesserOf(ctx, found, shown), user: found, wrong: refusal.InvalidCredentials(), visit: visit}
	if !a.known { // nobody can make a known client fail at an older backend
		if a.carried, err = f.carryFailures(ctx, a.subject, found.User, req.Email); err != nil {
			return Result{}, fmt.Errorf("carry failed logins over: %w", err)
		}
	}
	result, err := f.guess(ctx, a, req.Password)
	if err != nil {
		return Result{}, err
	}
	if err := f.refuseDisabled(ctx, found.User, req.KeepsAccount); err != nil {
		return Result{}, err
	}
	if err := f.requireProof(ctx, found.User); err != nil {
		return Result{}, err
	}
	// A client that has shown the right password gets a session, even if the deadline of ctx passes now: the client
	// waits a little longer (deadlineShave of server).
	ctx, cancel := besteffort.Detach(ctx)
	defer cancel()
	if result.Weaker {
		if err := f.rehash(ctx, account.HashClaim(ctx, true), found, req.Password); err != nil {
			return Result{}, err
		}
	}
	switch {
	case len(found.Factors) == 0:
		return f.finish(ctx, found, start{
			keepsTokens: req.KeepsDeviceTokens, device: a.device(), name: req.DeviceName, amr: []string{AMRPassword},
		})
	case !req.AnswersChallenges:
		return Result{}, refusal.VerificationRequired()
	}
	return f.askFactor(ctx, found, a.device(), []string{AMRPassword})
}

// requireProof refuses a login to an account whose address is not proved, if the settings say so, and mails its owner
// anew, within the limits of such mails. Use it only after the right password.
func (f *Flow) requireProof(ctx context.Context, user account.User) error {
	if !f.cfg.ProveFirst || user.Verified {
		return nil
	}
	c := caller.From(ctx)
	err := f.cfg.RequestVerification(ctx, nil, mail.Request{Email: user.Email, TraceID: c.TraceID, CallID: c.CallID})
	if err != nil && !errors.Is(err, mail.ErrAddress) { // an older backend took addresses to which no mail can be sent
		return fmt.Errorf("queue the mail: %w", err)
	}
	return refusal.EmailNotVerified()
}

// start has the facts about a session to start.
type start struct {
	keepsTokens bool      // the client can keep device tokens
	device      uuid.UUID // from the token that it has shown, or uuid.Nil
	name        string    // of the device
	amr         []string
	oneTime     bool // a code of a second factor was used up for it
}

// finish starts a session after the password and all that the account asks for beside it.
func (f *Flow) finish(ctx context.Context, found account.Credential, s start) (Result, error) {
	if !found.Active { // refuseDisabled has let it pass
		position, err := f.cfg.Accounts.Keep(ctx, found.ID, found.Position)
		if err != nil {
			return Result{}, err
		}
		found.Active, found.Position = true, position
	}
	if !s.oneTime {
		if err := f.boundStarts(ctx, found.ID); err != nil {
			return Result{}, err
		}
	}
	devices := deviceLogin{keepsTokens: s.keepsTokens, id: s.device, since: found.DevicesSince}
	begin := session.Start{
		UserID: found.ID, Position: found.Position, DeviceName: s.name, Address: caller.From(ctx).AddressText(), AMR: s.amr,
	}
	started, refreshToken, err := f.startSession(ctx, begin, func(ctx context.Context, started session.Session) error {
		return f.recordLogin(ctx, started, devices)
	})
	if err != nil {
		return Result{}, err
	}
	tokens, err := f.Issue(ctx, started, HolderOf(found.User), started.CreateTime, refreshToken)
	if err != nil {
		return Result{}, err
	}
	return Result{User: found.User, Tokens: tokens, DeviceToken: f.DeviceToken(found.ID, found.PasswordEpoch, s.device)}, nil
}

// DeviceToken returns the device token for a client that has shown the password of this epoch. A device keeps its id.
// If id is uuid.Nil, the token gets a new one.
func (f *Flow) DeviceToken(userID uuid.UUID, epoch int64, id uuid.UUID) string {
	if id == uuid.Nil {
		id = uuid.New()
	}
	return f.cfg.Devices.Issue(device.Token{UserID: userID, Epoch: epoch, ID: id})
}

// carryFailures copies the counters of the older backends into ours. It costs one round trip, and one more for each
// counter. The failures count until that counter ends.
func (f *Flow) carryFailures(ctx context.Context, subject string, user account.User, typed string) (carried []string, err error) {
	if f.cfg.Older == nil {
		return nil, nil
	}
	addresses := []string{typed}
	if user.ID != uuid.Nil && user.Email != typed {
		addresses = append(addresses, user.Email)
	}
	counters, err := f.cfg.Older.Failures(ctx, addresses...)
	if err != nil {
		return nil, err
	}
	for _, c := range counters {
		if err := f.cfg.Failures.Carry(ctx, subject, c.Address, c.Count, c.Ends); err != nil {
			return nil, err
		}
		carried = append(carried, c.Address)
	}
	return carried, nil
}

// rehash replaces a weak hash with one under the current parameters. If the hasher is overloaded, the next login does
// it. If the hash has changed in the meantime, nothing is written: another login was faster, or the password is new and
// its revocation refuses the session that this login starts.
func (f *Flow) rehash(ctx context.Context, by password.Claim, user account.Credential, typed string) error {
	hash, err := f.cfg.Passwords.Hash(ctx, by, typed)
	if err != nil {
		return nil //nolint:nilerr // the login is good without it
	}
	_, err = f.queries.RehashPassword(ctx, f.cfg.Pool, db.RehashPasswordParams{
		ID: user.ID, OldHash: user.Hash, NewHash: hash,
	})
	if err != nil {
		return fmt.Errorf("rewrite the hash: %w", err)
	}
	return nil
}
