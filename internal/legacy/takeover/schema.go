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

// schema reads the catalog. It adds the faults that it finds to the report.
type schema struct {
	tx        pgx.Tx
	report    *Report
	plans     []*plan
	clientPID uint32 // the process id that the server reported when the connection was made

	users     relation
	hasLookup bool
	missing   []string // indexes that the first migration makes
}

// relation is the table users.
type relation struct {
	OID         uint32
	Schema      string
	Kind        string
	Owner       string
	Owned       bool // the role has the rights of an owner
	Readable    bool
	RowSecurity bool
	Unlogged    bool
	Inherits    bool
	Rules       bool
	TotalBytes  int64
}

// read reports whether the accounts in users can be read.
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
	if err := s.readOurs(ctx); err != nil {
		return false, err
	}
	if err := s.readRecords(ctx); err != nil {
		return false, fmt.Errorf("read the records of migrations: %w", err)
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
	d := &Database{Records: []Record{}}
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
		s.report.problem("standby", "the server is a standby, which cannot be changed", "the primary's address in LATCHKEY_DATABASE_URL, or all hosts and target_session_attrs=read-write")
	}
	// A pooler invents the process id that it reports to its clients.
	if pid != s.clientPID {
		s.report.problem("pooler", "a pooler (such as pgbouncer) is between Latchkey and the server: other clients would get the locks and settings of Latchkey's session", "the server's own address in LATCHKEY_DATABASE_URL")
	}
	return creatable, nil
}

// readUsers reports whether there is a usable table.
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
		s.foreign("users is "+kinds[u.Kind], "an ordinary table: this is not the older backends' schema")
		return false, nil
	}
	if u.Schema != d.Schema {
		s.foreign(fmt.Sprintf("users is in schema %q, and new tables would be made in schema %q", u.Schema, d.Schema), fmt.Sprintf("search_path=%s in LATCHKEY_DATABASE_URL", u.Schema))
	}
	if u.RowSecurity {
		s.report.mendable("users has row level security: policies could hide rows and refuse changes", "no row level security", "ALTER TABLE users DISABLE ROW LEVEL SECURITY")
	}
	if u.Unlogged {
		s.report.mendable("users is unlogged: a crash empties it", "a logged table", "ALTER TABLE users SET LOGGED")
	}
	if u.Inherits {
		s.foreign("users inherits from a table, or a table inherits from it", "a table without inheritance")
	}
	if u.Rules {
		s.foreign("users has rules, which rewrite statements", "no rules on users")
	}
	return true, nil
}

// tablesNamed is how many tables of a database without users are listed.
const tablesNamed = 20

// explainNoUsers reports whether the database is empty or a wrong one.
func (s *schema) explainNoUsers(ctx context.Context) error {
	d := s.report.Database
	var elsewhere []string
	err := s.tx.QueryRow(ctx, `
		WITH found AS (
			SELECT n.nspname::text AS schema, c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
			WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
		)
		SELECT count(*), coalesce(array_agg(schema ORDER BY schema) FILTER (WHERE name = 'users'), '{}'),
			ARRAY(SELECT CASE WHEN schema = current_schema() THEN name ELSE schema || '.' || name END FROM found ORDER BY schema, name LIMIT $1)
		FROM found`, tablesNamed).Scan(&d.TablesTotal, &elsewhere, &d.Tables)
	if err != nil {
		return err
	}
	switch {
	case len(elsewhere) > 0:
		s.foreign("there is no table users on the search path; there is one in schema "+strings.Join(elsewhere, ", "), fmt.Sprintf("search_path=%s in LATCHKEY_DATABASE_URL", elsewhere[0]))
	case d.TablesTotal == 0:
		s.report.problem("empty_database", fmt.Sprintf("database %q is empty: there is nothing to take over", d.Name), "the older backend's database in LATCHKEY_DATABASE_URL; a new service needs no takeover")
	default:
		s.foreign(fmt.Sprintf("database %q has %d tables, but no table users", d.Name, d.TablesTotal), "the older backend's database in LATCHKEY_DATABASE_URL")
	}
	return nil
}

// foundColumn is a column of users in its present state.
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

// judgeColumn reports whether the column can be read as the wanted one.
func (s *schema) judgeColumn(want postgres.UserColumn, found map[string]foundColumn) bool {
	name := "users." + want.Name
	got, ok := found[want.Name]
	if !ok {
		s.report.mendable(name+" is missing", name+" "+want.Type+nullness(want), mendMissing(want))
		return false
	}
	fits := want.Fits(got.Type)
	if !fits {
		right, sql := mendType(want, got)
		s.report.mendable(fmt.Sprintf("%s is %s", name, got.Type), right, sql)
	}
	switch {
	case want.Nullable && got.NotNull:
		s.report.mendable(name+" is NOT NULL", "a column that may be NULL", alterColumn(want.Name, "DROP NOT NULL"))
	case !want.Nullable && !got.NotNull:
		s.report.mendable(name+" may be NULL", "NOT NULL", mendNull(want, got))
	}
	switch {
	case got.Generated:
		s.foreign(name+" is generated", "a plain column")
	case want.NeedsDefault && got.Default == "":
		s.report.mendable(name+" has no default", "the default "+defaultOf(want), alterColumn(want.Name, "SET DEFAULT "+defaultOf(want)))
	case want.Default != "" && got.Default != want.Default:
		s.report.mendable(fmt.Sprintf("%s has the default %s", name, got.Default), "the default "+want.Default, alterColumn(want.Name, "SET DEFAULT "+want.Default))
	}
	if !got.Deterministic {
		s.report.mendable(name+" has a nondeterministic collation: different addresses would count as one", "the database's own collation",
			alterColumn(want.Name, "TYPE "+got.Type+` COLLATE pg_catalog."default"`))
	}
	return fits && (want.Nullable || got.NotNull)
}

func (s *schema) judgeExtra(c foundColumn) {
	name := "users." + c.Name
	ours, pending := s.addsColumn(c.Name)
	switch {
	case pending:
		s.foreign(name+" ("+c.Type+") exists already and is not Latchkey's", "another name for that column")
	case c.Name == lookupColumn:
		s.hasLookup = c.Type == "text" && !c.NotNull && !c.Generated
		if !s.hasLookup {
			s.foreign(fmt.Sprintf("%s exists already and is not Latchkey's (%s, NOT NULL %v)", name, c.Type, c.NotNull), "text that may be NULL, or another name for that column")
		}
	case ours:
	case c.NotNull && c.Default == "" && !c.Generated:
		s.report.mendable(name+" is NOT NULL without a default: Latchkey could not add accounts", "a default, or a column that may be NULL", alterColumn(c.Name, "DROP NOT NULL"))
	default:
		s.report.warn(Finding{Code: "extra_column", Text: name + " (" + c.Type + ") is not a column of the older backends: Latchkey does not touch it"})
	}
}

// judgeRights names the rights that the role lacks for apply.
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
