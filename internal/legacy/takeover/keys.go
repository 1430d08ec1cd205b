package takeover

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/postgres"
)

// uniqueKey is a unique index on users with plain columns and without a condition.
type uniqueKey struct {
	Primary bool
	Columns []string
	// Alike means that a new account gets the same value in all columns as another one.
	Alike bool
}

// readKeys reads the keys of users, looks for constraints and triggers of the table's own, and for missing indexes that
// the first migration makes.
func (s *schema) readKeys(ctx context.Context) error {
	rows, err := s.tx.Query(ctx, `
		SELECT i.indisprimary, array_agg(a.attname::text ORDER BY a.attnum),
			bool_and(d.adbin IS NOT NULL AND a.attgenerated = '' AND pg_get_expr(d.adbin, d.adrelid) NOT LIKE '%(%')
		FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])
		LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		WHERE i.indrelid = $1 AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid AND i.indimmediate
		GROUP BY i.indexrelid, i.indisprimary`, s.users.OID)
	if err != nil {
		return err
	}
	keys, err := pgx.CollectRows(rows, pgx.RowToStructByPos[uniqueKey])
	if err != nil {
		return err
	}
	s.judgeUnique(keys)
	var triggers, checks, indexes []string
	err = s.tx.QueryRow(ctx, `
		SELECT (SELECT coalesce(array_agg(tgname::text ORDER BY tgname), '{}') FROM pg_trigger
				WHERE tgrelid = $1 AND NOT tgisinternal AND tgname <> 'update_users_updated_at' AND tgname NOT LIKE '%latchkey\_%'),
			(SELECT coalesce(array_agg(conname || ' ' || pg_get_constraintdef(oid) ORDER BY conname), '{}') FROM pg_constraint
				WHERE conrelid = $1 AND contype IN ('c', 'x')),
			(SELECT coalesce(array_agg(c.relname::text), '{}') FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = $1)`,
		s.users.OID).Scan(&triggers, &checks, &indexes)
	if err != nil {
		return err
	}
	if len(triggers) > 0 {
		s.report.warn(Finding{Code: "other_triggers", Count: int64(len(triggers)), Text: "users has triggers that neither the older backends nor Latchkey made, and filling the new column may fire them for every account: " + strings.Join(triggers, ", "), Right: "triggers that may fire once for each account"})
	}
	if len(checks) > 0 {
		s.report.warn(Finding{Code: "other_constraints", Count: int64(len(checks)), Text: "users has constraints that the older backends do not have, and Latchkey cannot add or change accounts that they refuse: " + strings.Join(checks, ", "), Right: "constraints that allow every account that people may create"})
	}
	for _, name := range []string{"idx_users_email", "idx_users_created_at"} {
		if !slices.Contains(indexes, name) {
			s.missing = append(s.missing, name)
		}
	}
	return nil
}

// judgeUnique looks for the keys that identify an account, and for keys that would prevent a second account from being
// added.
func (s *schema) judgeUnique(keys []uniqueKey) {
	on := func(column string) bool {
		return slices.ContainsFunc(keys, func(k uniqueKey) bool { return len(k.Columns) == 1 && k.Columns[0] == column })
	}
	if !on("id") {
		add := "ADD PRIMARY KEY (id)"
		if slices.ContainsFunc(keys, func(k uniqueKey) bool { return k.Primary }) {
			add = "ADD UNIQUE (id)"
		}
		s.report.mendable("users has no primary key (id)", "PRIMARY KEY (id), or UNIQUE (id)", "ALTER TABLE users "+add)
	}
	if !on("email") {
		s.report.mendable("users.email is not unique", "UNIQUE (email): first merge accounts that have exactly the same address",
			"CREATE UNIQUE INDEX CONCURRENTLY users_email_key ON users (email)")
	}
	known := postgres.UserColumns()
	for _, key := range keys {
		extra := !slices.ContainsFunc(key.Columns, func(name string) bool {
			return name == lookupColumn || slices.ContainsFunc(known, func(c postgres.UserColumn) bool { return c.Name == name })
		})
		if extra && key.Alike {
			name := key.Columns[0]
			s.report.mendable(fmt.Sprintf("users.%s is unique and has one default for all accounts: Latchkey sets no value there, so it could add only one account", name),
				"a column that may be NULL, without a default", alterColumn(name, "DROP DEFAULT", "DROP NOT NULL"))
		}
	}
}

// fewAccounts is a number of accounts that are indexed in a moment.
const fewAccounts = 20_000

// judgeIndexes warns of indexes that apply would build while writers wait.
func (r *Report) judgeIndexes(missing []string) {
	if r.Applied || r.Database.Accounts.Total < fewAccounts || !slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Lock == "SHARE" }) {
		return
	}
	for _, name := range missing {
		r.warn(Finding{
			Code: "index_keeps_writers_waiting", Count: r.Database.Accounts.Total,
			Text:  fmt.Sprintf("users has no index %s: apply builds it, and all who write wait meanwhile, for about %s", name, seconds(r.Database.Accounts.Total)),
			Right: "build it before, while others work",
			SQL:   fmt.Sprintf("CREATE INDEX CONCURRENTLY %s ON users (%s)", name, strings.TrimPrefix(name, "idx_users_")),
		})
	}
}

func seconds(rows int64) string {
	return fmt.Sprintf("%.1f seconds", briefly+float64(rows)/indexPerSecond)
}
