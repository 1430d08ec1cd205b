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

// boundStarts limits the sessions that an account starts. If Redis does not answer it refuses, because the session
// needs Redis too.
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
	if err := f.boundStarts(ctx, start.UserID); err != nil {
		return session.Session{}, "", err
	}
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

func (f *Flow) recordLogin(ctx context.Context, started session.Session, devices deviceLogin) error {
	return postgres.InTx(ctx, f.cfg.Pool, func(tx pgx.Tx) error {
		recorded, err := f.queries.RecordLogin(ctx, tx, db.RecordLoginParams{
			Now: f.cfg.Now(), ID: started.UserID, Device: devices.id, Most: maxFailuresInARow,
		})
		if err != nil {
			return fmt.Errorf("record the login: %w", err)
		}
		if recorded == 0 {
			return refusal.InvalidCredentials()
		}
		if err := f.recordDevice(ctx, tx, started.UserID, devices); err != nil {
			return err
		}
		return f.cfg.Trail.Record(ctx, tx, audit.LoggedIn, started.UserID, started.ID)
	})
}

// recordDevice sends a mail about a login without a device token to the owner of an account whose clients keep device
// tokens.
func (f *Flow) recordDevice(ctx context.Context, tx pgx.Tx, userID uuid.UUID, devices deviceLogin) error {
	switch {
	case !devices.keepsTokens:
		return nil
	case devices.since == nil:
		if err := f.queries.NoteDevice(ctx, tx, db.NoteDeviceParams{UserID: userID, Now: f.cfg.Now()}); err != nil {
			return fmt.Errorf("note the device: %w", err)
		}
		return nil
	case devices.id != uuid.Nil || !f.cfg.NewDeviceMails:
		return nil
	}
	return f.cfg.Notifier.Notify(ctx, tx, mail.NewDeviceLogin, userID, caller.From(ctx).TraceID)
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
