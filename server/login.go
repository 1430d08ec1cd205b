package server

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/session"
)

// amrPassword is the authentication method of RFC 8176, section 2.
const amrPassword = "pwd"

// Login implements latchkey.v1.AuthService.
func (s *Server) Login(ctx context.Context, req *latchkeyv1.LoginRequest) (*latchkeyv1.LoginResponse, error) {
	return s.logIn(ctx, req, true)
}

// logIn is Login. keepsTokens says that the contract by which the client calls has device tokens.
func (s *Server) logIn(ctx context.Context, req *latchkeyv1.LoginRequest, keepsTokens bool) (*latchkeyv1.LoginResponse, error) {
	if err := s.checkClock(); err != nil {
		return nil, err
	}
	found, lookup, err := s.findAccount(ctx, req.GetEmail())
	if err != nil {
		return nil, err
	}
	caller.NoteUser(ctx, found.User.ID)
	a := &attempt{
		guesser: s.guesserOf(ctx, found, lookup, req.GetDeviceToken()),
		user:    found.User, lookup: lookup, wrong: refusal.InvalidCredentials(),
	}
	if !a.known { // whom nobody could fail for elsewhere
		if a.carried, err = s.carryFailures(ctx, a.subject, found.User, req.GetEmail()); err != nil {
			return nil, fmt.Errorf("carry failed logins over: %w", err)
		}
	}
	if err := s.openAttempt(ctx, a); err != nil {
		return nil, err
	}
	result, err := s.check(ctx, a, req.GetPassword())
	if err != nil {
		return nil, err
	}
	if !found.User.IsActive {
		return nil, refusal.AccountDisabled()
	}
	// Whoever showed the password gets the session that it stands for, also in what the shave leaves of the deadline.
	ctx, cancel := besteffort.Settling(ctx)
	defer cancel()
	if result.Weaker {
		if err := s.rehash(ctx, hashClaim(ctx, true), found.User, req.GetPassword()); err != nil {
			return nil, err
		}
	}
	return s.admitUser(ctx, found, a.guesser, req.GetDeviceName(), keepsTokens)
}

// admitUser starts a session for somebody whose password was right.
func (s *Server) admitUser(ctx context.Context, found db.FindUserByEmailRow, by guesser, deviceName string, keepsTokens bool) (*latchkeyv1.LoginResponse, error) {
	devices := deviceLogin{keepsTokens: keepsTokens, id: by.device(), since: found.DevicesSince}
	started, refreshToken, err := s.startSession(ctx, devices, session.Start{
		UserID: found.User.ID, Ledger: found.Ledger, DeviceName: deviceName,
		Address: caller.From(ctx).AddressText(), AMR: []string{amrPassword},
	})
	if err != nil {
		return nil, err
	}
	tokens, err := s.issue(ctx, started, found.User.Email, started.CreateTime, refreshToken)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.LoginResponse{
		Result:      &latchkeyv1.LoginResponse_Tokens{Tokens: tokens},
		User:        userMessage(found.User),
		DeviceToken: s.deviceToken(found.User.ID, found.PasswordEpoch, by.device()),
	}, nil
}

// findAccount reads the account, or none (its id is nil), which is no error. The
// ledger's position is read with the hash, before anything takes its time: a
// revocation in between refuses the session.
//
// lookup is what the address counts by, see findTyped.
func (s *Server) findAccount(ctx context.Context, email string) (found db.FindUserByEmailRow, lookup string, err error) {
	return findTyped(ctx, s.queries, s.cfg.Pool, email)
}

// carryFailures costs one round trip, and one more for each counter that there is. Its
// failures count until that counter ends.
func (s *Server) carryFailures(ctx context.Context, subject string, user db.User, typed string) (carried []string, err error) {
	if !s.honoursLegacy() {
		return nil, nil
	}
	addresses := []string{typed}
	if user.ID != uuid.Nil && user.Email != typed {
		addresses = append(addresses, user.Email)
	}
	counters, err := s.cfg.Legacy.Store.Attempts(ctx, addresses...)
	if err != nil {
		return nil, err
	}
	for _, c := range counters {
		if err := s.cfg.LoginFailures.Carry(ctx, subject, c.Address, c.Failures, c.Ends); err != nil {
			return nil, err
		}
		carried = append(carried, c.Address)
	}
	return carried, nil
}

// forgetCarried ends counters of an existing backend. A failure of that leaves them to
// be carried again, so it is only logged.
func (s *Server) forgetCarried(ctx context.Context, addresses ...string) {
	if !s.honoursLegacy() || len(addresses) == 0 {
		return
	}
	if err := s.cfg.Legacy.Store.ForgetAttempts(ctx, addresses...); err != nil {
		s.log.WarnContext(ctx, "old counter of failed logins not cleared, it expires", "trace_id", caller.From(ctx).TraceID, "call_id", caller.From(ctx).CallID, "error", err)
	}
}

// rehash rewrites a weak hash under today's parameters. An overloaded hasher puts
// it off to the next login. When the hash has changed meanwhile nothing is written:
// another login was faster, or the password is a new one, whose revocation refuses
// the session that this login starts.
func (s *Server) rehash(ctx context.Context, by password.Claim, user db.User, typed string) error {
	hash, err := s.cfg.Passwords.Hash(ctx, by, typed)
	if err != nil {
		return nil //nolint:nilerr // the login is good without it
	}
	_, err = s.queries.RehashPassword(ctx, s.cfg.Pool, db.RehashPasswordParams{
		ID: user.ID, OldHash: user.PasswordHash, NewHash: hash,
	})
	if err != nil {
		return fmt.Errorf("rewrite the hash: %w", err)
	}
	return nil
}

// deviceLogin is what a login says of the client's device.
type deviceLogin struct {
	keepsTokens bool       // the client can keep device tokens
	id          uuid.UUID  // of the token that it has shown
	since       *time.Time // when the account was given its first one; nil: never
}

// startSession makes the session, ends those that it pushes over the limit and
// records the login. The session comes first: when something fails afterwards nobody
// holds its token, and it is taken back.
func (s *Server) startSession(ctx context.Context, devices deviceLogin, start session.Start) (session.Session, string, error) {
	if err := s.boundStarts(ctx, start.UserID); err != nil {
		return session.Session{}, "", err
	}
	created, err := s.cfg.Sessions.Create(ctx, start)
	if err != nil {
		return session.Session{}, "", fmt.Errorf("start the session: %w", err)
	}
	started := created.Session
	err = s.evictSessions(ctx, start.UserID, created.Evicted)
	if err == nil {
		err = s.recordLogin(ctx, started, devices)
	}
	if err != nil {
		s.revoker.DropSession(ctx, start.UserID, started.ID)
		return started, "", err
	}
	return started, created.RefreshToken, nil
}

func (s *Server) recordLogin(ctx context.Context, started session.Session, devices deviceLogin) error {
	return postgres.InTx(ctx, s.cfg.Pool, func(tx pgx.Tx) error {
		recorded, err := s.queries.RecordLogin(ctx, tx, db.RecordLoginParams{
			Now: s.cfg.Now(), ID: started.UserID, Device: devices.id, Most: maxFailuresInARow,
		})
		if err != nil {
			return fmt.Errorf("record the login: %w", err)
		}
		if recorded == 0 {
			return refusal.InvalidCredentials()
		}
		if err := s.recordDevice(ctx, tx, started.UserID, devices); err != nil {
			return err
		}
		return s.trail.Record(ctx, tx, audit.LoggedIn, started.UserID, started.ID)
	})
}

// recordDevice tells the owner of an account whose clients keep device tokens about one that has none.
func (s *Server) recordDevice(ctx context.Context, tx pgx.Tx, userID uuid.UUID, devices deviceLogin) error {
	switch {
	case !devices.keepsTokens:
		return nil
	case devices.since == nil:
		if err := s.queries.NoteDevice(ctx, tx, db.NoteDeviceParams{UserID: userID, Now: s.cfg.Now()}); err != nil {
			return fmt.Errorf("note the device: %w", err)
		}
		return nil
	case devices.id != uuid.Nil || !s.cfg.NewDeviceMails:
		return nil
	}
	return s.notifyOwner(ctx, tx, mail.NewDeviceLogin, userID)
}

// evictSessions ends what a login has pushed over the limit, before it answers. What
// could not be ended is handed to a later login. It is one session as a rule, and
// hundreds after LATCHKEY_SESSION_LIMIT was lowered: all at once, the ledger takes
// them in one append and they wait together.
func (s *Server) evictSessions(ctx context.Context, userID uuid.UUID, ids []uuid.UUID) error {
	var ending errgroup.Group
	for _, id := range ids {
		ending.Go(func() error { return s.revoker.Session(ctx, audit.SessionEvicted, userID, id) })
	}
	return ending.Wait()
}
