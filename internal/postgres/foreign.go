package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// UserColumn is a column of users as the first migration makes it, and as that of the older backends does.
// Tables that were made by hand may differ a little: see Fits.
type UserColumn struct {
	Name, Type string // the type as format_type writes it
	Nullable   bool
	// NeedsDefault means that an INSERT leaves the column out. Default is the required default; "" allows any.
	NeedsDefault bool
	Default      string
}

// UserColumns returns the columns that every users table of Latchkey, and of the older backends, has.
func UserColumns() []UserColumn {
	return []UserColumn{
		{Name: "id", Type: "uuid", NeedsDefault: true},
		{Name: "email", Type: "character varying(255)"},
		{Name: "password_hash", Type: "text"},
		{Name: "first_name", Type: "character varying(100)"},
		{Name: "last_name", Type: "character varying(100)"},
		{Name: "created_at", Type: "timestamp with time zone"},
		{Name: "updated_at", Type: "timestamp with time zone"},
		{Name: "last_login_at", Type: "timestamp with time zone", Nullable: true},
		{Name: "is_active", Type: "boolean", NeedsDefault: true, Default: "true"},
		{Name: "is_verified", Type: "boolean", NeedsDefault: true, Default: "false"},
	}
}

// minHashLength is the shortest limit that a column for password hashes may have: the longest hash that
// Latchkey itself writes has under 200 characters.
const minHashLength = 255

// Fits reports whether a column of this type, as format_type writes it, can be used too: text or a longer limit instead
// of a text with a limit, and any precision of a time with time zone. Latchkey's values fit into it, and its values
// mean the same to Latchkey.
func (c UserColumn) Fits(found string) bool {
	const limited, unlimited = "character varying(%d)", "character varying"
	var limit, most int
	if c.Type == "text" {
		limit = minHashLength
	} else if _, err := fmt.Sscanf(c.Type, limited, &limit); err != nil {
		const precise = "timestamp(%d) with time zone"
		_, err := fmt.Sscanf(found, precise, &most)
		return found == c.Type || err == nil && c.Type == "timestamp with time zone" && found == fmt.Sprintf(precise, most)
	}
	if found == "text" || found == unlimited {
		return true
	}
	_, err := fmt.Sscanf(found, limited, &most)
	return err == nil && found == fmt.Sprintf(limited, most) && most >= limit
}

// ownTables returns names of tables of the migrations that other programs may use as well.
func ownTables() []string {
	return []string{"audit_events", "ledger_head", "one_time_secrets", "other_secrets", "password_resets", "replicas", "revocations", "signing_keys"}
}

// CheckForeign returns an *UnfitError if the database belongs to another program. That is so if it has a table users
// that neither Latchkey nor an older backend has made, or tables with the names of ours and no users, or migrations of
// another program in a table with the name of ours. It only reads.
func CheckForeign(ctx context.Context, conn *pgx.Conn) error {
	found, err := lookAt(ctx, conn)
	if err != nil {
		return fmt.Errorf("look whose database it is: %w", err)
	}
	wrong := found.wrong()
	if wrong == "" {
		return nil
	}
	text := fmt.Sprintf("database %q belongs to another program, and nothing was changed in it: %s. Set LATCHKEY_DATABASE_URL to a database of Latchkey's own", found.database, wrong)
	if found.touched {
		text += "; an earlier version has changed this one, and `latchkey migrate down`, run until nothing is left, takes that back"
	}
	return &UnfitError{text}
}

// surroundings are facts that show which program a database belongs to.
type surroundings struct {
	database, schema string
	users            string // the schema that the table is in, "" without one
	kind             string // pg_class.relkind
	columns          map[string]foundColumn
	tables           []string // of ownTables
	migrated         bool     // goose has applied something
	touched          bool     // by migrations of Latchkey
}

type foundColumn struct {
	Name    string
	Type    string
	NotNull bool
	Default bool // or generated, or an identity
}

func lookAt(ctx context.Context, conn *pgx.Conn) (*surroundings, error) {
	s := &surroundings{columns: map[string]foundColumn{}}
	var goose bool
	err := conn.QueryRow(ctx, `
		SELECT current_database(), coalesce(current_schema(), ''), coalesce(n.nspname, ''), coalesce(c.relkind::text, ''),
			ARRAY(SELECT name FROM unnest($1::text[]) AS name WHERE to_regclass(quote_ident(name)) IS NOT NULL ORDER BY name),
			EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('goose_db_version') AND attname = 'version_id'),
			to_regclass('users') IS NOT NULL AND EXISTS (SELECT FROM pg_proc WHERE proname LIKE 'latchkey\_%' AND pronamespace = n.oid)
		FROM (SELECT) AS one LEFT JOIN pg_class c ON c.oid = to_regclass('users') LEFT JOIN pg_namespace n ON n.oid = c.relnamespace`, ownTables()).
		Scan(&s.database, &s.schema, &s.users, &s.kind, &s.tables, &goose, &s.touched)
	if err != nil {
		return nil, err
	}
	if goose {
		// If a right is missing here, everything after this needs it too.
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM goose_db_version WHERE version_id > 0 AND is_applied)").Scan(&s.migrated); err != nil {
			return nil, err
		}
	}
	rows, err := conn.Query(ctx, `
		SELECT attname::text, format_type(atttypid, atttypmod), attnotnull, atthasdef OR attidentity <> ''
		FROM pg_attribute WHERE attrelid = to_regclass('users') AND attnum > 0 AND NOT attisdropped`)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[foundColumn])
	for _, c := range list {
		s.columns[c.Name] = c
	}
	return s, err
}

// wrong returns the sign that the database belongs to another program, or "" if there is none.
func (s *surroundings) wrong() string {
	switch {
	case s.users == "" && len(s.tables) > 0:
		return "it has a table " + s.tables[0] + " and no table users"
	case s.users == "" && s.migrated:
		return "its goose_db_version says that migrations were applied, and it has no table users"
	case s.users == "":
		return ""
	case s.kind != "r":
		return "its users is no ordinary table"
	case s.users != s.schema:
		return fmt.Sprintf("its table users is in schema %q, and new tables would be made in schema %q", s.users, s.schema)
	}
	known := UserColumns()
	for _, want := range known {
		got, ok := s.columns[want.Name]
		switch {
		case !ok:
			return "its table users has no column " + want.Name
		case !want.Fits(got.Type):
			return fmt.Sprintf("its column users.%s is %s, and Latchkey's is %s", want.Name, got.Type, want.Type)
		case got.NotNull == want.Nullable:
			return fmt.Sprintf("its column users.%s is NOT NULL or may be NULL where Latchkey's is not so", want.Name)
		case want.NeedsDefault && !got.Default:
			return fmt.Sprintf("its column users.%s has no default", want.Name)
		}
	}
	for name, got := range s.columns {
		if got.NotNull && !got.Default && !slices.ContainsFunc(known, func(c UserColumn) bool { return c.Name == name }) {
			return fmt.Sprintf("its column users.%s is NOT NULL without a default: Latchkey could not add accounts", name)
		}
	}
	return ""
}

// stopPatience is how long the connection of a stopped replica may still be visible.
const stopPatience = time.Second

// CheckTakeBack is CheckForeign for `migrate down`, which also removes Latchkey's tables from another program's
// database. It also returns an error while a replica is connected: the replica needs the tables.
func CheckTakeBack(ctx context.Context, conn *pgx.Conn) error {
	found, err := lookAt(ctx, conn)
	if err != nil {
		return fmt.Errorf("look whose database it is: %w", err)
	}
	if found.wrong() != "" && !found.touched {
		return CheckForeign(ctx, conn)
	}
	// PostgreSQL notices a stopped replica a moment later.
	for began := time.Now(); ; time.Sleep(lockPoll) { //nolint:forbidigo // a pause between two steps, by the machine's clock
		var connected []string
		err = conn.QueryRow(ctx, `
			SELECT ARRAY(SELECT DISTINCT coalesce(host(client_addr), 'this machine') || ' (process ' || pid || ')' FROM pg_stat_activity
				WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name IN ('latchkey', 'latchkey ledger', 'latchkey listen'))`).
			Scan(&connected)
		if err != nil {
			return fmt.Errorf("look for running replicas: %w", err)
		}
		if len(connected) == 0 {
			return nil
		}
		if time.Since(began) > stopPatience {
			return errors.New("replicas of Latchkey are running on this database: stop them first. PostgreSQL sees connections from " + strings.Join(connected, ", "))
		}
	}
}

// TakeBackUsers removes the objects that the first migration made and that its own down step leaves: the table users if
// it is empty, and the indexes and the trigger that older backends have as well. It also removes the remains of an
// interrupted second migration. Everything that existed before the migrations stays. kept is true if Latchkey made the
// table and it stays because it holds accounts.
//
// The transaction that recorded the first migration also made its tables, so they have its xmin. After a dump and a
// restore nothing has that xmin, and everything stays.
func TakeBackUsers(ctx context.Context, conn *pgx.Conn) (kept bool, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		var statements []string
		var made, accounts bool
		var function string
		if err := tx.QueryRow(ctx, madeByFirst).Scan(&statements, &made, &function); err != nil {
			return err
		}
		for _, statement := range statements {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		if !made {
			return nil
		}
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM users)").Scan(&accounts); err != nil {
			return err
		}
		if kept = accounts; kept {
			return nil
		}
		_, err := tx.Exec(ctx, "DROP TABLE users")
		if err == nil && function != "" {
			_, err = tx.Exec(ctx, "DROP FUNCTION "+function)
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("take back what the first migration made: %w", err)
	}
	return kept, nil
}

// madeByFirst returns the statements to run, and whether the first migration made the table itself. The
// table's trigger and indexes are dropped with it, or stay if it stays.
const madeByFirst = `
WITH first AS (
    SELECT xmin::text AS made FROM goose_db_version WHERE version_id = 1 AND is_applied ORDER BY id DESC LIMIT 1
), users AS (
    SELECT to_regclass('users')::oid AS id,
        EXISTS (SELECT FROM pg_attribute, first WHERE attrelid = to_regclass('users') AND attname = 'id' AND pg_attribute.xmin::text = first.made) AS made
), half AS (
    SELECT to_regprocedure('latchkey_email_lookup(text)') IS NOT NULL AS done
), function AS (
    SELECT p.oid::regprocedure::text AS text FROM pg_proc p, users, first
    WHERE p.oid = to_regprocedure('update_updated_at_column()') AND p.xmin::text = first.made
        AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = p.oid AND NOT (tgrelid = users.id AND tgname = 'update_users_updated_at'))
), list AS (
    SELECT 1 AS place, format('DROP TRIGGER %I ON users', tgname) AS text FROM pg_trigger, users, half
    WHERE half.done AND tgrelid = users.id AND tgname IN ('zz_latchkey_keep_updated_at', 'latchkey_email_lookup_update', 'latchkey_email_lookup_insert')
    UNION ALL
    SELECT 2, 'DROP FUNCTION ' || p.oid::regprocedure FROM pg_proc p, half
    WHERE half.done AND p.oid IN (to_regprocedure('latchkey_keep_updated_at()'), to_regprocedure('latchkey_fill_email_lookup()'), to_regprocedure('latchkey_email_lookup(text)'))
    UNION ALL
    SELECT 3, 'ALTER TABLE users DROP COLUMN email_lookup' FROM pg_attribute, users, half
    WHERE half.done AND attrelid = users.id AND attname = 'email_lookup' AND NOT attisdropped
    UNION ALL
    SELECT 4, 'DROP TRIGGER update_users_updated_at ON users' FROM pg_trigger t, users, first
    WHERE NOT users.made AND tgrelid = users.id AND tgname = 'update_users_updated_at' AND t.xmin::text = first.made
    UNION ALL
    SELECT 5, 'DROP FUNCTION ' || text FROM function, users WHERE NOT users.made
    UNION ALL
    SELECT 6, format('DROP INDEX %I', c.relname) FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid, users, first
    WHERE NOT users.made AND i.indrelid = users.id AND c.relname IN ('idx_users_email', 'idx_users_created_at') AND c.xmin::text = first.made
)
SELECT coalesce((SELECT array_agg(text ORDER BY place) FROM list), '{}'), users.made, coalesce((SELECT text FROM function), '') FROM users`
