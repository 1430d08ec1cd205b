package userimport_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/internal/userfile"
	"github.com/latchkey-auth/latchkey/internal/userimport"
)

// TestEverythingOfAnAccount: the table has all values of a record, and defaults for missing ones.
func TestEverythingOfAnAccount(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	created, login := now().Add(-1000*time.Hour), now().Add(-time.Hour)
	counts, refused := p.run(users(
		userfile.User{
			ID: id(1), Email: "Ada@Example.com", PasswordHash: bcryptHash, FirstName: "Ada", LastName: "Lovelace",
			CreatedAt: created, LastLoginAt: login, Suspended: true, EmailVerified: true,
		},
		userfile.User{Email: "bare@example.com"},
		userfile.User{Email: "CAFE\u0301@example.com", PasswordHash: argonHash},
	))
	want(t, counts, refused, userimport.Counts{Read: 3, Created: 3, WithoutPassword: 1, Unsaid: 2})
	full := p.text(`SELECT concat_ws('|', id, email, email_lookup, password_hash, first_name, last_name,
		extract(epoch FROM created_at)::bigint, extract(epoch FROM last_login_at)::bigint, is_active, is_verified) FROM users WHERE id = $1`, id(1))
	if wanted := fmt.Sprintf("%s|Ada@Example.com|ada@example.com|%s|Ada|Lovelace|%d|%d|f|t", id(1), bcryptHash, created.Unix(), login.Unix()); full != wanted {
		t.Errorf("got  %s\nwant %s", full, wanted)
	}
	bare := p.text(`SELECT concat_ws('|', email_lookup, password_hash, first_name || last_name, created_at = $1, last_login_at IS NULL, is_active, is_verified,
		substr(id::text, 15, 1)) FROM users WHERE email = 'bare@example.com'`, now())
	if bare != "bare@example.com|!||t|t|t|f|4" {
		t.Errorf("got %s", bare)
	}
	if got := p.text("SELECT email_lookup FROM users WHERE password_hash = $1", argonHash); got != address.Lookup("CAFE\u0301@example.com") || got != "caf\u00e9@example.com" {
		t.Errorf("lookup %q", got)
	}
	// New accounts revoke nothing, and audit events record only what people do.
	if got := p.text("SELECT (SELECT count(*) FROM revocations) || ' ' || (SELECT count(*) FROM audit_events)"); got != "0 0" {
		t.Errorf("revocations and audit events: %s", got)
	}
}

// TestRefused: each refused record is reported with its reason, and stops no other record.
func TestRefused(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	bad := []struct {
		user   userfile.User
		reason string
	}{
		{userfile.User{}, "no address"},
		{userfile.User{Email: "no-at.example.com"}, "does not have a form"},
		{userfile.User{Email: "@example.com"}, "does not have a form"},
		{userfile.User{Email: " a@example.com"}, "spaces around"},
		{userfile.User{Email: "a\x00@example.com"}, "control characters"},
		{userfile.User{Email: "a\xff@example.com"}, "UTF-8"},
		{userfile.User{Email: strings.Repeat("é", 250) + "@b.org"}, "longer than 255"},
		{userfile.User{Email: "n1@example.com", FirstName: strings.Repeat("x", 101)}, "first name is longer than 100"},
		{userfile.User{Email: "n2@example.com", LastName: "a\u202eb"}, "last name has control or direction"},
		{userfile.User{Email: "n3@example.com", LastName: "a\xff"}, "last name is not UTF-8"},
		{userfile.User{Email: "t1@example.com", CreatedAt: time.Unix(1e12, 0)}, "in the future"},
		{userfile.User{Email: "t2@example.com", LastLoginAt: time.Unix(-1e9, 0)}, "last login"},
		{userfile.User{Email: "h1@example.com", PasswordHash: "secret123"}, "password hash"},
		{userfile.User{Email: "h2@example.com", PasswordHash: "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHRzYWx0$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}, "memory"},
		{userfile.User{Email: "h3@example.com", PasswordHash: "$2a$31$OEIW1YCc4Y5a8u1vyNDcE.rqZqiHsBkrFZw3ptYaXUcexBmbQzaB6"}, "bcrypt"},
		{userfile.User{Email: "h4@example.com", PasswordHash: "$pbkdf2-sha256$2000000000$c2FsdHNhbHQ$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}, "PBKDF2"},
	}
	var list []userfile.User
	var reasons []string
	for i, b := range bad {
		list = append(list, b.user, userfile.User{Email: fmt.Sprintf("good%d@example.com", i)})
		reasons = append(reasons, b.reason)
	}
	source := users(list...)
	source.list = append(source.list, userfile.Record{Number: 99, Err: errors.New("it is not JSON")})
	counts, refused := p.run(source)
	n := int64(len(bad))
	want(t, counts, refused, userimport.Counts{Read: 2*n + 1, Created: n, WithoutPassword: n, Refused: n + 1}, append(reasons, "99 : it is not JSON")...)
	for i, r := range refused {
		if strings.Contains(r, "secret123") || strings.Contains(r, "c2FsdHNhbHQ") {
			t.Errorf("a hash is told: %s", r)
		}
		if i < len(bad) && !strings.HasPrefix(r, fmt.Sprint(2*i+1, " ")) {
			t.Errorf("number: %s, want %d", r, 2*i+1)
		}
	}
	if got := p.text("SELECT count(*)::text FROM users"); got != strconv.FormatInt(n, 10) {
		t.Errorf("%s accounts", got)
	}
	// Names as long as the column are accepted, and so is an address that sign-up would refuse.
	counts, refused = p.run(users(
		userfile.User{Email: strings.Repeat("é", 249) + "@b.org", FirstName: strings.Repeat("é", 100)},
		userfile.User{Email: `"odd quoted"@localhost`},
	))
	want(t, counts, refused, userimport.Counts{Read: 2, Created: 2, WithoutPassword: 2})
}

// TestAgain: existing accounts are not changed, whatever happened to them since.
func TestAgain(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const n = 12_000 // three batches, the last one not full
	source := func() *records {
		r := many(n)
		r.list[17].User.ID = id(17)
		return r
	}
	counts, refused := p.run(source())
	want(t, counts, refused, userimport.Counts{Read: n, Created: n, Unsaid: n})
	// An owner logs in and changes names: no conflict with the file.
	p.exec("UPDATE users SET password_hash = $1, first_name = 'New', last_login_at = now() WHERE id = $2", argonHash, id(17))
	before := p.sum()
	counts, refused = p.run(source())
	want(t, counts, refused, userimport.Counts{Read: n, Existing: n, Unsaid: n})
	counts, refused = p.run(source(), dry)
	want(t, counts, refused, userimport.Counts{Read: n, Existing: n, Unsaid: n})
	if after := p.sum(); after != before {
		t.Errorf("the table changed: %s, %s", before, after)
	}
}

// TestDuplicates: within a batch, across batches and against the table.
func TestDuplicates(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.exec(`INSERT INTO users (id, email, email_lookup, password_hash, first_name, last_name)
		VALUES ($1, 'There@example.com', 'there@example.com', 'x', '', '')`, id(1))
	// As an older backend left them: two variants of an address, one without a lookup value.
	p.exec(`INSERT INTO users (id, email, password_hash, first_name, last_name) VALUES ($1, 'THERE@example.com', 'x', '', '')`, id(2))
	before := p.sum()
	source := func() *records {
		r := many(6000) // two batches
		for at, u := range map[int]userfile.User{
			10:   {Email: "twin@example.com"},
			20:   {Email: "Twin@example.com"},             // in the same batch
			30:   {Email: "There@example.com"},            // in the table
			40:   {Email: "THERE@example.com"},            // in the table, the other one
			50:   {Email: "there@example.com"},            // a variant of both, and of line 31 in this batch
			60:   {Email: "other@example.com", ID: id(1)}, // the id of another account
			70:   {Email: "mine@example.com", ID: id(70)},
			80:   {Email: "not-mine@example.com", ID: id(70)},
			5100: {Email: "tHere@example.com"},
			5200: {Email: "twin@example.com"},
			5300: {Email: "TWIN@example.com"},
			5400: {Email: "third@example.com", ID: id(70)},
		} {
			r.list[at].User = u
		}
		return r
	}
	wanted := []string{
		"21 Twin@example.com: record 11 has this address already",
		"41 THERE@example.com: record 31 has this address already",
		"51 there@example.com: record 31 has this address already",
		"61 other@example.com: the id is held by an account with another address",
		"81 not-mine@example.com: record 71 has this id already",
		"5101 tHere@example.com: an earlier record has this address",
		"5201 twin@example.com: an earlier record has this address",
		"5301 TWIN@example.com: record 5201 has this address already",
		"5401 third@example.com: ",
	}
	result := userimport.Counts{Read: 6000, Created: 5990, WithoutPassword: 2, Existing: 1, Refused: 9, Unsaid: 5988}
	counts, refused := p.run(source(), dry)
	want(t, counts, refused, result, wanted...)
	if p.sum() != before {
		t.Error("the dry run wrote")
	}
	counts, refused = p.run(source())
	want(t, counts, refused, result, wanted...)
	// A second import of the same file refuses the same lines.
	counts, refused = p.run(source())
	want(t, counts, refused, userimport.Counts{Read: 6000, Existing: 5991, Refused: 9, Unsaid: 5988}, wanted...)
	// Only against the table.
	counts, refused = p.run(users(
		userfile.User{Email: "tHERe@example.com"}, userfile.User{Email: "twin@example.com", ID: id(3)}, userfile.User{Email: "Mine@example.com", ID: id(70)},
	))
	want(t, counts, refused, userimport.Counts{Read: 3, Existing: 1, Refused: 2},
		"1 tHERe@example.com: the address differs in letter case only from that of another account, "+id(1).String(),
		"2 twin@example.com: the address is held by another account, ")
	if got := p.text("SELECT count(*)::text FROM users WHERE id IN ($1, $2) AND password_hash = 'x'", id(1), id(2)); got != "2" {
		t.Error("accounts that were there changed")
	}
}

// TestForgotten: a duplicate of an address that is no longer remembered counts as an existing account.
func TestForgotten(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r := many(5000)
	r.list = append(r.list, r.list...)
	for i := range r.list {
		r.list[i].Number = int64(i + 1)
	}
	counts, refused := p.run(r, func(c *userimport.Config) { c.Remember = 4999 })
	want(t, counts, refused[:1], userimport.Counts{Read: 10_000, Created: 5000, Existing: 1, Refused: 4999, Unsaid: 10_000}, "an earlier record")
}

// TestInterrupted: an import that was stopped and run again has the same result as one that was not stopped.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	whole, parts := newPlace(t), newPlace(t)
	const n = 23_000
	source := func() *records {
		r := many(n)
		for i := range r.list {
			r.list[i].User.ID = id(i)
			r.list[i].User.CreatedAt = now().Add(-time.Duration(i) * time.Minute)
		}
		r.list[123].User.Email = "broken"
		r.list[20_000].User.Email = r.list[7].User.Email
		return r
	}
	whole.run(source())

	ctx, cancel := context.WithCancel(t.Context())
	counts, _, err := parts.try(ctx, source(), func(c *userimport.Config) {
		c.Progress = func(counts userimport.Counts) {
			if counts.Read >= 10_000 {
				cancel()
			}
		}
	})
	if !errors.Is(err, context.Canceled) || counts.Read != 10_000 {
		t.Fatalf("%+v, %v", counts, err)
	}
	if got := parts.text("SELECT count(*)::text FROM users"); got != "9999" {
		t.Errorf("%s accounts of two batches", got)
	}
	counts, refused := parts.run(source())
	want(t, counts, refused, userimport.Counts{Read: n, Created: n - 2 - 9999, Existing: 9999, Refused: 2, Unsaid: n - 1}, "124 broken: ", "20001 ")
	accounts := "SELECT count(*) || md5(string_agg(concat_ws(',', id, email, email_lookup, password_hash, created_at), '|' ORDER BY id)) FROM users"
	if a, b := whole.text(accounts), parts.text(accounts); a != b {
		t.Errorf("%s and %s", a, b)
	}
}

// TestSourceFails: all records that were read before are written, and the error is returned.
func TestSourceFails(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	r := many(5500)
	r.err = errSource
	counts, _, err := p.try(t.Context(), r)
	if !errors.Is(err, errSource) || counts != (userimport.Counts{Read: 5500, Created: 5500, Unsaid: 5500}) {
		t.Errorf("%+v, %v", counts, err)
	}
}

// TestAtOnce: several imports of the same accounts in different orders run beside sign-ups of the same addresses. Every
// account exists once and nothing fails.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const n, importers = 15_000, 3
	var all sync.WaitGroup
	var total [importers]userimport.Counts
	for i := range importers {
		r := many(n)
		for j := range r.list { // each begins at another record
			r.list[j].User.Email = strings.Replace(r.list[j].User.Email, "User", []string{"user", "User", "uSER"}[i], 1)
		}
		shift := i * 5000 / importers
		r.list = append(r.list[shift:], r.list[:shift]...)
		all.Go(func() {
			var err error
			total[i], _, err = p.try(t.Context(), r)
			if err != nil {
				t.Errorf("importer %d: %v", i, err)
			}
		})
	}
	all.Go(func() {
		for i := range 300 {
			email := fmt.Sprintf("user%07d@example.com", i*37)
			_, err := p.pool.Exec(t.Context(), `INSERT INTO users (email, email_lookup, password_hash, first_name, last_name)
				VALUES ($1, $2, 'x', '', '') ON CONFLICT DO NOTHING`, email, email)
			if err != nil {
				t.Errorf("sign up: %v", err)
			}
		}
	})
	all.Wait()
	if got := p.text("SELECT count(*) || ' ' || count(DISTINCT email_lookup) FROM users"); got != "15000 15000" {
		t.Errorf("accounts: %s", got)
	}
	// No transaction had to be aborted for another: all of them lock accounts in one order.
	p.pool.Close() // connections report what they met when they end
	conn, err := pgx.Connect(t.Context(), p.pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // the database goes with the test
	testenv.Eventually(t, time.Minute, "the connections of the imports have ended", func() bool {
		var n int
		err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()").Scan(&n)
		return err == nil && n == 0
	})
	var deadlocks int
	if err := conn.QueryRow(t.Context(), "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()").Scan(&deadlocks); err != nil || deadlocks > 0 {
		t.Errorf("%d deadlocks, %v", deadlocks, err)
	}
	var created int64
	for i, c := range total {
		created += c.Created
		if c.Read != n || c.Created+c.Existing+c.Refused != n {
			t.Errorf("importer %d: %+v", i, c)
		}
	}
	if created > n || created < n-300 {
		t.Errorf("%d made by the importers", created)
	}
}
