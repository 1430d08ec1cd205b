package server

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/session"
)

// settleTime bounds what is still done for a call whose caller may be gone: closing
// its attempt in the limiter, or taking back a session that nobody will hold.
const settleTime = 3 * time.Second

// amrPassword is the authentication method of RFC 8176, section 2.
const amrPassword = "pwd"

// Login implements latchkey.v1.AuthService.
func (s *Server) Login(ctx context.Context, req *latchkeyv1.LoginRequest) (*latchkeyv1.LoginResponse, error) {
	if err := s.canDate(); err != nil {
		return nil, err
	}
	lookup := emailLookup(req.GetEmail())
	found, err := s.findAccount(ctx, req.GetEmail(), lookup)
	if err != nil {
		return nil, err
	}
	attempt, err := s.reserveAttempt(ctx, found.User, req.GetEmail(), lookup)
	if err != nil {
		return nil, err
	}
	by := hashClaim(ctx, false)
	result, err := s.checkPassword(ctx, by, found.User, lookup, req.GetPassword())
	if err != nil {
		return nil, s.settleAttempt(ctx, attempt, err)
	}
	if !found.User.IsActive {
		return nil, s.settleAttempt(ctx, attempt, errAccountDisabled())
	}
	if result.Weaker {
		if err := s.rehash(ctx, by, found.User, req.GetPassword()); err != nil {
			return nil, s.settleAttempt(ctx, attempt, err)
		}
	}
	started, refreshToken, err := s.startSession(ctx, session.Start{
		UserID: found.User.ID, Ledger: found.Ledger, DeviceName: req.GetDeviceName(),
		Address: addressText(callFrom(ctx)), AMR: []string{amrPassword},
	})
	if err != nil {
		return nil, s.settleAttempt(ctx, attempt, err)
	}
	if err := s.settleAttempt(ctx, attempt, nil); err != nil {
		return nil, err
	}
	tokens, err := s.issue(ctx, started, found.User.Email, started.CreateTime, refreshToken)
	if err != nil {
		return nil, err
	}
	return &latchkeyv1.LoginResponse{
		Result: &latchkeyv1.LoginResponse_Tokens{Tokens: tokens},
		User:   userMessage(found.User),
	}, nil
}

// findAccount reads the account, or none (its id is nil), which is no error. The
// ledger's position is read with the hash, before anything takes its time: a
// revocation in between refuses the session.
func (s *Server) findAccount(ctx context.Context, email, lookup string) (db.FindUserByEmailRow, error) {
	found, err := s.queries.FindUserByEmail(ctx, s.cfg.Pool, db.FindUserByEmailParams{Email: email, EmailLookup: lookup})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return found, fmt.Errorf("look the address up: %w", err)
	}
	return found, nil
}

// loginAttempt is an attempt whose success also ends the counters of an existing
// backend that were carried over: they would come back with the next one.
type loginAttempt struct {
	*ratelimit.Attempt
	carried []string // their addresses
}

// reserveAttempt takes a place among the failures of an account, or of an address
// that has none. What an existing backend has counted takes places too: the address is
// looked up there as it was typed and as the account has it.
func (s *Server) reserveAttempt(ctx context.Context, user db.User, typed, lookup string) (*loginAttempt, error) {
	subject := failureSubject(user, lookup)
	carried, err := s.carryFailures(ctx, subject, user, typed)
	if err != nil {
		return nil, fmt.Errorf("carry failed logins over: %w", err)
	}
	attempt, err := s.cfg.LoginFailures.Reserve(ctx, subject)
	if err != nil {
		return nil, fmt.Errorf("count the attempt: %w", err)
	}
	return &loginAttempt{attempt, carried}, nil
}

// carryFailures costs one round trip, and one more for each counter that there is. Its
// failures count until that counter ends.
func (s *Server) carryFailures(ctx context.Context, subject string, user db.User, typed string) (carried []string, err error) {
	if s.cfg.Legacy == nil {
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
	if s.cfg.Legacy == nil || len(addresses) == 0 {
		return
	}
	if err := s.cfg.Legacy.Store.ForgetAttempts(ctx, addresses...); err != nil {
		s.log.WarnContext(ctx, "old counter of failed logins not cleared, it expires", "trace_id", callFrom(ctx).traceID, "error", err)
	}
}

// failureSubject is whose failures a login counts with: the address in any letter
// case. An account that shares it with the holder of the lookup value counts alone,
// or its owner could clear the failures of the other by logging in.
func failureSubject(user db.User, lookup string) string {
	if user.ID != uuid.Nil && !user.EmailLookup.Valid {
		return "account " + user.ID.String() // no address has a space
	}
	return lookup
}

// checkPassword compares the password. A miss costs what a hit costs and has the
// same answer.
func (s *Server) checkPassword(ctx context.Context, by password.Claim, user db.User, lookup, typed string) (password.Result, error) {
	if user.ID != uuid.Nil {
		result, err := s.cfg.Passwords.Verify(ctx, by, user.PasswordHash, typed)
		switch {
		case err == nil && result.Match:
			return result, nil
		case err == nil:
			return password.Result{}, errInvalidCredentials()
		case !errors.Is(err, password.ErrMalformedHash):
			return password.Result{}, hashError("check the password", err)
		}
		if user.PasswordHash != password.None {
			// Nobody can log in with what is stored: said in the log, for the operator.
			s.log.ErrorContext(ctx, "unusable password hash", "user_id", user.ID, "error", err)
		}
	}
	if err := s.cfg.Passwords.VerifyUnknown(ctx, by, lookup, typed); err != nil {
		return password.Result{}, hashError("check the password", err)
	}
	return password.Result{}, errInvalidCredentials()
}

// settleAttempt closes the attempt by the outcome and returns it. Only a wrong
// password is a failure; the right one clears the address's failures. What could
// not be counted must not pass: a login is refused when its attempt cannot be
// closed.
func (s *Server) settleAttempt(ctx context.Context, attempt *loginAttempt, outcome error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	var err error
	var refused *refusal
	switch {
	case outcome == nil:
		s.forgetCarried(ctx, attempt.carried...)
		err = attempt.Succeed(ctx)
	case errors.As(outcome, &refused) && refused.reason == latchkeyv1.ErrorReason_ERROR_REASON_INVALID_CREDENTIALS:
		err = attempt.Fail(ctx)
	case errors.As(outcome, &refused) && refused.reason == latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED:
		s.forgetCarried(ctx, attempt.carried...)
		err = attempt.Succeed(ctx)
	default:
		err = attempt.Release(ctx)
	}
	if err != nil {
		return fmt.Errorf("count the attempt: %w", err)
	}
	return outcome
}

// rehash rewrites a weak hash under today's parameters. An overloaded hasher puts
// it off to the next login. When the hash has changed meanwhile nothing is written:
// another login was faster, or the password is a new one, whose revocation refuses
// the session that this login starts.
func (s *Server) rehash(ctx context.Context, by password.Claim, user db.User, typed string) error {
	hash, err := s.cfg.Passwords.Hash(ctx, by, typed)
	if err != nil {
		if ctx.Err() != nil {
			return hashError("rewrite the hash", err)
		}
		return nil // the login is good without it
	}
	_, err = s.queries.RehashPassword(ctx, s.cfg.Pool, db.RehashPasswordParams{
		ID: user.ID, OldHash: user.PasswordHash, NewHash: hash,
	})
	if err != nil {
		return fmt.Errorf("rewrite the hash: %w", err)
	}
	return nil
}

// startSession makes the session, ends those that it pushes over the limit and
// records the login. The session comes first: when something fails afterwards nobody
// holds its token, and it is taken back.
func (s *Server) startSession(ctx context.Context, start session.Start) (session.Session, string, error) {
	created, err := s.cfg.Sessions.Create(ctx, start)
	if err != nil {
		return session.Session{}, "", fmt.Errorf("start the session: %w", err)
	}
	started := created.Session
	err = s.evictSessions(ctx, start.UserID, created.Evicted)
	if err == nil {
		err = s.recordLogin(ctx, started)
	}
	if err != nil {
		s.dropSession(ctx, start.UserID, started.ID)
		return started, "", err
	}
	return started, created.RefreshToken, nil
}

func (s *Server) recordLogin(ctx context.Context, started session.Session) error {
	return postgres.InTx(ctx, s.cfg.Pool, func(tx pgx.Tx) error {
		recorded, err := s.queries.RecordLogin(ctx, tx, db.RecordLoginParams{Now: s.cfg.Now(), ID: started.UserID})
		if err != nil {
			return fmt.Errorf("record the login: %w", err)
		}
		if recorded == 0 {
			return errInvalidCredentials()
		}
		return s.audit(ctx, tx, auditLoggedIn, started.UserID, started.ID)
	})
}

// evictSessions ends what a login has pushed over the limit, before it answers. What
// could not be ended is handed to a later login. It is one session as a rule, and
// hundreds after LATCHKEY_SESSION_LIMIT was lowered: all at once, the ledger takes
// them in one append and they wait together.
func (s *Server) evictSessions(ctx context.Context, userID uuid.UUID, ids []uuid.UUID) error {
	var ending errgroup.Group
	for _, id := range ids {
		ending.Go(func() error { return s.endSession(ctx, userID, id, auditSessionEvicted) })
	}
	return ending.Wait()
}

// dropSession deletes what the ledger or a failed login has ended already: it saves
// room and is not what keeps the session ended, so a failure is only logged.
func (s *Server) dropSession(ctx context.Context, userID, id uuid.UUID) {
	s.tidy(ctx, s.dropping(userID, id))()
}

func (s *Server) dropping(userID, id uuid.UUID) func(context.Context) {
	return func(ctx context.Context) {
		if err := s.cfg.Sessions.Delete(ctx, userID, id); err != nil {
			s.log.WarnContext(ctx, "session not deleted, it will expire", "session_id", id, "error", err)
		}
	}
}
