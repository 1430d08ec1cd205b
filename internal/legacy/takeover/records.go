package takeover

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// The tables in which programs record their migrations of an older backend's database.
const (
	goRecord   = "schema_migrations" // golang-migrate, of the Go backend
	rustRecord = "_sqlx_migrations"  // sqlx, of the Rust one
)

// readRecords reads which program has migrated the database. Only the table users decides, since a database that was
// made by hand has no record. A record of a migration that failed half-way stops the takeover.
func (s *schema) readRecords(ctx context.Context) error {
	if err := s.readGoRecord(ctx); err != nil {
		return fmt.Errorf("%s: %w", goRecord, err)
	}
	if err := s.readRustRecord(ctx); err != nil {
		return fmt.Errorf("%s: %w", rustRecord, err)
	}
	if len(s.report.Database.Records) == 0 && !s.report.Applied {
		s.report.warn(Finding{
			Code: "no_record", Text: "there is neither schema_migrations nor _sqlx_migrations: no older backend has migrated this database, so somebody made users by hand",
			Right: "nothing, if this is the older backend's database: check judges the columns one by one",
		})
	}
	return nil
}

// recordColumns returns the columns of a table with their types, or none if there is no such table, and whether the
// role may read it.
func (s *schema) recordColumns(ctx context.Context, table string) (columns []string, readable bool, err error) {
	err = s.tx.QueryRow(ctx, `
		SELECT coalesce(array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) ORDER BY a.attname), '{}'),
			coalesce(has_table_privilege(to_regclass($1), 'SELECT'), false)
		FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`, table).
		Scan(&columns, &readable)
	return columns, readable, err
}

func (s *schema) unreadable(table string) {
	role := s.report.Database.Role
	s.report.problem("no_select", fmt.Sprintf("role %q may not read %s", role, table), "GRANT SELECT ON "+table+" TO "+ident(role))
}

// otherRecord notes that another program has a table of that name. Latchkey does not touch it.
func (s *schema) otherRecord(table string, columns []string) {
	s.report.warn(Finding{
		Code: "other_record", Text: fmt.Sprintf("%s belongs to another program (%s)", table, strings.Join(columns, ", ")),
		Right: "nothing, if users is the older backend's: Latchkey does not touch the other table",
	})
}

func (s *schema) readGoRecord(ctx context.Context) error {
	columns, readable, err := s.recordColumns(ctx, goRecord)
	switch {
	case err != nil || len(columns) == 0:
		return err
	case !slices.Equal(columns, []string{"dirty boolean", "version bigint"}):
		s.otherRecord(goRecord, columns)
		return nil
	case !readable:
		s.unreadable(goRecord)
		return nil
	}
	rows, err := s.tx.Query(ctx, "SELECT version, dirty FROM schema_migrations ORDER BY version DESC LIMIT 3")
	if err != nil {
		return err
	}
	type version struct {
		Version int64
		Dirty   bool
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[version])
	if err != nil {
		return err
	}
	record := Record{Table: goRecord, Program: "golang-migrate"}
	const right = "schema_migrations with one row (version, false), as golang-migrate writes it"
	switch {
	case len(list) == 0:
		s.report.mendable("schema_migrations has 0 rows: the Go backend would make its tables again when it starts", right, "INSERT INTO schema_migrations VALUES (1, false)")
	case len(list) > 1:
		s.foreign(fmt.Sprintf("schema_migrations has more than one row (versions %d and %d)", list[0].Version, list[1].Version), right)
	case list[0].Dirty:
		s.foreign(fmt.Sprintf("schema_migrations is dirty at version %d: a migration of the Go backend has failed", list[0].Version), "the failed migration completed or undone, and dirty set to false, as golang-migrate's force does")
	case list[0].Version != 1:
		s.report.warn(Finding{
			Code: "other_version", Text: fmt.Sprintf("schema_migrations is at version %d: Latchkey knows the Go backend with version 1", list[0].Version),
			Right: "nothing: check judges the columns one by one, and they fit unless a problem says otherwise",
		})
	}
	if len(list) > 0 {
		record.Version = list[0].Version
	}
	s.report.Database.Records = append(s.report.Database.Records, record)
	return nil
}

func (s *schema) readRustRecord(ctx context.Context) error {
	columns, readable, err := s.recordColumns(ctx, rustRecord)
	switch {
	case err != nil || len(columns) == 0:
		return err
	case !slices.Contains(columns, "version bigint") || !slices.Contains(columns, "success boolean"):
		s.otherRecord(rustRecord, columns)
		return nil
	case !readable:
		s.unreadable(rustRecord)
		return nil
	}
	record := Record{Table: rustRecord, Program: "sqlx"}
	var failed []int64
	err = s.tx.QueryRow(ctx, `
		SELECT coalesce(max(version), 0), coalesce(array_agg(version ORDER BY version) FILTER (WHERE NOT success), '{}') FROM _sqlx_migrations`).
		Scan(&record.Version, &failed)
	if err != nil {
		return err
	}
	if len(failed) > 0 {
		s.report.mendable(fmt.Sprintf("_sqlx_migrations says that migration %d of the Rust backend has failed", failed[0]),
			"the failed migration completed or undone: look at users, then delete its record", "DELETE FROM _sqlx_migrations WHERE NOT success")
	}
	s.report.Database.Records = append(s.report.Database.Records, record)
	return nil
}
