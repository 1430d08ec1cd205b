package factors_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/internal/factors"
	"github.com/latchkey-auth/latchkey/internal/seal"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// What the previous key has sealed is sealed again under the current one, and only that.
func TestReseal(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), testenv.Migrated(t))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	key := func(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }
	sealer := func(keys ...[]byte) *seal.Sealer {
		s, err := seal.New(factors.SealLabel, keys)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	before, both, after, stranger := sealer(key(1)), sealer(key(2), key(1)), sealer(key(2)), sealer(key(3))
	seeds := map[uuid.UUID]*seal.Sealer{uuid.New(): before, uuid.New(): after, uuid.New(): stranger}
	for id, by := range seeds {
		user := uuid.New()
		exec("INSERT INTO users (id, email, password_hash, first_name, last_name) VALUES ($1, $2, '!', 'a', 'b')", user, user.String()+"@example.com")
		exec("INSERT INTO factors (id, user_id, kind, name, created_at) VALUES ($1, $2, 'totp', '', now())", id, user)
		exec("INSERT INTO totp_factors (factor_id, sealed_seed, last_step) VALUES ($1, $2, 0)", id, by.Seal(factors.SeedPlace(id), []byte("seed")))
		exec("INSERT INTO recovery_sets (user_id, id, sealed_key, created_at) VALUES ($1, $2, $3, now())", user, id, by.Seal(factors.CodesPlace(id), []byte("key")))
	}
	for _, want := range []int64{2, 0} { // a second time there is nothing to do
		if n, err := factors.Reseal(t.Context(), pool, both); n != want || err != nil {
			t.Errorf("sealed %d, %v, want %d", n, err, want)
		}
	}
	for id, by := range seeds {
		opener := after
		if by == stranger {
			opener = stranger
		}
		var seed, codes []byte
		err := pool.QueryRow(t.Context(), `SELECT t.sealed_seed, s.sealed_key FROM totp_factors t JOIN recovery_sets s ON s.id = t.factor_id
			WHERE t.factor_id = $1`, id).Scan(&seed, &codes)
		if err != nil {
			t.Fatal(err)
		}
		if plain, _, err := opener.Open(factors.SeedPlace(id), seed); err != nil || string(plain) != "seed" {
			t.Errorf("seed: %q, %v", plain, err)
		}
		if plain, _, err := opener.Open(factors.CodesPlace(id), codes); err != nil || string(plain) != "key" {
			t.Errorf("key: %q, %v", plain, err)
		}
	}
}
