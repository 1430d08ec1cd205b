package userimport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/internal/userfile"
	"github.com/latchkey-auth/latchkey/internal/userimport"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// bcryptHash is of "correct horse battery", cost 4.
const bcryptHash = "$2a$04$OEIW1YCc4Y5a8u1vyNDcE.rqZqiHsBkrFZw3ptYaXUcexBmbQzaB6"

const argonHash = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func now() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }

// records is a source of records in memory.
type records struct {
	list []userfile.Record
	next int
	err  error  // in place of io.EOF
	at   func() // called before each
}

func (r *records) Next() (userfile.Record, error) {
	if r.at != nil {
		r.at()
	}
	if r.next == len(r.list) {
		if r.err != nil {
			return userfile.Record{}, r.err
		}
		return userfile.Record{}, io.EOF
	}
	r.next++
	return r.list[r.next-1], nil
}

func users(list ...userfile.User) *records {
	r := &records{}
	for i, u := range list {
		r.list = append(r.list, userfile.Record{Number: int64(i + 1), User: u})
	}
	return r
}

func many(n int) *records {
	r := &records{}
	for i := range n {
		r.list = append(r.list, userfile.Record{Number: int64(i + 1), User: userfile.User{
			Email: fmt.Sprintf("User%07d@Example.com", (i*7919)%n), PasswordHash: bcryptHash,
		}})
	}
	return r
}

// place is a database of its own.
type place struct {
	t    *testing.T
	pool *pgxpool.Pool
}

func newPlace(t *testing.T) place {
	t.Helper()
	pool, err := postgres.Open(t.Context(), postgres.Config{URL: testenv.Migrated(t), MaxConns: 6})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return place{t, pool}
}

// run imports and returns the counts and refusals.
func (p place) run(source userimport.Source, change ...func(*userimport.Config)) (userimport.Counts, []string) {
	p.t.Helper()
	counts, refused, err := p.try(p.t.Context(), source, change...)
	if err != nil {
		p.t.Fatal(err)
	}
	return counts, refused
}

func (p place) try(ctx context.Context, source userimport.Source, change ...func(*userimport.Config)) (userimport.Counts, []string, error) {
	var mu sync.Mutex
	var refused []string
	cfg := userimport.Config{Pool: p.pool, Now: now, Refused: func(r userimport.Refusal) {
		mu.Lock()
		defer mu.Unlock()
		refused = append(refused, fmt.Sprintf("%d %s: %s", r.Number, r.Email, r.Reason))
	}}
	for _, c := range change {
		c(&cfg)
	}
	counts, err := userimport.Run(ctx, cfg, source)
	return counts, refused, err
}

func dry(c *userimport.Config) { c.DryRun = true }

// sum returns a checksum of the whole table, including the versions of its rows.
func (p place) sum() string {
	p.t.Helper()
	return p.text("SELECT count(*) || ' ' || coalesce(md5(string_agg(u::text || xmin, ',' ORDER BY id)), '') FROM users u")
}

func (p place) text(query string, args ...any) string {
	p.t.Helper()
	var text string
	if err := p.pool.QueryRow(p.t.Context(), query, args...).Scan(&text); err != nil {
		p.t.Fatalf("%s: %v", query, err)
	}
	return text
}

func (p place) exec(query string, args ...any) {
	p.t.Helper()
	if _, err := p.pool.Exec(p.t.Context(), query, args...); err != nil {
		p.t.Fatalf("%s: %v", query, err)
	}
}

// want checks the counts, and that each refusal contains its text.
func want(t *testing.T, counts userimport.Counts, refused []string, wanted userimport.Counts, texts ...string) {
	t.Helper()
	if counts != wanted {
		t.Errorf("counts %+v, want %+v", counts, wanted)
	}
	if len(refused) != len(texts) {
		t.Fatalf("refused\n%s\nwant\n%s", strings.Join(refused, "\n"), strings.Join(texts, "\n"))
	}
	for i, text := range texts {
		if !strings.Contains(refused[i], text) {
			t.Errorf("refused %q, want %q in it", refused[i], text)
		}
	}
}

var errSource = errors.New("the disk is gone")

func id(n int) uuid.UUID { return uuid.MustParse(fmt.Sprintf("11111111-2222-4333-8444-%012d", n)) }
