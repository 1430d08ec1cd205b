package login

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/ratelimit"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/session"
)

// startsScope is the limiter's name for the sessions that an account starts. The rows that one account can make the
// service store are limited (see internal/revoke). A session may be refused when it starts, but never when it ends, so
// the limit is here.
const startsScope = "StartSession"

// startsRate is a hundred times what a person with ten devices needs. A session counts only after the right password,
// so nobody else can use up the rate. Two seconds after the last login there is room for another.
func startsRate() ratelimit.Rate { return ratelimit.Rate{PerMinute: 30, Burst: 300} }

// boundStarts limits the sessions that an account starts. If Redis does not answer it refuses, because the session needs
// Redis too. A login by a code of a second factor does not need it: an app shows two codes a minute, and each counts once.
func (f *Flow) boundStarts(ctx context.Context, userID uuid.UUID) error {
	if err := f.cfg.Rates.Allow(ctx, startsScope, userID.String(), startsRate()); err != nil {
		return fmt.Errorf("count the session: %w", err)
	}
	return nil
}

// deviceLogin has the known facts about the client's device.
type deviceLogin struct {
	keepsTokens bool       // the client can keep device tokens
	id          uuid.UUID  // from the token that it has shown
	since       *time.Time // when the account was given its first device token, or nil
}

// startSession creates the session, ends the sessions over the limit and calls record. The session comes first: if a
// later step fails, nobody has its token yet, and it is deleted.
func (f *Flow) startSession(
	ctx context.Context, start session.Start, record func(context.Context, session.Session) error,
) (session.Session, string, error) {
	created, err := f.cfg.Sessions.Create(ctx, start)
	if err != nil {
		return session.Session{}, "", fmt.Errorf("start the session: %w", err)
	}
	started := created.Session
	err = f.Evict(ctx, start.UserID, created.Evicted)
	if err == nil {
		err = record(ctx, started)
	}
	if err != nil {
		f.cfg.Revoker.DropSession(ctx, start.UserID, started.ID)
		return started, "", err
	}
	return started, created.RefreshToken, nil
}

// recordLogin records a login. The owner of an account whose clients keep device tokens gets a mail about one without.
func (f *Flow) recordLogin(ctx context.Context, started session.Session, devices deviceLogin) error {
	e := f.cfg.Trail.Event(ctx, audit.LoggedIn, started.UserID, started.ID)
	record := func(on db.DBTX) error {
		recorded, err := f.queries.RecordLogin(ctx, on, db.RecordLoginParams{
			Now: e.Time, ID: e.UserID, Device: devices.id, Most: maxFailuresInARow,
			Kind: string(e.Kind), SessionID: e.SessionID, Address: e.Address, TraceID: e.TraceID, CallID: e.CallID, Actor: e.Actor,
		})
		if err != nil {
			return fmt.Errorf("record the login: %w", err)
		}
		if recorded == 0 {
			return refusal.InvalidCredentials()
		}
		return nil
	}
	isFirst := devices.keepsTokens && devices.since == nil
	tellOwner := devices.keepsTokens && devices.since != nil && devices.id == uuid.Nil && f.cfg.NewDeviceMails
	if !isFirst && !tellOwner {
		return record(f.cfg.Pool)
	}
	return postgres.InTx(ctx, f.cfg.Pool, func(tx pgx.Tx) error {
		if err := record(tx); err != nil {
			return err
		}
		if tellOwner {
			return f.cfg.Notifier.Notify(ctx, tx, mail.NewDeviceLogin, started.UserID, caller.From(ctx).TraceID)
		}
		if err := f.queries.NoteDevice(ctx, tx, db.NoteDeviceParams{UserID: started.UserID, Now: e.Time}); err != nil {
			return fmt.Errorf("note the device: %w", err)
		}
		return nil
	})
}

// Evict ends the sessions that a login has pushed over the limit, before the login answers. A later login gets those
// that could not be ended. Usually it is one session, but hundreds after LATCHKEY_SESSION_LIMIT was lowered. So all are
// ended at once: the ledger appends them together, and they wait together.
func (f *Flow) Evict(ctx context.Context, userID uuid.UUID, ids []uuid.UUID) error {
	var ending errgroup.Group
	for _, id := range ids {
		ending.Go(func() error { return f.cfg.Revoker.Session(ctx, audit.SessionEvicted, userID, id) })
	}
	return ending.Wait()
}
