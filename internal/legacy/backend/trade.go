package backend

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/legacy"
	"github.com/latchkey-auth/latchkey/internal/login"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/session"
)

// The kinds of spent tokens. They are stored: rename none.
const (
	refreshKind = "refresh"
	resetKind   = "reset"
)

// forGood is the time at which rows that are never deleted expire. PostgreSQL has later years, but not every program
// that reads them has.
func forGood() time.Time { return time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC) }

// errSpentMeanwhile: another call has spent the token first.
var errSpentMeanwhile = errors.New("the token was spent meanwhile")

// Owns implements auth.Older: the tokens of an older backend are JWTs.
func (b *Backend) Owns(refreshToken string) bool { return strings.Count(refreshToken, ".") == 2 }

// oldRefresh is a refresh token of an older backend.
type oldRefresh struct {
	*legacy.Token
	text string
	// spent is the row of the trade. Nil: the token has not been spent.
	spent *db.FindLegacyTradeRow
}

// openRefresh returns the refresh token that text is, or a refusal. It asks PostgreSQL before Redis: Redis may have
// lost the key of a traded token, or have it again.
func (b *Backend) openRefresh(ctx context.Context, text string) (*oldRefresh, error) {
	verified, err := b.cfg.Left.Tokens.Verify(text)
	// The Go backend's access tokens show that they are not refresh tokens, whatever is in Redis.
	if err != nil || verified.Backend == legacy.Go && !verified.NeverAccess() {
		return nil, refusal.RefreshTokenInvalid()
	}
	old := &oldRefresh{Token: verified, text: text}
	if err := b.readSpent(ctx, old); err != nil || old.spent != nil {
		return old, err
	}
	kept, err := b.cfg.Left.Store.IsRefresh(ctx, verified)
	if err != nil {
		return nil, fmt.Errorf("look the old refresh token up: %w", err)
	}
	if !kept {
		return nil, refusal.RefreshTokenInvalid()
	}
	return old, nil
}

func (b *Backend) readSpent(ctx context.Context, old *oldRefresh) error {
	spent, err := b.queries.FindLegacyTrade(ctx, b.cfg.Pool, old.Hash[:])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look the old refresh token up: %w", err)
	}
	old.spent = &spent
	return nil
}

// spendRefresh spends the token, for a session or for none (uuid.Nil). It fails with errSpentMeanwhile if another call
// was first. The row stays until the token is too old for its own backend: the date up to which old tokens are accepted
// may be changed to a later one.
func (b *Backend) spendRefresh(ctx context.Context, tx pgx.Tx, old *oldRefresh, sessionID uuid.UUID, requestHash []byte) error {
	keepUntil := old.End.Add(login.SpentMargin)
	if keepUntil.After(forGood()) {
		keepUntil = forGood()
	}
	spent, err := b.queries.SpendLegacyToken(ctx, tx, db.SpendLegacyTokenParams{
		TokenHash: old.Hash[:], Kind: refreshKind, UserID: old.UserID,
		SessionID:   uuid.NullUUID{UUID: sessionID, Valid: sessionID != uuid.Nil},
		RequestHash: requestHash, SpentAt: b.cfg.Now(), KeepUntil: keepUntil,
	})
	if err != nil {
		return fmt.Errorf("spend the old refresh token: %w", err)
	}
	if spent == 0 {
		return errSpentMeanwhile
	}
	return nil
}

// requestHash is the stored form of a request id, which may be as short as a number. The key of the hash is the token,
// so nobody can guess the id without the token.
func (old *oldRefresh) requestHash(requestID string) []byte {
	if requestID == "" {
		return nil
	}
	mac := hmac.New(sha256.New, []byte(old.text))
	mac.Write([]byte(requestID))
	return mac.Sum(nil)
}

// Refresh implements auth.Older. It trades a refresh token of an older backend for a session, once. Its holder has
// never logged in to this service, so the session has the authentication that the token states.
func (b *Backend) Refresh(ctx context.Context, refreshToken, requestID string) (login.Tokens, error) {
	if err := b.logins.CheckClock(); err != nil {
		return login.Tokens{}, err
	}
	old, err := b.openRefresh(ctx, refreshToken)
	if err != nil {
		return login.Tokens{}, err
	}
	if old.spent == nil {
		tokens, err := b.trade(ctx, old, requestID)
		if !errors.Is(err, errSpentMeanwhile) {
			return tokens, err
		}
		if err := b.readSpent(ctx, old); err != nil {
			return login.Tokens{}, err
		}
	}
	return b.repeatTrade(ctx, old, requestID)
}

// trade spends the token and starts the session in one transaction, or does neither. The session is created before the
// commit, so that no token is spent for a session that does not exist. If the process dies between the two, nobody has
// the session's token, and the old one is still good.
func (b *Backend) trade(ctx context.Context, old *oldRefresh, requestID string) (login.Tokens, error) {
	start := session.Start{
		UserID: old.UserID, Address: caller.From(ctx).AddressText(),
		AMR: []string{login.AMRPassword}, AuthTime: old.IssuedAt, // neither backend had another way to log in
	}
	if start.AuthTime.IsZero() {
		start.AuthTime = time.Unix(0, 0) // unknown, so not recent
	}
	var err error
	if start.ID, err = uuid.NewRandom(); err != nil {
		return login.Tokens{}, fmt.Errorf("make a session id: %w", err)
	}
	var tokens login.Tokens
	var evicted []uuid.UUID
	created, committing := false, false
	err = postgres.InTx(ctx, b.cfg.Pool, func(tx pgx.Tx) error {
		account, err := b.checkAccount(ctx, tx, old)
		if err != nil {
			return err
		}
		start.Position = account.Position
		if err = b.spendRefresh(ctx, tx, old, start.ID, old.requestHash(requestID)); err != nil {
			return err
		}
		if err = b.trail.Record(ctx, tx, audit.LegacyTraded, old.UserID, start.ID); err != nil {
			return fmt.Errorf("record the trade: %w", err)
		}
		created = true
		tokens, evicted, err = b.createSession(ctx, tx, old, start, holderOf(account))
		committing = err == nil
		return err
	})
	if err != nil {
		// If the commit got no answer, it may have succeeded: the session stays.
		if created && !committing {
			b.revoker.DropSession(ctx, old.UserID, start.ID)
		}
		return login.Tokens{}, err
	}
	// The token is spent by now. Sessions that could not be ended are left to a later login.
	if err := b.logins.Evict(ctx, old.UserID, evicted); err != nil {
		b.log.WarnContext(ctx, "sessions over the limit not ended", "user_id", old.UserID, "trace_id", caller.From(ctx).TraceID, "call_id", caller.From(ctx).CallID, "error", err)
	}
	return tokens, nil
}

// checkAccount locks the account and refuses in the cases in which a refresh would be refused. A revocation that ended
// the account's sessions here also ends an old token, unless the token was issued later (positionOf). The session gets
// the position that was read in the same query.
func (b *Backend) checkAccount(ctx context.Context, tx pgx.Tx, old *oldRefresh) (account db.FindUserForSessionRow, err error) {
	switch forgotten, err := b.validation.Forgotten(old.IssuedAt); {
	case err != nil:
		return account, err
	case forgotten:
		return account, refusal.SessionEnded()
	}
	if _, err := b.queries.LockUser(ctx, tx, old.UserID); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return account, fmt.Errorf("lock the account: %w", err)
	}
	position, err := positionOf(ctx, tx, old.Token)
	if err != nil {
		return account, err
	}
	of := db.FindUserForSessionParams{UserID: old.UserID, SessionID: old.SessionID(), Position: position}
	if old.Backend == legacy.Go {
		of.KeyID = b.cfg.Keyring.OlderKeyID()
	}
	if account, err = b.liveAccount(ctx, tx, of); err != nil {
		return account, err
	}
	// An older backend asks for no second factor. A token that it has issued is no proof of one.
	switch second, err := b.queries.HasFactors(ctx, tx, old.UserID); {
	case err != nil:
		return account, fmt.Errorf("look for a second factor: %w", err)
	case second:
		return account, refusal.SessionEnded()
	}
	return account, nil
}

// liveAccount returns the account and the ledger's position. It refuses a session whose account is gone or disabled, or
// that a revocation of the session, the account or its key has ended.
func (b *Backend) liveAccount(ctx context.Context, on db.DBTX, of db.FindUserForSessionParams) (db.FindUserForSessionRow, error) {
	account, err := b.queries.FindUserForSession(ctx, on, of)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return account, fmt.Errorf("look the account up: %w", err)
	}
	if err != nil || account.Revoked || account.KeyRevoked || !account.User.IsActive {
		return account, refusal.SessionEnded()
	}
	return account, nil
}

func holderOf(found db.FindUserForSessionRow) login.Holder {
	return login.Holder{Email: found.User.Email, Verified: found.User.IsVerified}
}

// createSession starts the session and makes its tokens. The account is locked meanwhile, so Redis has at most
// besteffort.DetachTime to answer.
func (b *Backend) createSession(
	ctx context.Context, tx pgx.Tx, old *oldRefresh, start session.Start, of login.Holder,
) (login.Tokens, []uuid.UUID, error) {
	creating, cancel := context.WithTimeout(ctx, besteffort.DetachTime)
	defer cancel()
	created, err := b.cfg.Sessions.Create(creating, start)
	if err != nil {
		return login.Tokens{}, nil, fmt.Errorf("start the session: %w", err)
	}
	tokens, err := b.logins.Issue(creating, created.Session, of, created.Session.CreateTime, created.RefreshToken)
	if err != nil {
		return login.Tokens{}, nil, err
	}
	answer := sha256.Sum256([]byte(created.RefreshToken))
	err = b.queries.NoteLegacyAnswer(ctx, tx, db.NoteLegacyAnswerParams{AnswerHash: answer[:], TokenHash: old.Hash[:]})
	if err != nil {
		return login.Tokens{}, nil, fmt.Errorf("note the answer: %w", err)
	}
	return tokens, created.Evicted, nil
}

// repeatTrade answers a token that was spent. The request id of the trade proves that the call comes from the same
// client, which gets the same answer again until it has used it. Everybody else is refused. Two holders of one token
// are either a client that races with itself, within the grace, or an owner and a thief: then nobody can tell which of
// them has the session, and it is ended.
func (b *Backend) repeatTrade(ctx context.Context, old *oldRefresh, requestID string) (login.Tokens, error) {
	spent := old.spent
	if spent == nil || !spent.SessionID.Valid {
		return login.Tokens{}, b.revoker.RefuseEnded(ctx) // the token was logged out
	}
	id := spent.SessionID.UUID
	if requestID != "" && hmac.Equal(old.requestHash(requestID), spent.RequestHash) {
		tokens, err := b.reissue(ctx, old.UserID, id, spent.AnswerHash)
		if !errors.Is(err, session.ErrReused) {
			return tokens, err
		}
	}
	if b.cfg.Sessions.InGrace(spent.SpentAt) {
		return login.Tokens{}, refusal.RefreshTokenInvalid()
	}
	return login.Tokens{}, b.endReusedTrade(ctx, old.UserID, id)
}

// endReusedTrade ends the session of a trade whose token was shown again, and returns the refusal.
func (b *Backend) endReusedTrade(ctx context.Context, userID, id uuid.UUID) error {
	ended, err := b.revoker.SessionOnce(ctx, audit.RefreshReused, userID, id)
	if err != nil {
		return err
	}
	if !ended {
		return refusal.SessionEnded()
	}
	return refusal.RefreshTokenReused()
}

// reissue makes the answer of a trade again. It fails with session.ErrReused if the answer was used.
func (b *Backend) reissue(ctx context.Context, userID, id uuid.UUID, answerHash []byte) (login.Tokens, error) {
	if len(answerHash) != sha256.Size {
		return login.Tokens{}, errors.New("a trade without the hash of its answer")
	}
	answer, err := b.cfg.Sessions.Reissue(ctx, id, [sha256.Size]byte(answerHash))
	switch {
	case errors.Is(err, session.ErrEnded):
		return login.Tokens{}, refusal.SessionEnded()
	case errors.Is(err, session.ErrForged):
		return login.Tokens{}, refusal.RefreshTokenInvalid()
	case errors.Is(err, session.ErrUnknown):
		return login.Tokens{}, b.logins.UnknownSession(ctx, id)
	case err != nil:
		return login.Tokens{}, fmt.Errorf("read the session: %w", err)
	}
	sess := answer.Session
	account, err := b.liveAccount(ctx, b.cfg.Pool, db.FindUserForSessionParams{UserID: userID, SessionID: id, Position: sess.Position})
	if err != nil {
		return login.Tokens{}, err
	}
	if login.MarkOf(account).Generation > sess.Generation {
		return login.Tokens{}, session.ErrReused // Redis has an older copy of itself
	}
	return b.logins.Issue(ctx, sess, holderOf(account), answer.IssueTime, answer.RefreshToken)
}
