package userimport_test

import (
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/userfile"
	"github.com/latchkey-auth/latchkey/internal/userimport"
)

func fill(c *userimport.Config) { c.Fill = true }

// bare returns accounts without a password, and hashed the same accounts with one.
func bare(n int) *records {
	r := many(n)
	for i := range r.list {
		r.list[i].User.PasswordHash = ""
	}
	return r
}

// TestFill: an import with hashes gives passwords to the accounts that an import without hashes made, once, and to no
// other accounts.
func TestFill(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const n = 6_000 // two batches
	counts, refused := p.run(bare(n), dry)
	want(t, counts, refused, userimport.Counts{Read: n, Created: n, WithoutPassword: n})
	counts, refused = p.run(bare(n))
	want(t, counts, refused, userimport.Counts{Read: n, Created: n, WithoutPassword: n})
	// Owners who set a password in the meantime keep it.
	p.exec("UPDATE users SET password_hash = $1 WHERE email_lookup IN ('user0000001@example.com', 'user0005999@example.com')", argonHash)
	revoked := p.text("SELECT count(*)::text FROM revocations")
	before := p.sum()
	counts, refused = p.run(many(n), fill, dry)
	want(t, counts, refused, userimport.Counts{Read: n, Existing: n, Filled: n - 2, Unsaid: n})
	counts, refused = p.run(many(n)) // without the option
	want(t, counts, refused, userimport.Counts{Read: n, Existing: n, Unsaid: n})
	counts, refused = p.run(bare(n), fill) // without passwords
	want(t, counts, refused, userimport.Counts{Read: n, Existing: n})
	if p.sum() != before {
		t.Error("something was written")
	}
	counts, refused = p.run(many(n), fill)
	want(t, counts, refused, userimport.Counts{Read: n, Existing: n, Filled: n - 2, Unsaid: n})
	kept := fmt.Sprintf("%d %d", n-2, 2)
	stored := "SELECT count(*) FILTER (WHERE password_hash = $1) || ' ' || count(*) FILTER (WHERE password_hash = $2) FROM users"
	if got := p.text(stored, bcryptHash, argonHash); got != kept {
		t.Errorf("hashes of the file and of owners: %s, want %s", got, kept)
	}
	// Nobody was logged in, so nothing is revoked. Otherwise the replicas would have to apply a million rows.
	if got := p.text("SELECT count(*)::text FROM revocations"); got != revoked {
		t.Errorf("%s revocations, %s before", got, revoked)
	}
	after := p.sum()
	counts, refused = p.run(many(n), fill)
	want(t, counts, refused, userimport.Counts{Read: n, Existing: n, Unsaid: n})
	if p.sum() != after {
		t.Error("the same again wrote")
	}
}

// TestFillBySomebodyElse: a record that cannot belong to the account fills nothing.
func TestFillBySomebodyElse(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	p.run(users(userfile.User{ID: id(1), Email: "Ada@example.com"}, userfile.User{ID: id(2), Email: "bo@example.com"}))
	counts, refused := p.run(users(
		userfile.User{ID: id(3), Email: "Ada@example.com", PasswordHash: bcryptHash},
		userfile.User{ID: id(1), Email: "bo@example.com", PasswordHash: bcryptHash},
	), fill)
	want(t, counts, refused, userimport.Counts{Read: 2, Refused: 2, Unsaid: 2}, "held by another account", "held by another account")
	counts, refused = p.run(users(userfile.User{Email: "ADA@example.com", PasswordHash: bcryptHash}), fill)
	want(t, counts, refused, userimport.Counts{Read: 1, Refused: 1, Unsaid: 1}, "differs in letter case only")
	if got := p.text("SELECT count(*)::text FROM users WHERE password_hash = '!'"); got != "2" {
		t.Errorf("%s accounts without a password", got)
	}
	counts, refused = p.run(users(
		userfile.User{ID: id(1), Email: "ADA@example.com", PasswordHash: bcryptHash},
		userfile.User{Email: "bo@example.com", PasswordHash: argonHash},
		userfile.User{Email: "bo@example.com", PasswordHash: bcryptHash},
	), fill)
	want(t, counts, refused, userimport.Counts{Read: 3, Existing: 2, Filled: 2, Refused: 1, Unsaid: 2}, "record 2 has this address already")
	if got := p.text("SELECT password_hash FROM users WHERE id = $1", id(2)); got != argonHash {
		t.Errorf("stored %s", got)
	}
}

// TestFillAtOnce: several imports with hashes run at once while owners set passwords.
func TestFillAtOnce(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	const n = 5_000
	p.run(bare(n))
	var all sync.WaitGroup
	var filled [3]int64
	for i := range filled {
		all.Go(func() {
			counts, _, err := p.try(t.Context(), many(n), fill)
			if err != nil {
				t.Errorf("importer %d: %v", i, err)
			}
			filled[i] = counts.Filled
		})
	}
	for i := 0; i < n; i += 50 {
		p.exec("UPDATE users SET password_hash = $1 WHERE email_lookup = $2", argonHash, fmt.Sprintf("user%07d@example.com", i))
	}
	all.Wait()
	if got := p.text("SELECT count(*)::text FROM users WHERE password_hash = $1", argonHash); got != strconv.Itoa(n/50) {
		t.Errorf("%s owners kept the password that they set last, of %d", got, n/50)
	}
	if sum := filled[0] + filled[1] + filled[2]; sum > n || sum < n-n/50 {
		t.Errorf("%v were filled", filled)
	}
}
