package takeover

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

const (
	// lookupSQL is what latchkey_email_lookup(email) computes, where it is not there yet.
	lookupSQL = "normalize(lower(normalize(email, NFC)), NFC)"
	// groupsListed of each kind are listed in full.
	groupsListed = 1000
)

// readGroups finds the accounts whose addresses differ only in case or Unicode form.
func (r *Report) readGroups(ctx context.Context, tx pgx.Tx, hasLookup bool) error {
	held := "false"
	if hasLookup {
		held = "coalesce(bool_or(email_lookup = lookup), false)"
	}
	rows, err := tx.Query(ctx, `
		SELECT lookup, `+held+` FROM (SELECT u.*, `+lookupSQL+` AS lookup FROM users u) AS with_lookup
		GROUP BY lookup HAVING count(*) > 1 ORDER BY lookup COLLATE "C"`)
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
	if r.Decisions, err = readMembers(ctx, tx, open, false); err != nil {
		return err
	}
	r.Held, err = readMembers(ctx, tx, done, true)
	return err
}

// readMembers reads the groups of the lookups, which are in order.
func readMembers(ctx context.Context, tx pgx.Tx, lookups []string, held bool) ([]Group, error) {
	groups := []Group{}
	if len(lookups) == 0 {
		return groups, nil
	}
	holds := "false"
	if held {
		holds = "coalesce(email_lookup = " + lookupSQL + ", false)"
	}
	rows, err := tx.Query(ctx, `
		SELECT `+lookupSQL+` AS lookup, id, email, created_at, last_login_at, is_active, is_verified, `+holds+`
		FROM users WHERE `+lookupSQL+` = ANY($1) ORDER BY `+lookupSQL+` COLLATE "C", created_at, id`, lookups)
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

// Group returns the group that an account belongs to; nil when it shares its address
// with nobody.
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
