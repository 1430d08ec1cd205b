package login

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/session"
)

// Refresh trades a refresh token for the next one of its session. The order matters. The MAC is checked before anything
// changes, so that somebody who knows only the id of a session cannot disturb it. PostgreSQL is asked before Redis
// advances: a disabled account or an ended session never refreshes, even if Redis says otherwise, and an outage of
// PostgreSQL spends no token. A long token costs one statement of PostgreSQL and one script of Redis, which also
// compares the token's proof; a short one costs a read of Redis before.
func (f *Flow) Refresh(ctx context.Context, refreshToken, requestID string) (Tokens, error) {
	if err := f.CheckClock(); err != nil {
		return Tokens{}, err
	}
	claim, err := f.cfg.Sessions.Claim(ctx, refreshToken)
	if err != nil {
		return Tokens{}, f.refuseToken(ctx, err)
	}
	found, err := f.queries.FindUserForSession(ctx, f.cfg.Pool, db.FindUserForSessionParams{
		UserID: claim.UserID, SessionID: claim.SessionID, Position: claim.Position,
	})
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return Tokens{}, fmt.Errorf("look the account up: %w", err)
	}
	if err != nil || found.Revoked || !found.User.IsActive {
		return Tokens{}, f.dropEnded(ctx, refreshToken)
	}
	mark := MarkOf(found)
	rotation, err := f.rotate(ctx, claim, requestID, mark)
	if err != nil {
		return Tokens{}, err
	}
	if err := f.markSession(ctx, rotation, mark); err != nil {
		return Tokens{}, err
	}
	return f.Issue(ctx, rotation.Session, HolderOf(account.FromRow(found.User)), rotation.IssueTime, rotation.RefreshToken)
}

// dropEnded deletes an ended session from Redis, and returns the refusal. It opens the token before: somebody who knows
// the secret key, and not the salt of the session, could have made it to have the session deleted.
func (f *Flow) dropEnded(ctx context.Context, refreshToken string) error {
	presented, err := f.openSession(ctx, refreshToken)
	if err != nil {
		return err
	}
	f.cfg.Revoker.DropSession(ctx, presented.UserID, presented.SessionID)
	return refusal.SessionEnded()
}

// SpentMargin is how long a spent token is remembered after its end, because clocks differ.
const SpentMargin = time.Hour

// openSession finds the session of a refresh token. If Redis has lost it, the ledger still knows whether it was ended.
func (f *Flow) openSession(ctx context.Context, refreshToken string) (*session.Presented, error) {
	presented, err := f.cfg.Sessions.Open(ctx, refreshToken)
	if err != nil {
		return nil, f.refuseToken(ctx, err)
	}
	return presented, nil
}

// refuseToken returns the answer for a token that could not be claimed or opened.
func (f *Flow) refuseToken(ctx context.Context, err error) error {
	var unknown *session.UnknownError
	switch {
	case errors.Is(err, session.ErrInvalid):
		return refusal.RefreshTokenInvalid()
	case errors.As(err, &unknown):
		return f.UnknownSession(ctx, unknown.SessionID)
	}
	return fmt.Errorf("read the session: %w", err)
}

// UnknownSession returns the refusal for a session that Redis does not have. The token cannot be checked against it, so
// the refusal says no more than whether the session was ended. That is no secret to somebody who knows the id of the
// session.
func (f *Flow) UnknownSession(ctx context.Context, id uuid.UUID) error {
	ended, err := f.queries.SessionRevoked(ctx, f.cfg.Pool, id)
	if err != nil {
		return fmt.Errorf("look the session up: %w", err)
	}
	if !ended.Revoked {
		return refusal.RefreshTokenInvalid()
	}
	// Say "ended" only when the end is final. The call that ended the session may still be waiting for that.
	err = f.cfg.Revoker.WaitFinal(ctx, ended.Position)
	if err != nil {
		return err
	}
	return refusal.SessionEnded()
}

// MarkOf returns the mark of the session in PostgreSQL.
func MarkOf(row db.FindUserForSessionRow) session.Mark {
	var markedAt time.Time
	if row.MarkedAt != nil {
		markedAt = *row.MarkedAt
	}
	return session.Mark{Generation: uint64(max(row.Mark, 0)), Time: markedAt}
}

// markSession sometimes stores how far a session has come, so that few spent tokens become good again if Redis is
// restored from an older copy. The answer waits for it: if it fails, the client repeats the call.
func (f *Flow) markSession(ctx context.Context, rotation session.Rotation, mark session.Mark) error {
	if !mark.Due(rotation) {
		return nil
	}
	sess := rotation.Session
	err := f.queries.MarkSession(ctx, f.cfg.Pool, db.MarkSessionParams{
		SessionID: sess.ID, UserID: sess.UserID, Generation: int64(sess.Generation), //nolint:gosec // G115: below 2^53
		MarkedAt: sess.RotateTime, KeepUntil: sess.End.Add(SpentMargin),
	})
	if err != nil {
		return fmt.Errorf("note how far the session has come: %w", err)
	}
	return nil
}

// rotate spends the token and returns the next one. A reuse ends the session, and no other session of the account.
func (f *Flow) rotate(ctx context.Context, claim *session.Claim, requestID string, mark session.Mark) (session.Rotation, error) {
	rotation, err := f.cfg.Sessions.Rotate(ctx, claim, requestID, mark)
	switch {
	case errors.Is(err, session.ErrReused):
		return rotation, f.endReused(ctx, claim)
	case errors.Is(err, session.ErrLate):
		return rotation, refusal.RefreshTokenInvalid()
	case errors.Is(err, session.ErrEnded):
		return rotation, refusal.SessionEnded()
	case errors.Is(err, session.ErrUnknown):
		return rotation, f.UnknownSession(ctx, claim.SessionID)
	case err != nil:
		return rotation, fmt.Errorf("rotate the refresh token: %w", err)
	}
	var noted audit.Kind
	switch rotation.Outcome {
	case session.Advanced, session.RepeatedSameRequest:
		return rotation, nil
	case session.RepeatedInGrace:
		noted = audit.RefreshRepeat
	case session.CaughtUp:
		noted = audit.RefreshCaughtUp
	}
	if err := f.cfg.Trail.RecordRepeated(ctx, f.cfg.Pool, noted, claim.UserID, claim.SessionID); err != nil {
		return rotation, fmt.Errorf("note the repeated refresh: %w", err)
	}
	return rotation, nil
}

// endReused ends the session of a token that was spent before, and sends the owner a mail. Its error is the answer to
// the client.
func (f *Flow) endReused(ctx context.Context, claim *session.Claim) error {
	if err := f.cfg.Revoker.Session(ctx, audit.RefreshReused, claim.UserID, claim.SessionID); err != nil {
		return err
	}
	f.cfg.Afterwards.Do(ctx, "tell the owner of a reuse", func(ctx context.Context) error {
		return postgres.InTx(ctx, f.cfg.Pool, func(tx pgx.Tx) error {
			return f.cfg.Notifier.Notify(ctx, tx, mail.RefreshTokenReused, claim.UserID, caller.From(ctx).TraceID)
		})
	})
	return refusal.RefreshTokenReused()
}
