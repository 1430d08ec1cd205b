package takeover

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/address"
)

const (
	// groupsListed is how many groups of each kind are listed in full.
	groupsListed = 1000
	// withLookup is users with the form in which each address is compared: computed by SQL if SQL can do it, and taken
	// from beyondASCII for the accounts of $1.
	withLookup = `(
		SELECT u.*, coalesce(beyond.form, lower(u.email COLLATE "C")) AS lookup
		FROM users u LEFT JOIN unnest($1::uuid[], $2::text[]) AS beyond (account, form) ON beyond.account = u.id
	) AS with_lookup`
)

// beyondASCII has the compared form of each address that is not ASCII. Usually there are few.
type beyondASCII struct {
	ids     []uuid.UUID
	lookups []string
}

func readBeyondASCII(ctx context.Context, tx pgx.Tx) (b beyondASCII, err error) {
	rows, err := tx.Query(ctx, "SELECT id, email FROM users WHERE octet_length(email) <> char_length(email)")
	if err != nil {
		return b, err
	}
	var id uuid.UUID
	var email string
	_, err = pgx.ForEachRow(rows, []any{&id, &email}, func() error {
		b.ids, b.lookups = append(b.ids, id), append(b.lookups, address.Lookup(email))
		return nil
	})
	return b, err
}

// readGroups finds the accounts whose addresses differ only in case, Unicode form or the spelling of the domain.
func (r *Report) readGroups(ctx context.Context, tx pgx.Tx, hasLookup bool) error {
	held := "false"
	if hasLookup {
		held = "coalesce(bool_or(email_lookup = lookup), false)"
	}
	beyond, err := readBeyondASCII(ctx, tx)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, `
		SELECT lookup, `+held+` FROM `+withLookup+`
		GROUP BY lookup HAVING count(*) > 1 ORDER BY lookup COLLATE "C"`, beyond.ids, beyond.lookups)
	if err != nil {
		return err
	}
	var open, done []string
	var lookup string
	var isHeld bool
	_, err = pgx.ForEachRow(rows, []any{&lookup, &isHeld}, func() error {
		list, total := &open, &r.DecisionsTotal
		if isHeld {
			list, total = &done, &r.HeldTotal
		}
		*total++
		if len(*list) < groupsListed {
			*list = append(*list, lookup)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if r.Decisions, err = readMembers(ctx, tx, beyond, open, false); err != nil {
		return err
	}
	r.Held, err = readMembers(ctx, tx, beyond, done, true)
	return err
}

// readMembers reads the groups of the lookups, which are sorted.
func readMembers(ctx context.Context, tx pgx.Tx, beyond beyondASCII, lookups []string, held bool) ([]Group, error) {
	groups := []Group{}
	if len(lookups) == 0 {
		return groups, nil
	}
	holds := "false"
	if held {
		holds = "coalesce(email_lookup = lookup, false)"
	}
	rows, err := tx.Query(ctx, `
		SELECT lookup, id, email, created_at, last_login_at, is_active, is_verified, `+holds+`
		FROM `+withLookup+` WHERE lookup = ANY($3) ORDER BY lookup COLLATE "C", created_at, id`, beyond.ids, beyond.lookups, lookups)
	if err != nil {
		return nil, err
	}
	var lookup string
	var a Account
	var holder bool
	_, err = pgx.ForEachRow(rows, []any{&lookup, &a.ID, &a.Email, &a.CreatedAt, &a.LastLogin, &a.Active, &a.Verified, &holder}, func() error {
		if len(groups) == 0 || groups[len(groups)-1].Address != lookup {
			groups = append(groups, Group{Address: lookup, Holder: a.ID})
		}
		a.CreatedAt = a.CreatedAt.UTC()
		if a.LastLogin != nil {
			utc := a.LastLogin.UTC()
			a.LastLogin = &utc
		}
		g := &groups[len(groups)-1]
		g.Accounts = append(g.Accounts, a)
		if holder {
			g.Holder = a.ID
		}
		return nil
	})
	return groups, err
}

// Group returns the group that an account belongs to, and nil if it shares its address with no other account.
func (r *Report) Group(id uuid.UUID) *Group {
	for _, list := range [][]Group{r.Decisions, r.Held} {
		for i := range list {
			for _, a := range list[i].Accounts {
				if a.ID == id {
					return &list[i]
				}
			}
		}
	}
	return nil
}
