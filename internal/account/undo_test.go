package account_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/account"
)

// TestLastingSecretsOutliveSessions ends the sessions of an account in every way, and changes its address: the secret that
// undoes a change of address stays, and every other ends. Only the account itself takes it along, and a call that says so.
func TestLastingSecretsOutliveSessions(t *testing.T) {
	t.Parallel()
	w := newSecretWorld(t)
	left := func() (lasting, others int) {
		t.Helper()
		err := w.pool.QueryRow(t.Context(),
			"SELECT count(*) FILTER (WHERE lasting), count(*) FILTER (WHERE NOT lasting) FROM one_time_secrets").Scan(&lasting, &others)
		if err != nil {
			t.Fatal(err)
		}
		return lasting, others
	}
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := w.pool.Exec(t.Context(), query, args...); err != nil {
			t.Fatalf("%s: %v", query, err)
		}
	}
	keep := func() {
		exec(`INSERT INTO one_time_secrets (user_id, purpose, asker, token_hash, ledger, created_at, expires_at, lasting)
			VALUES ($1, 'undo_email_change', 'a', 'b', 0, now(), now() + interval '72 hours', true)`, w.user)
	}
	keep()
	for name, end := range map[string]string{
		"all sessions of the account": "SELECT latchkey_append_revocation('user', NULL, $1, NULL, NULL, NULL)",
		"all sessions":                "SELECT latchkey_append_revocation('all', NULL, NULL, NULL, NULL, NULL) WHERE $1::uuid IS NOT NULL",
		"a new password":              "UPDATE users SET password_hash = password_hash || 'x' WHERE id = $1",
		"a new address":               "UPDATE users SET email = 'x' || email WHERE id = $1",
		"a suspension":                "UPDATE users SET is_active = false WHERE id = $1",
	} {
		token := w.issue(t, w.resets, account.Nobody())
		w.issue(t, w.other, account.Nobody())
		exec(end, w.user)
		w.wantDead(t, name, w.resets, account.Nobody(), token)
		if lasting, others := left(); lasting != 1 || others != 0 {
			t.Errorf("%s leaves %d lasting secrets and %d others", name, lasting, others)
		}
	}
	err := w.inTx(t.Context(), func(tx pgx.Tx) error { return db.New().DeleteSecrets(t.Context(), tx, w.user) })
	if lasting, _ := left(); err != nil || lasting != 0 {
		t.Errorf("%d are left, %v", lasting, err)
	}
	keep()
	exec("DELETE FROM users WHERE id = $1", w.user)
	if lasting, _ := left(); lasting != 0 {
		t.Error("the undo of an account that is gone")
	}
}
