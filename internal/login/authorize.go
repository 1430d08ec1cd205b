package login

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
	"github.com/latchkey-auth/latchkey/internal/session"
)

const (
	// authorization is the purpose of an authorization code. It is stored: do not change it.
	authorization = "authorization"
	// An authorization code works for authorizationTTL, and for one answer: RFC 6749, section 4.1.2 allows ten minutes, and
	// an app needs a second.
	authorizationTTL   = time.Minute
	authorizationTries = 1
)

// grant is what an authorization code stands for. It is stored as JSON: add fields, rename none.
type grant struct {
	RedirectURI string `json:"redirect_uri"`
	// Challenge is the code challenge of RFC 7636, section 4.2, with S256.
	Challenge string `json:"challenge"`
	// SessionID and Position are those of the session that made the code, Factors, AuthTime and AMR those of the access token
	// that it has shown: a copy from before a second factor does not hand one over.
	SessionID uuid.UUID `json:"session_id"`
	Position  int64     `json:"position"`
	Factors   uint32    `json:"factors"`
	AuthTime  time.Time `json:"auth_time"`
	AMR       []string  `json:"amr"`
}

// Authorize makes a code with which the app at redirectURI gets a session of its own, in the name of the account of the
// session that asks. The app has to know the text of which codeChallenge is the hash.
func (f *Flow) Authorize(ctx context.Context, by revoke.Authority, redirectURI, codeChallenge string) (code string, expires time.Time, err error) {
	if len(f.cfg.ReturnURLs) == 0 {
		return "", time.Time{}, refusal.NotEnabled("LATCHKEY_RETURN_URLS lists no app")
	}
	if !slices.Contains(f.cfg.ReturnURLs, redirectURI) {
		return "", time.Time{}, refusal.Field(latchkeyv1.ErrorReason_ERROR_REASON_VALIDATION_FAILED, "redirect_uri", "RETURN_URL",
			"is not listed in LATCHKEY_RETURN_URLS: it must be the same to the last letter")
	}
	// The code carries this position and not the session's: rows that spared the session, and changes of address, came after
	// that and would end the code. It is read before the look at the session, which none before it has ended.
	var head revoke.Ended
	err = postgres.InTx(ctx, f.cfg.Pool, func(tx pgx.Tx) (err error) {
		if head, err = f.cfg.Revoker.Head(ctx, tx); err != nil {
			return err
		}
		return f.cfg.Revoker.RecheckFactor(ctx, tx, by)
	})
	if err != nil {
		return "", time.Time{}, err
	}
	_, err = f.Session(ctx, by.UserID, by.SessionID)
	if refusal.Is(err, latchkeyv1.ErrorReason_ERROR_REASON_SESSION_NOT_FOUND) { // Redis has lost it
		return "", time.Time{}, refusal.SessionEnded()
	}
	if err != nil {
		return "", time.Time{}, err
	}
	data, err := json.Marshal(grant{
		RedirectURI: redirectURI, Challenge: codeChallenge,
		SessionID: by.SessionID, Position: by.Position, Factors: by.Factors, AuthTime: by.AuthTime, AMR: by.AMR,
	})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("write the grant: %w", err)
	}
	code, expires = factors.NewToken(), f.cfg.Now().Add(authorizationTTL)
	present, err := f.cfg.Factors.KeepChallenge(ctx, f.cfg.Pool, db.CreateChallengeParams{
		TokenHash: account.HashToken(code), Purpose: authorization, UserID: by.UserID, SessionID: by.SessionID,
		Position: head.Position, Data: data, ExpiresAt: expires,
	})
	if err == nil && !present { // deleted since the look at the session
		err = refusal.AccountGone()
	}
	if err != nil {
		return "", time.Time{}, err
	}
	return code, expires, nil
}

// Exchange is what an app shows to get its session.
type Exchange struct {
	// Code is that of Authorize, Verifier the text of which its challenge is the hash, RedirectURI where the code went.
	Code, Verifier, RedirectURI string
	// DeviceName is shown to the owner in the list of sessions.
	DeviceName string
}

// ExchangeCode starts the session of an app. The try is counted before anything is compared, so a code has one try, and
// everything that is wrong has one answer. The new session was authenticated when the one that made the code was.
func (f *Flow) ExchangeCode(ctx context.Context, req Exchange) (Result, error) {
	if err := f.CheckClock(); err != nil {
		return Result{}, err
	}
	tried, found, err := f.cfg.Factors.TryChallenge(ctx, req.Code, authorization, authorizationTries)
	if err != nil {
		return Result{}, err
	}
	if !found {
		return Result{}, refusal.AuthorizationCodeInvalid()
	}
	user := tried.User
	caller.NoteUser(ctx, user.ID)
	var given grant
	if err := json.Unmarshal(tried.Data, &given); err != nil {
		return Result{}, fmt.Errorf("read the grant: %w", err)
	}
	if !given.isFor(req) {
		return Result{}, refusal.AuthorizationCodeInvalid()
	}
	ctx, cancel := besteffort.Detach(ctx) // what is used up must give a session
	defer cancel()
	if err := f.spendAuthorization(ctx, tried.Hash, given, user.ID); err != nil {
		return Result{}, err
	}
	if err := f.boundStarts(ctx, user.ID); err != nil {
		return Result{}, err
	}
	begin := session.Start{
		UserID: user.ID, Position: tried.Position, DeviceName: req.DeviceName, Address: caller.From(ctx).AddressText(),
		AMR: given.AMR, AuthTime: given.AuthTime,
	}
	started, refreshToken, err := f.startSession(ctx, begin, func(ctx context.Context, started session.Session) error {
		return f.cfg.Trail.Record(ctx, f.cfg.Pool, audit.SessionHandedOver, started.UserID, started.ID)
	})
	if err != nil {
		return Result{}, err
	}
	tokens, err := f.Issue(ctx, started, HolderOf(user), started.CreateTime, refreshToken)
	return Result{User: user, Tokens: tokens}, err
}

// isFor reports whether the app is the one for which the code was made.
func (g grant) isFor(req Exchange) bool {
	sum := sha256.Sum256([]byte(req.Verifier))
	shown := base64.RawURLEncoding.EncodeToString(sum[:])
	return subtle.ConstantTimeCompare([]byte(shown), []byte(g.Challenge)) == 1 && req.RedirectURI == g.RedirectURI
}

// spendAuthorization uses the code up, if the session that made it is still good and could make another.
func (f *Flow) spendAuthorization(ctx context.Context, hash []byte, given grant, userID uuid.UUID) error {
	by := revoke.Authority{UserID: userID, SessionID: given.SessionID, Position: given.Position, Factors: given.Factors, AuthTime: given.AuthTime}
	return postgres.InTx(ctx, f.cfg.Pool, func(tx pgx.Tx) error {
		err := f.cfg.Revoker.RecheckFactor(ctx, tx, by)
		if known := refusal.In(err); known != nil && known.Code != codes.Unavailable {
			return refusal.AuthorizationCodeInvalid()
		}
		if err != nil {
			return err
		}
		return f.cfg.Factors.SpendChallenge(ctx, tx, authorization, hash, userID, refusal.AuthorizationCodeInvalid())
	})
}
