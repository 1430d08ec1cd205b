package account_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/account"
	"github.com/latchkey-auth/latchkey/internal/jobs"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/sql/migrations"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

const ttl = 30 * time.Minute

// secretWorld is a database with an account, and the secrets of two purposes under one key.
type secretWorld struct {
	url           string
	pool          *pgxpool.Pool
	user          uuid.UUID
	now           time.Time // of the clock
	resets, other account.Secrets
}

func newSecretWorld(t *testing.T) *secretWorld {
	t.Helper()
	w := &secretWorld{url: testenv.Migrated(t), now: time.Now()}
	pool, err := pgxpool.New(t.Context(), w.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	w.pool = pool
	clock := func() time.Time { return w.now }
	w.resets, w.other = account.ResetSecrets(ttl, secretKey(), clock), account.OtherSecrets(ttl, secretKey(), clock)
	err = pool.QueryRow(t.Context(),
		"INSERT INTO users (email, password_hash, first_name, last_name) VALUES ('ada@example.com', 'x', 'A', 'L') RETURNING id").Scan(&w.user)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func secretKey() []byte { return bytes.Repeat([]byte{7}, 32) }

// inTx locks the account and runs work.
func (w *secretWorld) inTx(ctx context.Context, work func(tx pgx.Tx) error) error {
	return postgres.InTx(ctx, w.pool, func(tx pgx.Tx) error {
		if _, err := db.New().LockUser(ctx, tx, w.user); err != nil {
			return err
		}
		return work(tx)
	})
}

func (w *secretWorld) issue(t *testing.T, of account.Secrets, asker []byte) string {
	t.Helper()
	var token string
	err := w.inTx(t.Context(), func(tx pgx.Tx) error {
		var position int64
		err := tx.QueryRow(t.Context(), "SELECT seq FROM ledger_head").Scan(&position)
		if err != nil {
			return err
		}
		token, err = of.Issue(t.Context(), tx, w.user, asker, position)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (w *secretWorld) spend(ctx context.Context, of account.Secrets, asker []byte, token string) error {
	return w.inTx(ctx, func(tx pgx.Tx) error { return of.Spend(ctx, tx, w.user, asker, token) })
}

// wantDead checks that a token can be neither found nor spent.
func (w *secretWorld) wantDead(t *testing.T, why string, of account.Secrets, asker []byte, token string) {
	t.Helper()
	if _, err := of.Find(t.Context(), w.pool, asker, token); !errors.Is(err, account.ErrSecret) {
		t.Errorf("%s: found, %v", why, err)
	}
	if err := w.spend(t.Context(), of, asker, token); !errors.Is(err, account.ErrSecret) {
		t.Errorf("%s: spent, %v", why, err)
	}
}

// wantGood checks that a token can be found, and spent once.
func (w *secretWorld) wantGood(t *testing.T, why string, of account.Secrets, asker []byte, token string) {
	t.Helper()
	user, err := of.Find(t.Context(), w.pool, asker, token)
	if err != nil || user.ID != w.user {
		t.Errorf("%s: found %v, %v", why, user.ID, err)
	}
	if err := w.spend(t.Context(), of, asker, token); err != nil {
		t.Errorf("%s: %v", why, err)
	}
	w.wantDead(t, why+", again", of, asker, token)
}

// former is the SQL of the version before migration 00024, whose replicas run beside this version.
type former struct{ w *secretWorld }

func (f former) issue(t *testing.T, token string, nonce []byte) {
	t.Helper()
	sum := sha256.Sum256([]byte(token))
	_, err := f.w.pool.Exec(t.Context(), `INSERT INTO password_resets (user_id, token_hash, nonce, ledger, created_at, expires_at)
		VALUES ($1, $2, $3::bytea, (SELECT seq FROM ledger_head), $4, $5)
		ON CONFLICT (user_id) DO UPDATE
		SET token_hash = excluded.token_hash, nonce = excluded.nonce, ledger = excluded.ledger,
		    created_at = excluded.created_at, expires_at = excluded.expires_at`, f.w.user, sum[:], nonce, f.w.now, f.w.now.Add(ttl))
	if err != nil {
		t.Fatal(err)
	}
}

func (f former) finds(t *testing.T, token string) bool {
	t.Helper()
	var found bool
	sum := sha256.Sum256([]byte(token))
	err := f.w.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM password_resets JOIN users ON users.id = password_resets.user_id
		WHERE password_resets.token_hash = $1 AND password_resets.expires_at > $2::timestamptz AND users.is_active
		    AND NOT latchkey_ended_since(users.id, password_resets.ledger) AND latchkey_on_primary())`, sum[:], f.w.now).Scan(&found)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (f former) spend(ctx context.Context, token string) error {
	sum := sha256.Sum256([]byte(token))
	return f.w.inTx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM password_resets
			WHERE token_hash = $1 AND user_id = $2 AND expires_at > $3::timestamptz AND NOT latchkey_ended_since(user_id, ledger)`,
			sum[:], f.w.user, f.w.now)
		if err == nil && tag.RowsAffected() == 0 {
			err = account.ErrSecret
		}
		return err
	})
}

// derive makes the token of a nonce in the same way as the version before.
func (f former) derive(nonce []byte) string {
	mac := hmac.New(sha256.New, secretKey())
	mac.Write([]byte("latchkey reset token\x00"))
	mac.Write(f.w.user[:])
	mac.Write(nonce)
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// TestPurposesDoNotMix checks that a secret is good only for its purpose and its asker, also at a replica of the
// version before.
func TestPurposesDoNotMix(t *testing.T) {
	t.Parallel()
	w := newSecretWorld(t)
	nobody, ada, eve := account.Nobody(), []byte("ada"), []byte("eve")
	reset, verify := w.issue(t, w.resets, nobody), w.issue(t, w.other, nobody)
	forAda, forEve := w.issue(t, w.other, ada), w.issue(t, w.other, eve)
	if verify == forAda || forAda == forEve || reset == verify {
		t.Error("two secrets have one token")
	}
	w.wantDead(t, "a reset token for another purpose", w.other, nobody, reset)
	w.wantDead(t, "a token of another purpose for a reset", w.resets, nobody, verify)
	w.wantDead(t, "the token of one asker for another", w.other, eve, forAda)
	w.wantDead(t, "the token of an asker for nobody", w.other, nobody, forAda)
	for _, token := range []string{verify, forAda} {
		if f := (former{w}); f.finds(t, token) || !errors.Is(f.spend(t.Context(), token), account.ErrSecret) {
			t.Error("the version before takes a token of another purpose for a reset")
		}
	}
	for range 2 { // each is still good, and has the same token while it lives
		if w.issue(t, w.resets, nobody) != reset || w.issue(t, w.other, nobody) != verify || w.issue(t, w.other, ada) != forAda {
			t.Error("a live secret was replaced")
		}
	}
	w.wantGood(t, "reset", w.resets, nobody, reset)
	w.wantGood(t, "verify", w.other, nobody, verify)
	w.wantGood(t, "one asker", w.other, ada, forAda)
	w.wantGood(t, "the other asker", w.other, eve, forEve)
}

// TestLabelsPartTokens checks that a row that was moved to another purpose, with its nonce, gives another token there.
func TestLabelsPartTokens(t *testing.T) {
	t.Parallel()
	w := newSecretWorld(t)
	reset := w.issue(t, w.resets, account.Nobody())
	if _, err := w.pool.Exec(t.Context(), "UPDATE one_time_secrets SET purpose = 'verify_address'"); err != nil {
		t.Fatal(err)
	}
	if again := w.issue(t, w.other, account.Nobody()); again == reset {
		t.Error("the token of a reset was made for another purpose")
	}
}

// TestOneOfManySpends spends a token many times at once, at replicas of this version and of the one before: exactly one
// call succeeds.
func TestOneOfManySpends(t *testing.T) {
	t.Parallel()
	w := newSecretWorld(t)
	for _, c := range []struct {
		name  string
		of    account.Secrets
		mixed bool
	}{{"reset", w.resets, true}, {"another purpose", w.other, false}} {
		token := w.issue(t, c.of, account.Nobody())
		var won atomic.Int32
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				spend := func() error { return w.spend(t.Context(), c.of, account.Nobody(), token) }
				if c.mixed && i%2 == 0 {
					spend = func() error { return former{w}.spend(t.Context(), token) }
				}
				switch err := spend(); {
				case err == nil:
					won.Add(1)
				case !errors.Is(err, account.ErrSecret):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Errorf("%s: %d of 100 spent it", c.name, won.Load())
		}
	}
}

// TestBesideTheVersionBefore checks that a link mailed by either version works at both, and only once in all.
func TestBesideTheVersionBefore(t *testing.T) {
	t.Parallel()
	w := newSecretWorld(t)
	f, nobody := former{w}, account.Nobody()
	token := w.issue(t, w.resets, nobody)
	if !f.finds(t, token) {
		t.Error("the version before does not find our link")
	}
	if err := f.spend(t.Context(), token); err != nil {
		t.Errorf("the version before spends our link: %v", err)
	}
	w.wantDead(t, "spent at the version before", w.resets, nobody, token)

	nonce := []byte("0123456789abcdef")
	theirs := f.derive(nonce)
	f.issue(t, theirs, nonce)
	if again := w.issue(t, w.resets, nobody); again != theirs {
		t.Error("a link of the version before that is asked for again is another one")
	}
	w.wantGood(t, "a link of the version before", w.resets, nobody, theirs)
	if f.finds(t, theirs) || !errors.Is(f.spend(t.Context(), theirs), account.ErrSecret) {
		t.Error("the version before takes a link that was spent here")
	}

	replaced := w.issue(t, w.resets, nobody)
	f.issue(t, theirs, nonce) // replaces a row of this version
	w.wantDead(t, "replaced by the version before", w.resets, nobody, replaced)
	w.now = w.now.Add(ttl + time.Second)
	if ours := w.issue(t, w.resets, nobody); ours == theirs || !f.finds(t, ours) || f.finds(t, theirs) { // replaces a row of the version before
		t.Error("our link does not replace that of the version before")
	}
}

// TestDownKeepsResets migrates down and up again: each time the links that the other version mailed still work.
func TestDownKeepsResets(t *testing.T) {
	t.Parallel()
	w := newSecretWorld(t)
	token := w.issue(t, w.resets, account.Nobody())
	w.issue(t, w.other, account.Nobody())
	m := postgres.Migrations{URL: w.url, FS: migrations.FS}
	for {
		name, err := m.Down(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if name == "00024_one_time_secrets.sql" {
			break
		}
	}
	if !(former{w}).finds(t, token) {
		t.Error("the version before does not find the link")
	}
	if _, err := m.Up(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	w.wantGood(t, "after down and up", w.resets, account.Nobody(), token)
}

// TestSecretsExpire checks that a secret lives for one ttl from its newest mail, at most two in all, and is swept
// afterwards.
func TestSecretsExpire(t *testing.T) {
	t.Parallel()
	w := newSecretWorld(t)
	nobody := account.Nobody()
	for name, of := range map[string]account.Secrets{"reset": w.resets, "another purpose": w.other} {
		token := w.issue(t, of, nobody)
		w.now = w.now.Add(ttl - time.Second)
		if again := w.issue(t, of, nobody); again != token {
			t.Errorf("%s: replaced while it lives", name)
		}
		w.now = w.now.Add(ttl - time.Second)
		if _, err := of.Find(t.Context(), w.pool, nobody, token); err != nil {
			t.Errorf("%s: asked for again, and dead before its newest mail says: %v", name, err)
		}
		if next := w.issue(t, of, nobody); next == token {
			t.Errorf("%s: prolonged for ever", name)
		} else {
			token = next
		}
		w.now = w.now.Add(ttl)
		w.wantDead(t, name+", expired", of, nobody, token)
	}
	upkeep := jobs.Upkeep{Pool: w.pool, Now: func() time.Time { return w.now }}
	if err := upkeep.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := w.pool.QueryRow(t.Context(), "SELECT count(*) FROM one_time_secrets").Scan(&left); err != nil || left != 0 {
		t.Errorf("%d expired secrets are left, %v", left, err)
	}
}

// TestSecretsEndWithSessions checks that everything that ends the account's sessions ends its secrets of every purpose.
// If somebody has locked the row of a secret, only its position refuses it.
func TestSecretsEndWithSessions(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]string{
		"all sessions of the account": "SELECT latchkey_append_revocation('user', NULL, $1, NULL, NULL, NULL)",
		"all but one":                 "SELECT latchkey_append_revocation('user', NULL, $1, gen_random_uuid(), NULL, NULL)",
		"all sessions of everybody":   "SELECT latchkey_append_revocation('all', NULL, NULL, NULL, NULL, NULL) WHERE $1::uuid IS NOT NULL",
		"another address":             "UPDATE users SET email = 'moved@example.com' WHERE id = $1",
		"a password set by SQL":       "UPDATE users SET password_hash = 'y' WHERE id = $1",
	} {
		for _, locked := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", locked ", locked), func(t *testing.T) {
				t.Parallel()
				w := newSecretWorld(t)
				asker := []byte("ada")
				reset, verify := w.issue(t, w.resets, account.Nobody()), w.issue(t, w.other, asker)
				holder, err := w.pool.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if locked {
					_, err = holder.Exec(t.Context(), "SELECT FROM one_time_secrets FOR UPDATE")
				}
				if err == nil {
					_, err = w.pool.Exec(t.Context(), end, w.user)
				}
				if err := errors.Join(err, holder.Rollback(t.Context())); err != nil {
					t.Fatal(err)
				}
				var left int
				if err := w.pool.QueryRow(t.Context(), "SELECT count(*) FROM one_time_secrets").Scan(&left); err != nil || (left == 0) == locked {
					t.Errorf("%d rows are left, %v", left, err)
				}
				w.wantDead(t, "reset", w.resets, account.Nobody(), reset)
				w.wantDead(t, "another purpose", w.other, asker, verify)
				if w.issue(t, w.other, asker) == verify {
					t.Error("a dead secret is mailed again")
				}
			})
		}
	}
}
