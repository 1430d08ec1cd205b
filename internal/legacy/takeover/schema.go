package takeover

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/postgres"
)

// minVersion is PostgreSQL 14, as for the service.
const minVersion = 140000

// schema reads the catalog. What it finds wrong goes into the report.
type schema struct {
	tx        pgx.Tx
	report    *Report
	plans     []*plan
	clientPID uint32 // what the server said of itself when it was connected to

	users     relation
	hasLookup bool
}

// relation is users.
type relation struct {
	OID         uint32
	Schema      string
	Kind        string
	Owner       string
	Owned       bool // the role may do what only owners may
	Readable    bool
	RowSecurity bool
	Unlogged    bool
	Inherits    bool
	Rules       bool
	TotalBytes  int64
}

// read says whether users can be read on.
func (s *schema) read(ctx context.Context) (bool, error) {
	creatable, err := s.readServer(ctx)
	if err != nil {
		return false, fmt.Errorf("read the server's settings: %w", err)
	}
	found, err := s.readUsers(ctx)
	if err != nil || !found {
		return false, err
	}
	readable, err := s.readColumns(ctx)
	if err != nil {
		return false, fmt.Errorf("read the columns of users: %w", err)
	}
	if err := s.readKeys(ctx); err != nil {
		return false, fmt.Errorf("read the keys of users: %w", err)
	}
	if err := s.readOldVersion(ctx); err != nil {
		return false, fmt.Errorf("read schema_migrations: %w", err)
	}
	if err := s.readOurs(ctx); err != nil {
		return false, err
	}
	if !s.report.Applied {
		s.judgeRights(creatable)
	}
	if !s.users.Readable {
		s.report.problem("no_select", fmt.Sprintf("role %q may not read users", s.report.Database.Role), fmt.Sprintf("GRANT SELECT ON %s.users TO %s", ident(s.users.Schema), ident(s.report.Database.Role)))
	}
	return readable && s.users.Readable, nil
}

func (s *schema) readServer(ctx context.Context) (creatable bool, err error) {
	d := &Database{}
	var encoding string
	var standby bool
	var pid uint32
	err = s.tx.QueryRow(ctx, `
		SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), pg_is_in_recovery(),
			current_database(), current_user, coalesce(current_schema(), ''),
			coalesce(has_schema_privilege(current_schema(), 'CREATE'), false), pg_backend_pid()`).
		Scan(&d.Version, &encoding, &standby, &d.Name, &d.Role, &d.Schema, &creatable, &pid)
	if err != nil {
		return false, err
	}
	s.report.Database = d
	if d.Version < minVersion {
		s.report.problem("old_server", fmt.Sprintf("the server's version is %d", d.Version), fmt.Sprintf("PostgreSQL 14 (%d) or later", minVersion))
	}
	if encoding != "UTF8" {
		s.report.problem("encoding", "the database's encoding is "+encoding, "UTF8")
	}
	if standby {
		s.report.problem("standby", "the server is a standby, which takes no changes", "the primary's address in LATCHKEY_DATABASE_URL, or all hosts and target_session_attrs=read-write")
	}
	// A pooler makes up the process id that it tells its clients.
	if pid != s.clientPID {
		s.report.problem("pooler", "a pooler (pgbouncer, say) is between Latchkey and the server: locks and settings of a session would end up with others", "the server's own address in LATCHKEY_DATABASE_URL")
	}
	return creatable, nil
}

// readUsers says whether there is a table to go on with.
func (s *schema) readUsers(ctx context.Context) (bool, error) {
	u := &s.users
	err := s.tx.QueryRow(ctx, `
		SELECT c.oid, n.nspname, c.relkind::text, pg_get_userbyid(c.relowner), pg_has_role(c.relowner, 'USAGE'),
			has_table_privilege(c.oid, 'SELECT'), c.relrowsecurity, c.relpersistence = 'u',
			EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid OR inhrelid = c.oid),
			EXISTS (SELECT FROM pg_rewrite WHERE ev_class = c.oid),
			CASE WHEN c.relkind = 'r' THEN pg_total_relation_size(c.oid) ELSE 0 END
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.oid = to_regclass('users')`).
		Scan(&u.OID, &u.Schema, &u.Kind, &u.Owner, &u.Owned, &u.Readable, &u.RowSecurity, &u.Unlogged, &u.Inherits, &u.Rules, &u.TotalBytes)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, s.explainNoUsers(ctx)
	}
	if err != nil {
		return false, fmt.Errorf("look for users: %w", err)
	}
	d := s.report.Database
	d.TableBytes = u.TotalBytes
	if kinds := map[string]string{"v": "a view", "m": "a materialized view", "p": "a partitioned table", "f": "a foreign table"}; kinds[u.Kind] != "" {
		s.foreign("users is "+kinds[u.Kind], "an ordinary table: it is not the old backends' schema")
		return false, nil
	}
	if u.Schema != d.Schema {
		s.foreign(fmt.Sprintf("users is in schema %q, and new tables would be made in schema %q", u.Schema, d.Schema), fmt.Sprintf("search_path=%s in LATCHKEY_DATABASE_URL", u.Schema))
	}
	if u.RowSecurity {
		s.foreign("users has row level security: policies could hide rows and refuse changes", "ALTER TABLE users DISABLE ROW LEVEL SECURITY")
	}
	if u.Unlogged {
		s.foreign("users is unlogged: a crash empties it", "ALTER TABLE users SET LOGGED")
	}
	if u.Inherits {
		s.foreign("users inherits, or is inherited from", "a table of its own")
	}
	if u.Rules {
		s.foreign("users has rules, which rewrite statements", "no rules on users")
	}
	return true, nil
}

// explainNoUsers tells an empty database from a wrong one.
func (s *schema) explainNoUsers(ctx context.Context) error {
	var tables int64
	var elsewhere []string
	err := s.tx.QueryRow(ctx, `
		SELECT count(*), coalesce(array_agg(n.nspname::text ORDER BY n.nspname) FILTER (WHERE c.relname = 'users'), '{}')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')`).
		Scan(&tables, &elsewhere)
	if err != nil {
		return err
	}
	d := s.report.Database
	switch {
	case len(elsewhere) > 0:
		s.foreign("there is no table users on the search path; there is one in schema "+strings.Join(elsewhere, ", "), fmt.Sprintf("search_path=%s in LATCHKEY_DATABASE_URL", elsewhere[0]))
	case tables == 0:
		s.report.problem("empty_database", fmt.Sprintf("database %q is empty: there is nothing to take over", d.Name), "the old backend's database in LATCHKEY_DATABASE_URL; a new service needs no takeover")
	default:
		s.foreign(fmt.Sprintf("database %q has %d tables and no users", d.Name, tables), "the old backend's database in LATCHKEY_DATABASE_URL")
	}
	return nil
}

// foundColumn is one of users as it is.
type foundColumn struct {
	Name          string
	Type          string
	NotNull       bool
	Default       string
	Deterministic bool
	Generated     bool
}

func (s *schema) readColumns(ctx context.Context) (readable bool, err error) {
	rows, err := s.tx.Query(ctx, `
		SELECT a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, coalesce(pg_get_expr(d.adbin, d.adrelid), ''),
			coalesce(c.collisdeterministic, true), a.attgenerated <> '' OR a.attidentity <> ''
		FROM pg_attribute a
		LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
		LEFT JOIN pg_collation c ON c.oid = a.attcollation
		WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, s.users.OID)
	if err != nil {
		return false, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[foundColumn])
	if err != nil {
		return false, err
	}
	found := map[string]foundColumn{}
	for _, c := range list {
		found[c.Name] = c
	}
	readable = true
	for _, want := range postgres.UserColumns() {
		readable = s.judgeColumn(want, found) && readable
		delete(found, want.Name)
	}
	for _, c := range list {
		if _, extra := found[c.Name]; extra {
			s.judgeExtra(c)
		}
	}
	return readable, nil
}

// judgeColumn says whether the column can be read as what it should be.
func (s *schema) judgeColumn(want postgres.UserColumn, found map[string]foundColumn) bool {
	name := "users." + want.Name
	got, ok := found[want.Name]
	if !ok {
		s.foreign(name+" is missing", name+" "+want.Type)
		return false
	}
	if got.Type != want.Type {
		s.foreign(fmt.Sprintf("%s is %s", name, got.Type), want.Type)
	}
	if got.NotNull == want.Nullable {
		if want.Nullable {
			s.foreign(name+" is NOT NULL", "a column that may be NULL")
		} else {
			s.foreign(name+" may be NULL", "NOT NULL")
		}
	}
	switch {
	case got.Generated:
		s.foreign(name+" is generated", "a plain column")
	case want.NeedsDefault && got.Default == "":
		s.foreign(name+" has no default", "the default of the old backends' first migration")
	case want.Default != "" && got.Default != want.Default:
		s.foreign(fmt.Sprintf("%s has the default %s", name, got.Default), want.Default)
	}
	if !got.Deterministic {
		s.foreign(name+" has a nondeterministic collation: addresses that differ would count as one", "the database's own collation")
	}
	return got.Type == want.Type && got.NotNull != want.Nullable
}

func (s *schema) judgeExtra(c foundColumn) {
	name := "users." + c.Name
	ours, pending := s.addsColumn(c.Name)
	switch {
	case pending:
		s.foreign(name+" ("+c.Type+") is there already and is not Latchkey's", "another name for that column")
	case c.Name == lookupColumn:
		s.hasLookup = c.Type == "text" && !c.NotNull && !c.Generated
		if !s.hasLookup {
			s.foreign(fmt.Sprintf("%s is there already and is not Latchkey's (%s, NOT NULL %v)", name, c.Type, c.NotNull), "text that may be NULL, or another name for that column")
		}
	case ours:
	case c.NotNull && c.Default == "" && !c.Generated:
		s.foreign(name+" is NOT NULL without a default: Latchkey could not add accounts", "a default, or no such column")
	default:
		s.report.warn(Finding{Code: "extra_column", Text: name + " (" + c.Type + ") is not the old backends': Latchkey leaves it alone"})
	}
}

// readKeys looks for the primary key, for the uniqueness of addresses, and for
// triggers that the fill of the new column would fire.
func (s *schema) readKeys(ctx context.Context) error {
	var primary, unique bool
	var triggers []string
	err := s.tx.QueryRow(ctx, `
		WITH keys AS (
			SELECT i.indisprimary, i.indnkeyatts = 1 AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid AND i.indimmediate AS plain,
				(SELECT attname FROM pg_attribute WHERE attrelid = i.indrelid AND attnum = i.indkey[0]) AS first
			FROM pg_index i WHERE i.indrelid = $1 AND i.indisunique
		)
		SELECT EXISTS (SELECT FROM keys WHERE plain AND indisprimary AND first = 'id'), EXISTS (SELECT FROM keys WHERE plain AND first = 'email'),
			(SELECT coalesce(array_agg(tgname::text ORDER BY tgname), '{}') FROM pg_trigger
			WHERE tgrelid = $1 AND NOT tgisinternal AND tgname <> 'update_users_updated_at' AND tgname NOT LIKE '%latchkey\_%')`, s.users.OID).
		Scan(&primary, &unique, &triggers)
	if err != nil {
		return err
	}
	if !primary {
		s.foreign("users has no primary key (id)", "PRIMARY KEY (id)")
	}
	if !unique {
		s.foreign("users.email is not unique", "UNIQUE (email)")
	}
	if len(triggers) > 0 {
		s.report.warn(Finding{Code: "other_triggers", Count: int64(len(triggers)), Text: "users has triggers that neither the old backends nor Latchkey made, and filling the new column may fire them for every account: " + strings.Join(triggers, ", "), Right: "know what they do"})
	}
	return nil
}

// readOldVersion reads the record of golang-migrate.
func (s *schema) readOldVersion(ctx context.Context) error {
	const right = "schema_migrations(version bigint, dirty boolean) with the one row (1, false), as the old backends have it"
	var columns []string
	var readable bool
	err := s.tx.QueryRow(ctx, `
		SELECT coalesce(array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) ORDER BY a.attname), '{}'),
			coalesce(has_table_privilege(to_regclass('schema_migrations'), 'SELECT'), false)
		FROM pg_attribute a WHERE a.attrelid = to_regclass('schema_migrations') AND a.attnum > 0 AND NOT a.attisdropped`).
		Scan(&columns, &readable)
	switch {
	case err != nil:
		return err
	case len(columns) == 0:
		s.foreign("there is no schema_migrations: no old backend has used this database", right)
		return nil
	case strings.Join(columns, ", ") != "dirty boolean, version bigint":
		s.foreign("schema_migrations is another program's ("+strings.Join(columns, ", ")+")", right)
		return nil
	case !readable:
		s.report.problem("no_select", fmt.Sprintf("role %q may not read schema_migrations", s.report.Database.Role), "GRANT SELECT ON schema_migrations TO "+ident(s.report.Database.Role))
		return nil
	}
	rows, err := s.tx.Query(ctx, "SELECT version, dirty FROM schema_migrations ORDER BY version LIMIT 3")
	if err != nil {
		return err
	}
	type version struct {
		Version int64
		Dirty   bool
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[version])
	switch {
	case err != nil:
		return err
	case len(list) != 1:
		s.foreign(fmt.Sprintf("schema_migrations has %d rows", len(list)), right)
	case list[0].Dirty:
		s.foreign(fmt.Sprintf("schema_migrations is dirty at version %d: a migration of the old backend has failed", list[0].Version), right)
	case list[0].Version != 1:
		s.foreign(fmt.Sprintf("schema_migrations is at version %d", list[0].Version), right)
	}
	return nil
}

// judgeRights names what the role lacks for apply.
func (s *schema) judgeRights(creatable bool) {
	d := s.report.Database
	if !s.users.Owned {
		s.report.problem("not_owner", fmt.Sprintf("users belongs to role %q, and role %q cannot alter it", s.users.Owner, d.Role),
			fmt.Sprintf("GRANT %s TO %s, or ALTER TABLE users OWNER TO %s, or the owner's name in LATCHKEY_DATABASE_URL", ident(s.users.Owner), ident(d.Role), ident(d.Role)))
	}
	if !creatable {
		s.report.problem("no_create", fmt.Sprintf("role %q may not create tables in schema %q", d.Role, d.Schema),
			fmt.Sprintf("GRANT CREATE, USAGE ON SCHEMA %s TO %s", ident(d.Schema), ident(d.Role)))
	}
}

func (s *schema) foreign(text, right string) { s.report.problem("foreign_schema", text, right) }

func ident(name string) string { return pgx.Identifier{name}.Sanitize() }
