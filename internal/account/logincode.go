package account

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/besteffort"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

const (
	// loginCodeTTL is the life of a code, counted from its mail.
	loginCodeTTL = 10 * time.Minute
	// codeTokenTTL is the life of the token of SendLoginCode. It is longer than the tries to send the mail (30 minutes)
	// and the code together, and has nothing to do with how long a code can be guessed.
	codeTokenTTL = time.Hour
	// codeTokenSize is that of a time and a nonce. The HMAC follows.
	codeTokenSize = 8 + nonceSize
)

// loginCode is the purpose of the secret that logs in the client that asked for it.
func loginCode() purpose {
	return purpose{name: "login_code", label: "latchkey login code\x00"}
}

// SendLoginCode mails a code to the owner of an account, and returns the token with which this client, and no other, can
// use the code. It does the same one insert for every address, as ForgotPassword does. Nothing else is stored for a
// client: the token itself says that it is genuine, and until when.
func (a *Accounts) SendLoginCode(ctx context.Context, email string) (token string, err error) {
	if err := a.checkLoginByCode(); err != nil {
		return "", err
	}
	later, err := a.admitRequest(ctx, "SendLoginCode", email)
	if err != nil {
		return "", err
	}
	token = a.newCodeToken()
	return token, request(email, func(email string) error {
		asked := a.mailRequest(ctx, email, later)
		asked.Asker = HashToken(token)
		return a.cfg.Mailer.RequestLoginCode(ctx, asked)
	})
}

func (a *Accounts) checkLoginByCode() error {
	if !a.cfg.LoginByCode {
		return refusal.NotEnabled("logins by code are turned off: they need LATCHKEY_LOGIN_BY_CODE")
	}
	return nil
}

func (a *Accounts) loginCodes() secrets {
	return secrets{purpose: loginCode(), key: a.cfg.LinkKey, now: a.cfg.Now}
}

func (a *Accounts) newCodeToken() string {
	token := binary.BigEndian.AppendUint64(nil, uint64(a.cfg.Now().Add(codeTokenTTL).UnixMilli()))
	token = append(token, newNonce()...)
	return base64.RawURLEncoding.EncodeToString(append(token, a.codeTokenMAC(token)...))
}

func (a *Accounts) codeTokenMAC(token []byte) []byte {
	return a.loginCodes().mac(loginCode().label+"token\x00", uuid.Nil, token)
}

// isCodeToken returns whether SendLoginCode has made a token, and it has not expired.
func (a *Accounts) isCodeToken(text string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) < codeTokenSize {
		return false
	}
	token, mac := raw[:codeTokenSize], raw[codeTokenSize:]
	expires := time.UnixMilli(int64(binary.BigEndian.Uint64(token))) //nolint:gosec // G115: only a genuine one counts
	return subtle.ConstantTimeCompare(a.codeTokenMAC(token), mac) == 1 && a.cfg.Now().Before(expires)
}

// CodeLogin is the account that a code has logged in.
type CodeLogin struct {
	// Owner has no Hash. Its Position is that at which somebody asked for the code, or of the row that took the account
	// back: every later revocation refuses the session.
	Owner Credential
	// PasswordRemoved is true if the account has lost its password, which a stranger may have chosen.
	PasswordRemoved bool
}

// UseLoginCode spends the code that was mailed for a token of SendLoginCode. The mail proves the address: from an account
// that nobody had proved, it takes all that a stranger may have planted, as VerifyEmail does.
//
// A code that was wrong, spent, tried five times or ended with the account's sessions has the same answer, at the same
// cost, as one for an address that nobody has. Then Owner has only an ID, if there was a code to compare with.
func (a *Accounts) UseLoginCode(ctx context.Context, token, digits string) (CodeLogin, error) {
	if err := a.checkLoginByCode(); err != nil {
		return CodeLogin{}, err
	}
	if !a.isCodeToken(token) {
		return CodeLogin{}, refusal.ChallengeInvalid()
	}
	found, position, err := a.loginCodes().tryAsked(ctx, a.cfg.Pool, HashToken(token), digits)
	if errors.Is(err, errSecret) {
		return CodeLogin{Owner: Credential{User: User{ID: found.userID}}}, loginCodeInvalid()
	}
	if err != nil {
		return CodeLogin{}, err
	}
	// The rest goes on if the client hangs up: a code that is spent must give a session. InTx has limits of its own, which
	// are longer than those of Detach: the end of a stranger's sessions may take a lease to be final.
	used, err := revoke.InTx(context.WithoutCancel(ctx), a.cfg.Revoker, func(ctx context.Context, tx pgx.Tx) (CodeLogin, revoke.Ended, error) {
		return a.spendLoginCode(ctx, tx, found, position)
	})
	if err != nil {
		return CodeLogin{}, err
	}
	ctx, cancel := besteffort.Detach(ctx)
	defer cancel()
	// Read now: a second factor that was added before the code was spent must be asked for.
	row, err := a.queries.FindUserWithFactors(ctx, a.cfg.Pool, found.userID)
	if errors.Is(err, pgx.ErrNoRows) {
		return CodeLogin{}, loginCodeInvalid()
	}
	if err != nil {
		return CodeLogin{}, fmt.Errorf("look the account up: %w", err)
	}
	used.Owner.User, used.Owner.Lookup = FromRow(row.User), address.Lookup(row.User.Email)
	used.Owner.PasswordEpoch, used.Owner.DevicesSince = row.PasswordEpoch, row.DevicesSince
	used.Owner.Factors, used.Owner.Recoverable = row.Factors, row.Recoverable
	return used, nil
}

func (a *Accounts) spendLoginCode(ctx context.Context, tx pgx.Tx, found match, position int64) (used CodeLogin, ended revoke.Ended, err error) {
	row, err := a.lockMailed(ctx, tx, mailed{owner: found.owner, invalid: loginCodeInvalid, spend: func(ctx context.Context, tx pgx.Tx) error {
		return a.loginCodes().spendCode(ctx, tx, found)
	}})
	if err != nil {
		return used, ended, err
	}
	// The owner's own logins do not use up the codes of a day, which bound guesses.
	err = a.queries.TakeBackNotice(ctx, tx, db.TakeBackNoticeParams{UserID: addressID(found.address), Kind: a.loginCodes().codesKind()})
	if err != nil {
		return used, ended, fmt.Errorf("count the codes: %w", err)
	}
	used.Owner.Position = position
	if row.IsVerified {
		return used, ended, nil
	}
	taken, ended, err := a.takeBack(ctx, tx, row)
	used.PasswordRemoved, used.Owner.Position = taken.PasswordRemoved, ended.Position
	return used, ended, err
}

func loginCodeInvalid() error { return refusal.FactorCodeInvalid("email_code") }

// issueLoginCode makes the secret for a mail with a code that logs in the client that asked for it. The account is locked.
func (r Resets) issueLoginCode(ctx context.Context, tx pgx.Tx, user db.User, link mail.Link) (letter mail.Letter, err error) {
	s := secrets{purpose: loginCode(), ttl: loginCodeTTL, key: r.Key, now: r.Now}
	o := owner{userID: user.ID, address: address.Lookup(user.Email), asker: link.Asker}
	if len(o.asker) == 0 { // a code that everybody may use could be guessed by everybody
		return mail.Letter{}, nil
	}
	if _, err := s.issue(ctx, tx, o, link.Position); err != nil {
		return mail.Letter{}, err
	}
	digits, ok, err := s.code(ctx, tx, o)
	if err != nil || !ok {
		return mail.Letter{}, err
	}
	letter = mail.Letter{To: user.Email, Code: digits, Valid: loginCodeTTL}
	return letter, r.trail().Write(ctx, tx, audit.Event{
		Time: r.Now(), Kind: audit.LoginCodeMailed, UserID: user.ID, TraceID: link.TraceID, CallID: link.CallID,
	})
}
