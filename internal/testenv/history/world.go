//go:build linux

package history

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// checkTime bounds the check of one account. The largest take some 50 ms.
const checkTime = time.Minute

// world is some replicas on one PostgreSQL and one Redis, and the calls that their clients recorded.
type world struct {
	t        testing.TB
	replicas []*replica
	pool     *pgxpool.Pool
	pair     *testenv.Pair // nil: there is one PostgreSQL
	redis    redis.UniversalClient
	// hash is the hash of firstPassword, so that a new account costs no hash.
	hash string

	moments  atomic.Int64
	accounts atomic.Int64
	mu       sync.Mutex
	calls    []*call
	flushes  []window
	alarms   []string // answers that no fault here causes
}

// settings are those of a world's replicas.
type settings struct {
	lease time.Duration
	// hash is the cost of new hashes, planted that of the accounts' first ones. Zero planted: the same cost.
	hash, planted password.Params
	// pair requests two PostgreSQL servers, a primary and its standby.
	pair bool
	// grace is LATCHKEY_DELETION_GRACE.
	grace time.Duration
}

// cheapHash takes about 1 ms.
func cheapHash() password.Params { return password.Params{MemoryKiB: 2432, Time: 1, Threads: 1} }

const (
	firstPassword = "correct horse 0"
	adminKey      = "operator-key-of-the-history-test"
	leaseTime     = time.Second
)

// newWorld starts the programs, each as a replica, on stores that only the test uses.
func newWorld(t testing.TB, s settings, programs ...string) *world {
	t.Helper()
	if s.planted == (password.Params{}) {
		s.planted = s.hash
	}
	w := &world{t: t, hash: hashOf(t, s.planted)}
	var databaseURL string
	if s.pair {
		w.pair = testenv.NewPair(t)
		databaseURL = w.pair.URL()
	} else {
		databaseURL = testenv.Migrated(t)
	}
	redisURL := testenv.Redis(t)
	var err error
	if w.pool, err = pgxpool.New(t.Context(), databaseURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.pool.Close)
	var parsed config.RedisURL
	if err := parsed.UnmarshalText([]byte(redisURL)); err != nil {
		t.Fatal(err)
	}
	w.redis = parsed.Client()
	t.Cleanup(func() { _ = w.redis.Close() })
	for i, program := range programs {
		r := &replica{name: string(rune('A' + i)), program: program, environ: s.environ(databaseURL, redisURL)}
		r.start(t.Context(), t)
		w.replicas = append(w.replicas, r)
	}
	return w
}

func (s settings) environ(databaseURL, redisURL string) []string {
	key := sha256.Sum256([]byte(adminKey))
	return []string{
		"LATCHKEY_DATABASE_URL=" + databaseURL,
		"LATCHKEY_REDIS_URL=" + redisURL,
		"LATCHKEY_MIGRATE=false",
		"LATCHKEY_SECRET_KEY=" + secretKey,
		"LATCHKEY_LOGIN_BY_CODE=true",
		"LATCHKEY_PASSKEY_RP_ID=" + testenv.PasskeyRPID,
		"LATCHKEY_PASSKEY_ORIGINS=" + passkeyOrigin,
		"LATCHKEY_ISSUER=https://auth.example.com",
		"LATCHKEY_SMTP_URL=smtp://127.0.0.1:9?starttls=never", // nobody listens
		"LATCHKEY_RESET_URL=https://app.example.com/reset",
		"LATCHKEY_EMAIL_CHANGE_URL=https://app.example.com/email",
		"LATCHKEY_GRPC_ADDR=127.0.0.1:0",
		"LATCHKEY_HTTP_ADDR=127.0.0.1:0",
		"LATCHKEY_OPS_ADDR=127.0.0.1:0",
		"LATCHKEY_ADDRESS_RATE_LIMIT=false", // all clients have one address
		"LATCHKEY_SESSION_LIMIT=1000",       // a login over it ends another session
		"LATCHKEY_LOG_LEVEL=warn",
		"LATCHKEY_ADMIN_KEY_SHA256=" + hex.EncodeToString(key[:]),
		"LATCHKEY_REPLICA_LEASE=" + s.lease.String(),
		"LATCHKEY_DELETION_GRACE=" + s.grace.String(),
		"LATCHKEY_ARGON2_MEMORY_KIB=" + strconv.FormatUint(uint64(s.hash.MemoryKiB), 10),
		"LATCHKEY_ARGON2_TIME=" + strconv.FormatUint(uint64(s.hash.Time), 10),
		"LATCHKEY_ARGON2_THREADS=" + strconv.FormatUint(uint64(s.hash.Threads), 10),
	}
}

func hashOf(t testing.TB, params password.Params) string {
	t.Helper()
	hasher, err := password.New(password.Config{Params: params, Slots: 1, DecoyKey: make([]byte, sha256.Size)})
	if err != nil {
		t.Fatal(err)
	}
	hash, err := hasher.Hash(t.Context(), password.Claim{}, firstPassword)
	if err != nil {
		t.Fatal(err)
	}
	return hash
}

// newAccount makes an account with firstPassword, with SQL. proved says whether its address is proved.
func (w *world) newAccount(ctx context.Context, proved bool) (*account, error) {
	a := &account{number: int(w.accounts.Add(1)), password: firstPassword, tried: []string{firstPassword}}
	a.address = fmt.Sprintf("person%d@example.com", a.number)
	a.addresses = []string{a.address}
	c := &call{
		Account: a.number, Kind: signUp, NewPassword: firstPassword, Address: a.address, Proved: proved, Answer: accepted, Call: w.moments.Add(1),
	}
	const insert = `INSERT INTO users (email, email_lookup, password_hash, first_name, last_name, is_verified)
		VALUES ($1::text, $1::text, $2, 'A', 'Person', $3) RETURNING id`
	if err := w.pool.QueryRow(ctx, insert, a.address, w.hash, proved).Scan(&a.id); err != nil {
		return nil, fmt.Errorf("make an account: %w", err)
	}
	c.Return = w.moments.Add(1)
	w.record(c)
	return a, nil
}

// plantReset makes a reset token, as the sender of mails does.
func (w *world) plantReset(ctx context.Context, user uuid.UUID) (string, error) {
	token, sum := newToken()
	const insert = `INSERT INTO password_resets (user_id, token_hash, created_at, expires_at)
		VALUES ($1, $2, now(), now() + interval '10 minutes')
		ON CONFLICT (user_id) DO UPDATE SET token_hash = excluded.token_hash, ledger = excluded.ledger`
	if _, err := w.pool.Exec(ctx, insert, user, sum[:]); err != nil {
		return "", fmt.Errorf("plant a reset token: %w", err)
	}
	return token, nil
}

// newToken returns a token in the form of those in mails, and the hash that is stored.
func newToken() (token string, sum [sha256.Size]byte) {
	raw := uuid.New()
	token = base64.RawURLEncoding.EncodeToString(append(raw[:], raw[:]...))
	return token, sha256.Sum256([]byte(token))
}

func (w *world) record(c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, c)
}

// perform makes one call at a replica and records its result.
func (w *world) perform(ctx context.Context, r *replica, deadline time.Duration, c *call, do func(context.Context, *clients) error) *call {
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	to := r.clients.Load()
	c.Where = r.name
	c.Call = w.moments.Add(1)
	err := do(ctx, to)
	c.Return = w.moments.Add(1)
	found, unforeseen := answerOf(err)
	c.Answer = found
	switch {
	case c.Kind.usesUp() && (c.Answer == disabled || c.Answer == wrongPassword):
		c.Answer = unknown // suspended while the session began, after the code was used up
	case c.Answer == disabled && !c.Kind.begins():
		c.Answer = refused // the session of a suspended account
	}
	if st, ok := status.FromError(err); err != nil && ok {
		c.Error = st.Message()
		c.limited = st.Code() == codes.ResourceExhausted
	}
	w.record(c)
	if unforeseen {
		w.mu.Lock()
		w.alarms = append(w.alarms, c.String()+": "+err.Error())
		w.mu.Unlock()
	}
	return c
}

var (
	// errRefused is ValidateToken's answer for a token that is not good.
	errRefused = errors.New("not valid")
	// errChallenged is the answer to a first factor of an account that has a second one.
	errChallenged = errors.New("asked for a second factor")
)

// answerOf returns the meaning of an error. unforeseen is true for errors that no fault here causes.
func answerOf(err error) (a answer, unforeseen bool) {
	if err == nil {
		return accepted, false
	}
	if errors.Is(err, errRefused) {
		return refused, false
	}
	if errors.Is(err, errChallenged) {
		return challenged, false
	}
	st := status.Convert(err)
	for _, detail := range st.Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if !ok {
			continue
		}
		switch latchkeyv1.ErrorReason(latchkeyv1.ErrorReason_value["ERROR_REASON_"+info.GetReason()]) {
		case latchkeyv1.ErrorReason_ERROR_REASON_INVALID_CREDENTIALS:
			return wrongPassword, false
		case latchkeyv1.ErrorReason_ERROR_REASON_ACCOUNT_DISABLED:
			return disabled, false
		case latchkeyv1.ErrorReason_ERROR_REASON_SESSION_ENDED,
			latchkeyv1.ErrorReason_ERROR_REASON_REFRESH_TOKEN_INVALID,
			latchkeyv1.ErrorReason_ERROR_REASON_RESET_TOKEN_INVALID, latchkeyv1.ErrorReason_ERROR_REASON_LINK_INVALID,
			latchkeyv1.ErrorReason_ERROR_REASON_CODE_INVALID, latchkeyv1.ErrorReason_ERROR_REASON_CHALLENGE_INVALID,
			latchkeyv1.ErrorReason_ERROR_REASON_FACTOR_REQUIRED, latchkeyv1.ErrorReason_ERROR_REASON_FRESH_LOGIN_REQUIRED,
			latchkeyv1.ErrorReason_ERROR_REASON_USER_NOT_FOUND: // a deleted account, whoever asks
			return refused, false
		case latchkeyv1.ErrorReason_ERROR_REASON_RATE_LIMITED, latchkeyv1.ErrorReason_ERROR_REASON_OVERLOADED,
			latchkeyv1.ErrorReason_ERROR_REASON_STORE_UNAVAILABLE:
			return unknown, false
		default:
			return unknown, true
		}
	}
	return unknown, st.Code() != codes.DeadlineExceeded && st.Code() != codes.Unavailable && st.Code() != codes.Canceled
}

// violations checks the calls that were recorded so far, and fails the test if it cannot.
func (w *world) violations() []violation {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	found, err := check(w.calls, w.flushes, checkTime)
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

// dropCalls drops the calls that were checked.
func (w *world) dropCalls() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = nil
}
