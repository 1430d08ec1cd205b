package password_test

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/internal/userfile"
	"github.com/latchkey-auth/latchkey/internal/userimport"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// TestStoredKinds: the import accepts a hash of every kind, PostgreSQL finds its setting as Go does, and a decoy of
// that setting can be made.
func TestStoredKinds(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), testenv.Migrated(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	source := &records{}
	want := map[string]int64{}
	for i, v := range password.Vectors() {
		source.list = append(source.list, userfile.Record{Number: int64(i + 1), User: userfile.User{
			Email: fmt.Sprintf("a%d@example.com", i), PasswordHash: v[0],
		}})
		setting, err := password.Setting(v[1])
		if err != nil {
			t.Fatalf("%s: %v", v[1], err)
		}
		want[setting]++
	}
	counts, err := userimport.Run(t.Context(), userimport.Config{
		Pool: pool, Now: time.Now,
		Refused: func(r userimport.Refusal) {
			t.Errorf("%s: refused: %s", source.list[r.Number-1].User.PasswordHash, r.Reason)
		},
	}, source)
	if err != nil || counts.Created != int64(len(source.list)) {
		t.Fatalf("%+v, %v", counts, err)
	}
	for i, v := range password.Vectors() {
		var stored string
		err := pool.QueryRow(t.Context(), "SELECT password_hash FROM users WHERE email = $1", fmt.Sprintf("a%d@example.com", i)).Scan(&stored)
		if err != nil || stored != v[1] {
			t.Errorf("%s: stored as %s, want %s: %v", v[0], stored, v[1], err)
		}
	}
	rows, err := db.New().SampleHashSettings(t.Context(), pool, password.SettingPattern())
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range rows {
		if want[row.Setting] != row.Weight {
			t.Errorf("%d hashes with %q, want %d", row.Weight, row.Setting, want[row.Setting])
		}
		delete(want, row.Setting)
	}
	for setting, weight := range want {
		t.Errorf("%d hashes with %q are not found", weight, setting)
	}
}

// records is a source of records in memory.
type records struct {
	list []userfile.Record
	next int
}

func (r *records) Next() (userfile.Record, error) {
	if r.next == len(r.list) {
		return userfile.Record{}, io.EOF
	}
	r.next++
	return r.list[r.next-1], nil
}
