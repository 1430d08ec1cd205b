package takeover

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/legacy"
	"github.com/latchkey-auth/latchkey/internal/password"
)

const (
	// idsNamed is how many ids of accounts a finding lists.
	idsNamed = 5
	// kindsNamed bounds the table of hash kinds, since parameters there can be any text.
	kindsNamed = 50
	// Bounds of the contract for new accounts; existing accounts need not meet them.
	maxAddressBytes = 254 // RFC 5321, section 4.5.3.1.3, less the angle brackets
	maxNameRunes    = 100
)

// reader reads every account once, and keeps only counts and a few ids.
type reader struct {
	judge     func(encoded string) error
	hashes    map[string]*HashKind
	addresses *Finding
	empty     *Finding
	names     *Finding
	unusable  map[string]*Finding
	// notThere are those that the Go backend logs in never.
	notThere *Finding

	address *regexp.Regexp
}

// readAccounts streams the accounts, so that memory does not depend on their number.
func (r *Report) readAccounts(ctx context.Context, tx pgx.Tx, judge func(string) error) error {
	rows, err := tx.Query(ctx, `
		SELECT id, email, password_hash, first_name, last_name, is_active, is_verified, last_login_at IS NULL FROM users`)
	if err != nil {
		return err
	}
	defer rows.Close()
	all := &reader{
		judge: judge, hashes: map[string]*HashKind{}, unusable: map[string]*Finding{},
		addresses: &Finding{Code: "odd_addresses", Text: "an address that today's rules refuse", Right: "nothing: their owners can still log in; sign-up would refuse these addresses today"},
		empty:     &Finding{Code: "empty_addresses", Text: "an empty address", Right: "an address: an account with an empty one cannot log in here"},
		names:     &Finding{Code: "odd_names", Text: "a name that is empty, has over 100 characters or contains control characters", Right: "nothing: the names stay as they are; sign-up would refuse them today"},
		notThere: &Finding{
			Code: "not_at_go_backend", Text: "an address that the Go backend refuses, or a hash that it cannot read: it cannot log them in while both serve",
			Right: "nothing: their owners log in at Latchkey, with either contract",
		},
		// A local part, an @ and a domain, without the characters that have a meaning in a header or a list.
		address: regexp.MustCompile(`^[^@\pZ\pC"(),:;<>\[\]\\]{1,64}@[\pL\pN][\pL\pM\pN.-]*$`),
	}
	a := &r.Database.Accounts
	for rows.Next() {
		var id uuid.UUID
		var email, hash, first, last string
		var active, verified, never bool
		if err := rows.Scan(&id, &email, &hash, &first, &last, &active, &verified, &never); err != nil {
			return err
		}
		a.Total++
		count(&a.Disabled, !active)
		count(&a.Verified, verified)
		count(&a.NeverLoggedIn, never)
		all.hash(id, hash)
		all.look(id, email, first, last)
		if hash != password.None && !legacy.LogsIn(email, hash) {
			all.notThere.note(id)
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	a.Hashes = []HashKind{}
	for _, kind := range all.hashes {
		a.Hashes = append(a.Hashes, *kind)
	}
	slices.SortFunc(a.Hashes, func(x, y HashKind) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Kind, y.Kind))
	})
	all.tell(r)
	return nil
}

func count(n *int64, is bool) {
	if is {
		*n++
	}
}

// note counts an account under a finding.
func (f *Finding) note(id uuid.UUID) {
	f.Count++
	if len(f.IDs) < idsNamed {
		f.IDs = append(f.IDs, id.String())
	}
}

func (a *reader) hash(id uuid.UUID, encoded string) {
	name := password.Kind(encoded)
	kind := a.hashes[name]
	if kind == nil {
		if len(a.hashes) >= kindsNamed {
			name = "other kinds"
		}
		kind = cmp.Or(a.hashes[name], &HashKind{Kind: name})
		a.hashes[name] = kind
	}
	kind.Count++
	if a.judge == nil || a.judge(encoded) == nil {
		return
	}
	kind.Unusable++
	f := a.unusable[name]
	if f == nil {
		f = &Finding{Code: "unusable_hash", Right: "nothing before the takeover: their owners can log in after a password reset"}
		a.unusable[name] = f
	}
	f.note(id)
}

func (a *reader) look(id uuid.UUID, email, first, last string) {
	switch {
	case email == "":
		a.empty.note(id)
	case len(email) > maxAddressBytes || !a.address.MatchString(email) || address.Check(email) != nil:
		a.addresses.note(id)
	}
	for _, name := range []string{first, last} {
		if name == "" || utf8.RuneCountInString(name) > maxNameRunes || hasControl(name) {
			a.names.note(id)
			return
		}
	}
}

func hasControl(s string) bool {
	return slices.ContainsFunc([]rune(s), func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 })
}

func (a *reader) tell(r *Report) {
	for _, name := range slices.Sorted(maps.Keys(a.unusable)) {
		f := a.unusable[name]
		f.Text = fmt.Sprintf("%d accounts have a password hash that Latchkey cannot check (%s): they cannot log in with their password", f.Count, name)
		r.warn(*f)
	}
	for _, f := range []*Finding{a.empty, a.addresses, a.names, a.notThere} {
		if f.Count > 0 {
			f.Text = fmt.Sprintf("%d accounts have %s", f.Count, f.Text)
			r.warn(*f)
		}
	}
	if r.Database.Accounts.Total == 0 {
		r.warn(Finding{Code: "no_accounts", Text: "users is empty", Right: "the older backend's database, if it has accounts"})
	}
}
