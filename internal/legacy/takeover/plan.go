package takeover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	usersMigration  = 1 // makes the schema of the older backends, so its objects do not show another program
	lookupMigration = 2 // runs outside a transaction: some of its objects may exist
	lookupColumn    = "email_lookup"
	lookupIndex     = "users_email_lookup_key"
)

// plan is what is known of one migration from its text.
type plan struct {
	version int64
	file    string
	applied bool
	notes   []note // on its locks; none: it takes none on users
	made    []object
}

// object is something that a migration makes.
type object struct {
	kind   string // table, index, function or column (of users)
	name   string
	rerun  bool // IF NOT EXISTS or OR REPLACE
	source int64
}

// readPlans reads the objects that the migrations make from their text, so that no second list is needed.
func readPlans(dir fs.FS) ([]*plan, error) {
	files, err := fs.Glob(dir, "*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	var plans []*plan
	for _, file := range files {
		text, err := fs.ReadFile(dir, file)
		if err != nil {
			return nil, err
		}
		number, _, _ := strings.Cut(file, "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s has no number: %w", file, err)
		}
		p := &plan{version: version, file: file}
		if p.notes, err = readNotes(string(text)); err != nil {
			return nil, fmt.Errorf("migration %s: %w", file, err)
		}
		p.parse(string(text))
		plans = append(plans, p)
	}
	return plans, nil
}

func (p *plan) parse(text string) {
	_, up, _ := strings.Cut(text, "-- +goose Up")
	up, _, _ = strings.Cut(up, "-- +goose Down")
	up = regexp.MustCompile(`(?m)--.*$`).ReplaceAllString(up, "")
	name := regexp.MustCompile(`(?i)\bCREATE (OR REPLACE )?(?:UNIQUE )?(TABLE|INDEX|FUNCTION)\s+(?:CONCURRENTLY )?(IF NOT EXISTS )?(\w+)`)
	for _, m := range name.FindAllStringSubmatch(up, -1) {
		p.made = append(p.made, object{strings.ToLower(m[2]), m[4], m[1] != "" || m[3] != "", p.version})
	}
	alter := regexp.MustCompile(`(?is)\bALTER TABLE users\s.*?;`)
	column := regexp.MustCompile(`(?i)\bADD COLUMN (IF NOT EXISTS )?(\w+)`)
	for _, statement := range alter.FindAllString(up, -1) {
		for _, m := range column.FindAllStringSubmatch(statement, -1) {
			p.made = append(p.made, object{"column", m[2], m[1] != "", p.version})
		}
	}
}

// readOurs reads which migrations the database has, and looks for objects of other programs that have the names of
// missing ones.
func (s *schema) readOurs(ctx context.Context) error {
	if err := s.readVersions(ctx); err != nil {
		return fmt.Errorf("read goose_db_version: %w", err)
	}
	s.report.Applied = true
	for _, p := range s.plans {
		s.report.Applied = s.report.Applied && p.applied
	}
	for _, p := range s.plans {
		for _, o := range p.made {
			if err := s.judgeObject(ctx, p, o); err != nil {
				return fmt.Errorf("look for %s %s: %w", o.kind, o.name, err)
			}
		}
	}
	if err := s.judgeLookup(ctx); err != nil {
		return fmt.Errorf("look at %s: %w", lookupIndex, err)
	}
	if err := s.judgeTakenBack(ctx); err != nil {
		return fmt.Errorf("look for latchkey_taken_back: %w", err)
	}
	return s.judgeQueue(ctx)
}

// judgeTakenBack warns of the effect that a second takeover has on sessions and tokens from the first one.
func (s *schema) judgeTakenBack(ctx context.Context) error {
	var noted bool
	if err := s.tx.QueryRow(ctx, "SELECT coalesce(has_table_privilege(to_regclass('latchkey_taken_back'), 'SELECT'), false)").Scan(&noted); err != nil || !noted {
		return err
	}
	var at time.Time
	if err := s.tx.QueryRow(ctx, "SELECT at FROM latchkey_taken_back").Scan(&at); err != nil {
		return err
	}
	s.report.warn(Finding{
		Code: "taken_back", Text: "Latchkey has served here, until its migrations were taken back at " + at.UTC().Format(time.RFC3339) + ": it refuses sessions and tokens from before that time, since some of them had ended and nobody knows which",
		Right: "nothing: people who have only such tokens log in again",
	})
	return nil
}

func (s *schema) readVersions(ctx context.Context) error {
	var columns []string
	err := s.tx.QueryRow(ctx, `
		SELECT coalesce(array_agg(attname::text), '{}') FROM pg_attribute
		WHERE attrelid = to_regclass('goose_db_version') AND attnum > 0 AND NOT attisdropped`).Scan(&columns)
	if err != nil || len(columns) == 0 {
		return err
	}
	if !slices.Contains(columns, "version_id") || !slices.Contains(columns, "is_applied") {
		s.foreign("goose_db_version belongs to another program ("+strings.Join(columns, ", ")+")", "no such table, or that of Latchkey")
		return nil
	}
	rows, err := s.tx.Query(ctx, `
		SELECT version_id FROM (SELECT DISTINCT ON (version_id) version_id, is_applied FROM goose_db_version ORDER BY version_id, id DESC) AS newest
		WHERE is_applied AND version_id > 0 ORDER BY version_id`)
	if err != nil {
		return err
	}
	versions, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return err
	}
	for _, version := range versions {
		i := slices.IndexFunc(s.plans, func(p *plan) bool { return p.version == version })
		if i < 0 {
			s.foreign(fmt.Sprintf("goose_db_version has version %d, which this latchkey does not know: it belongs to another program or a newer latchkey", version), "no such table, or the newest latchkey")
			continue
		}
		s.plans[i].applied = true
	}
	return nil
}

// judgeObject compares one object that a migration makes with the object in the database.
func (s *schema) judgeObject(ctx context.Context, p *plan, o object) error {
	if p.version == usersMigration || o.kind == "column" {
		return nil // judgeColumn and judgeExtra check these
	}
	query := "SELECT true, pg_has_role(relowner, 'USAGE'), relkind::text FROM pg_class WHERE relname = $1 AND relnamespace = to_regnamespace(quote_ident(current_schema()))"
	if o.kind == "function" {
		query = "SELECT true, bool_and(pg_has_role(proowner, 'USAGE')), 'f' FROM pg_proc WHERE proname = $1 AND pronamespace = to_regnamespace(quote_ident(current_schema())) HAVING count(*) > 0"
	}
	var exists, owned bool
	var relkind string
	err := s.tx.QueryRow(ctx, query, o.name).Scan(&exists, &owned, &relkind)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	switch {
	case p.applied && o.kind == "table" && (!exists || !isTable(relkind)):
		s.foreign(fmt.Sprintf("goose_db_version says that %s is applied, but there is no table %s: the record belongs to another program, or somebody dropped the table", p.file, o.name), "no table goose_db_version of another program; or a backup that has the table")
	case !p.applied && exists && !o.rerun && !s.madeEarlier(o):
		s.foreign(fmt.Sprintf("there already is a %s %s that is not Latchkey's", o.kind, o.name), "rename it, or move it to another schema: Latchkey makes one with this name")
	case !p.applied && exists && !owned:
		s.foreign(fmt.Sprintf("the %s %s belongs to a role, and role %q does not have the rights of that role", o.kind, o.name, s.report.Database.Role), "run this command with the role that made it")
	}
	return nil
}

// isTable reports whether pg_class.relkind is that of a table, which may be partitioned.
func isTable(relkind string) bool { return relkind == "r" || relkind == "p" }

// madeEarlier reports whether a migration that is applied has made the object, and this one makes it anew.
func (s *schema) madeEarlier(o object) bool {
	return slices.ContainsFunc(s.plans, func(p *plan) bool {
		return p.applied && p.version < o.source && slices.ContainsFunc(p.made, func(other object) bool {
			return other.kind == o.kind && other.name == o.name
		})
	})
}

// judgeLookup checks an index with that name: it is ours, complete or not, or another program's.
func (s *schema) judgeLookup(ctx context.Context) error {
	var ours bool
	err := s.tx.QueryRow(ctx, `
		SELECT coalesce((SELECT indrelid = $1 AND indisunique AND indpred IS NULL AND indexprs IS NULL AND indnatts = 1
			AND (SELECT attname FROM pg_attribute WHERE attrelid = indrelid AND attnum = indkey[0]) = $2 FROM pg_index WHERE indexrelid = c.oid), false)
		FROM pg_class c WHERE c.oid = to_regclass($3)`, s.users.OID, lookupColumn, lookupIndex).Scan(&ours)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil && !ours {
		s.foreign("there already is a "+lookupIndex+" that is not Latchkey's unique index on users."+lookupColumn, "another name for that index")
	}
	return err
}

// judgeQueue checks the tables of River, which the mail outbox uses. Another program may use the same tables.
func (s *schema) judgeQueue(ctx context.Context) error {
	if len(s.plans) == 0 || s.plans[0].applied {
		return nil
	}
	var exists bool
	err := s.tx.QueryRow(ctx, "SELECT to_regclass('river_migration') IS NOT NULL OR to_regclass('river_job') IS NOT NULL").Scan(&exists)
	if err == nil && exists {
		s.foreign("another program has a River queue here (river_job, river_migration), and Latchkey's mails would be in the same queue", "a separate schema for one of the two")
	}
	return err
}

// addsColumn reports whether one of our migrations adds the column to users, and whether a missing one does.
func (s *schema) addsColumn(name string) (ours, pending bool) {
	for _, p := range s.plans {
		for _, o := range p.made {
			if o.kind == "column" && o.name == name {
				ours, pending = true, pending || !p.applied && !o.rerun
			}
		}
	}
	return ours, pending
}
