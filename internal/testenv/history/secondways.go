//go:build linux

package history

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const (
	secretKey     = "row0rScHLQXkSiKJHeL5tPQD0qdewcWxncClZlZjpUE=" //nolint:gosec // G101: of this test only
	passkeyOrigin = "https://app.example.com"                      //nolint:gosec // G101: an address
	codeLabel     = "latchkey login code\x00"
)

// key is a passkey that the account has or had.
type key struct {
	*testenv.Authenticator
	number int
	id     string
}

// mailed is what the owner of an account has from a mail, or from SendLoginCode and its mail.
type mailed struct {
	token, code, address string
	number               int
}

// once returns a number for a secret that may log in once.
func (a *account) once() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.secrets++
	return a.secrets
}

// mailMac returns the MAC of a text of an account, as internal/account makes it.
func mailMac(label string, user uuid.UUID, text []byte) ([]byte, error) {
	secret, err := base64.StdEncoding.DecodeString(secretKey)
	if err != nil {
		return nil, err
	}
	linkKey, err := hkdf.Key(sha256.New, secret, nil, "latchkey reset link", sha256.Size)
	if err != nil {
		return nil, err
	}
	h := hmac.New(sha256.New, linkKey)
	h.Write([]byte(label))
	h.Write(user[:])
	h.Write(text)
	return h.Sum(nil), nil
}

// plantCode makes a code that logs in, as SendLoginCode and the sender of mails do.
func (w *world) plantCode(ctx context.Context, a *account) (m mailed, err error) {
	var nonce [16]byte
	_, _ = rand.Read(nonce[:])
	token := binary.BigEndian.AppendUint64(nil, uint64(time.Now().Add(time.Hour).UnixMilli()))
	token = append(token, nonce[:]...)
	signature, err := mailMac(codeLabel+"token\x00", uuid.Nil, token)
	if err != nil {
		return m, err
	}
	m.token = base64.RawURLEncoding.EncodeToString(append(token, signature...))
	asker := sha256.Sum256([]byte(m.token))
	return w.plantMail(ctx, a, "login_code", codeLabel, asker[:], nonce[:], m)
}

// plantMail stores the secret of a mail, with the hash of its token, and adds a code to it.
func (w *world) plantMail(ctx context.Context, a *account, purpose, label string, asker, tokenHash []byte, m mailed) (mailed, error) {
	m.address, m.number = a.believed(), a.once()
	m.code = fmt.Sprintf("%06d", m.number)
	code, err := mailMac(label+"code hash\x00", a.id, []byte(m.address+"\x00"+m.code))
	if err != nil {
		return m, err
	}
	// With the account locked, since a change of its address ends what was mailed to the one before.
	const insert = `INSERT INTO one_time_secrets (user_id, purpose, asker, address, token_hash, ledger, created_at, expires_at, code_nonce, code_hash)
		SELECT u.id, $2, $3, u.email, $4, latchkey_ledger_position(), now(), now() + interval '10 minutes', $5, $6
		FROM (SELECT id, email FROM users WHERE id = $1 AND email = $7 FOR UPDATE) u
		ON CONFLICT (user_id, purpose, asker) DO UPDATE SET address = excluded.address, token_hash = excluded.token_hash,
			ledger = excluded.ledger, code_hash = excluded.code_hash, tries = 0`
	done, err := w.pool.Exec(ctx, insert, a.id, purpose, asker, tokenHash, tokenHash, code, m.address)
	if err != nil {
		return m, fmt.Errorf("plant a mail: %w", err)
	}
	if done.RowsAffected() == 0 {
		return m, errors.New("plant a mail: the account has another address")
	}
	return m, nil
}

// codeLogin logs in with a mailed code. session is nil if no session began.
func (w *world) codeLogin(ctx context.Context, r *replica, a *account, m mailed) (*session, *call) {
	s := &session{account: a}
	c := &call{Account: a.number, Kind: codeLogin, Once: m.number}
	before, removed := a.sessions(), false
	w.perform(ctx, r, changeTime, c, func(ctx context.Context, to *clients) error {
		response, err := to.auth.AnswerChallenge(ctx, &latchkeyv1.AnswerChallengeRequest{
			ChallengeToken: m.token, Answer: &latchkeyv1.AnswerChallengeRequest_EmailCode{EmailCode: m.code},
		})
		if challenge := response.GetChallenge(); err == nil && challenge != nil {
			removed = response.GetPasswordRemoved()
			c.open(a, challenge)
			return errChallenged
		}
		if err == nil {
			removed = response.GetPasswordRemoved()
			w.hold(s, c, response.GetTokens())
		}
		return err
	})
	a.believeProof(c, before, removed)
	if c.Answer != accepted {
		return nil, c
	}
	return s, c
}

// sessions returns all sessions of the account.
func (a *account) sessions() []*session {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.held)
}

// believeProof notes the effect of a call that proves the address and has removed the password or not. It ended the
// sessions of before if it has.
func (a *account) believeProof(c *call, before []*session, removed bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case c.Answer == unknown:
		a.unknown++
	case removed:
		a.password = noPassword
		for _, s := range before {
			s.mu.Lock()
			s.revoked = true
			s.mu.Unlock()
		}
	}
}

// hold adds the session that a call has begun to those of its account.
func (w *world) hold(s *session, c *call, tokens *latchkeyv1.Tokens) {
	s.take(tokens)
	s.id = tokens.GetSessionId()
	a := s.account
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held = append(a.held, s)
	s.number = len(a.held)
	c.Session = s.number
}

// addPasskey gives an account a passkey on the authority of a session. It returns nil if the account has one, or may have.
func (w *world) addPasskey(ctx context.Context, r *replica, by *session) *call {
	a := by.account
	if !a.changingKeys.TryLock() {
		return nil
	}
	defer a.changingKeys.Unlock()
	a.mu.Lock()
	has := a.passkey != nil || a.unknown >= maxUnknown
	a.mu.Unlock()
	if has {
		return nil
	}
	starting, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	owner := bearer(starting, by.token())
	begun, err := r.clients.Load().accounts.StartPasskeyRegistration(owner, &latchkeyv1.StartPasskeyRegistrationRequest{})
	if err != nil {
		return nil // nothing has changed
	}
	made := &key{Authenticator: testenv.NewAuthenticator(w.t, passkeyOrigin), number: a.once()}
	answer := made.Create(w.t, begun.GetOptionsJson())
	var codes []string
	c := &call{Account: a.number, Kind: addPasskey, Session: by.number, Factor: made.number}
	w.perform(ctx, r, changeTime, c, func(ctx context.Context, to *clients) error {
		response, err := to.accounts.FinishPasskeyRegistration(bearer(ctx, by.token()), &latchkeyv1.FinishPasskeyRegistrationRequest{
			ChallengeToken: begun.GetChallengeToken(), CredentialJson: answer,
		})
		made.id = response.GetPasskey().GetId()
		codes = response.GetRecoveryCodes()
		return err
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	switch c.Answer {
	case accepted:
		a.passkey = made
		a.keys = append(a.keys, made)
		if codes != nil {
			a.recoveries = append(a.recoveries, &recovery{number: made.number, texts: codes})
		}
	case unknown: // the model knows at most one passkey, so the account gets no other
		a.unknown = maxUnknown
	case refused, wrongPassword, disabled, challenged:
	}
	return c
}

// removePasskey removes the passkey of an account, or returns nil if it has none.
func (w *world) removePasskey(ctx context.Context, r *replica, by *session) *call {
	a := by.account
	if !a.changingKeys.TryLock() {
		return nil
	}
	defer a.changingKeys.Unlock()
	a.mu.Lock()
	removed := a.passkey
	a.mu.Unlock()
	if removed == nil {
		return nil
	}
	c := &call{Account: a.number, Kind: removePasskey, Session: by.number, Factor: removed.number}
	w.perform(ctx, r, changeTime, c, func(ctx context.Context, to *clients) error {
		_, err := to.accounts.RemovePasskey(bearer(ctx, by.token()), &latchkeyv1.RemovePasskeyRequest{PasskeyId: removed.id})
		return err
	})
	a.mu.Lock()
	defer a.mu.Unlock()
	switch c.Answer {
	case accepted:
		a.passkey = nil
	case unknown:
		a.unknown = maxUnknown
	case refused, wrongPassword, disabled, challenged:
	}
	return c
}

// proof is an answer of a passkey, which logs in once.
type proof struct {
	token, answer string
	key           *key
	number        int
}

// useKey asks a passkey for an answer. It returns an error if the replica does not answer.
func (w *world) useKey(ctx context.Context, r *replica, a *account, k *key) (proof, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	begun, err := r.clients.Load().auth.StartPasskeyLogin(ctx, &latchkeyv1.StartPasskeyLoginRequest{})
	if err != nil {
		return proof{}, err
	}
	a.changingKeys.Lock() // it has a counter
	defer a.changingKeys.Unlock()
	return proof{begun.GetChallengeToken(), k.Get(w.t, begun.GetOptionsJson()), k, a.once()}, nil
}

// passkeyLogin answers a challenge with a passkey.
func (w *world) passkeyLogin(ctx context.Context, r *replica, a *account, p proof) *call {
	s := &session{account: a}
	c := &call{Account: a.number, Kind: passkeyLogin, Factor: p.key.number, Once: p.number}
	w.perform(ctx, r, changeTime, c, func(ctx context.Context, to *clients) error {
		response, err := to.auth.AnswerChallenge(ctx, &latchkeyv1.AnswerChallengeRequest{
			ChallengeToken: p.token, Answer: &latchkeyv1.AnswerChallengeRequest_PasskeyJson{PasskeyJson: p.answer},
		})
		if err == nil {
			w.hold(s, c, response.GetTokens())
		}
		return err
	})
	return c
}

// useSomeKey logs in with the last passkey of an account, or with one that was removed. It returns nil if there is none.
func (c *client) useSomeKey(ctx context.Context, r *replica, a *account) *call {
	a.mu.Lock()
	var k *key
	if n := len(a.keys); n > 0 {
		k = a.keys[n-1]
		if c.random.percent(25) {
			k = a.keys[c.random.below(n)]
		}
	}
	a.mu.Unlock()
	if k == nil {
		return nil
	}
	p, err := c.load.w.useKey(ctx, r, a, k)
	if err != nil {
		return nil
	}
	done := c.load.w.passkeyLogin(ctx, r, a, p)
	return done
}

// useCode logs in with a mailed code.
func (c *client) useCode(ctx context.Context, r *replica, a *account) *call {
	m, err := c.load.w.plantCode(ctx, a)
	if err != nil {
		return nil // the database did not answer
	}
	_, done := c.load.w.codeLogin(ctx, r, a, m)
	if done.Answer == challenged {
		c.load.count(done)
		return c.useSomeCode(ctx, r, a, done)
	}
	return done
}

// callers are how many calls twice makes. A code has five tries.
const callers = 4

// twice gives a secret that logs in once to several callers at both replicas at the same time.
func (w *world) twice(use func(i int, r *replica)) {
	start := make(chan struct{})
	done := make(chan struct{})
	for i := range callers {
		go func() {
			<-start
			use(i, w.replicas[i%len(w.replicas)])
			done <- struct{}{}
		}()
	}
	close(start)
	for range callers {
		<-done
	}
}

// useCodeTwice: a mailed code logs in once.
func useCodeTwice(ctx context.Context, w *world, _ int) {
	a, _ := w.prepare(ctx)
	m, err := w.plantCode(ctx, a)
	if err != nil {
		w.t.Fatal(err)
	}
	w.twice(func(_ int, r *replica) { w.codeLogin(ctx, r, a, m) })
}

// takeBackByCode: a code proves the address of an account whose session B has seen. The session may be that of a stranger
// who signed up with the address, so it must be over, and the new one must not.
func takeBackByCode(ctx context.Context, w *world, _ int) {
	a, planted := w.prepare(ctx)
	m, err := w.plantCode(ctx, a)
	if err != nil {
		w.t.Fatal(err)
	}
	mine, _ := w.codeLogin(ctx, w.replicas[0], a, m)
	w.validate(ctx, w.replicas[1], planted)
	if mine != nil {
		w.validate(ctx, w.replicas[1], mine)
	}
	w.login(ctx, w.replicas[1], a)
}

// withPasskey makes an account with a passkey.
func (w *world) withPasskey(ctx context.Context) (*account, *session) {
	w.t.Helper()
	a, s := w.prepare(ctx)
	if done := w.addPasskey(ctx, w.replicas[0], s); done == nil || done.Answer != accepted {
		w.t.Fatal("no passkey:", done)
	}
	return a, s
}

// usePasskeyTwice: an answer of a passkey logs in once.
func usePasskeyTwice(ctx context.Context, w *world, _ int) {
	a, _ := w.withPasskey(ctx)
	p, err := w.useKey(ctx, w.replicas[0], a, a.passkey)
	if err != nil {
		w.t.Fatal(err)
	}
	w.twice(func(_ int, r *replica) { w.passkeyLogin(ctx, r, a, p) })
}

// passwordBesidePasskey: the password alone does not log in to an account with a passkey, and does when that is removed;
// then the passkey does not.
func passwordBesidePasskey(ctx context.Context, w *world, _ int) {
	a, s := w.withPasskey(ctx)
	r := w.replicas[1]
	used := a.passkey
	w.login(ctx, r, a)
	if p, err := w.useKey(ctx, r, a, used); err == nil {
		w.passkeyLogin(ctx, r, a, p)
	}
	w.removePasskey(ctx, w.replicas[0], s)
	if p, err := w.useKey(ctx, r, a, used); err == nil {
		w.passkeyLogin(ctx, r, a, p)
	}
	w.login(ctx, r, a)
}

// removeAfterLogout: a session removes the passkey and is logged out while that is under way. A password that is not enough
// shows that the logout came first.
func removeAfterLogout(ctx context.Context, w *world, _ int) {
	a, s := w.withPasskey(ctx)
	const underWay = 30 * time.Millisecond
	done := atMost(ctx, underWay, func() { w.removePasskey(ctx, w.replicas[0], s) })
	w.logout(ctx, w.replicas[1], s, changeTime)
	w.login(ctx, w.replicas[1], a)
	<-done
}
