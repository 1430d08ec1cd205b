package takeover

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Measured with 1,000,000 accounts on two shared cores, PostgreSQL 15 with its data in
// memory, beside a backend that wrote all the time; a guess for any other machine.
const (
	fillPerSecond  = 16_000
	indexPerSecond = 1_000_000
	briefly        = 0.01 // seconds of a statement that only changes the catalog
)

// rule tells a statement that locks users by its text.
type rule struct {
	pattern string
	does    string // $1 is the first part of the pattern in brackets
	lock    string
	blocks  string
	seconds func(rows int64) float64
}

func rules() []rule {
	brief := func(int64) float64 { return briefly }
	return []rule{
		{`ALTER TABLE users\s+ADD COLUMN (?:IF NOT EXISTS )?(\w+)[^;]*;`, "adds column $1, empty", "ACCESS EXCLUSIVE", "everybody", brief},
		{`CREATE (?:UNIQUE )?INDEX CONCURRENTLY (?:IF NOT EXISTS )?(\w+) ON users\b[^;]*;`, "builds index $1 beside the work of others; waits for transactions that began earlier", "SHARE UPDATE EXCLUSIVE", "nobody", func(rows int64) float64 { return briefly + float64(rows)/indexPerSecond }},
		{`CREATE (?:UNIQUE )?INDEX (?:IF NOT EXISTS )?(\w+) ON users\b[^;]*;`, "makes index $1 where it is missing", "SHARE", "whoever writes", brief},
		{`CREATE (?:OR REPLACE )?(?:CONSTRAINT )?TRIGGER (\w+) [^;]*? ON users\b[^;]*;`, "adds trigger $1", "SHARE ROW EXCLUSIVE", "whoever writes", brief},
		{`CREATE TABLE (?:IF NOT EXISTS )?(\w+) \([^;]*REFERENCES users\b[^;]*;`, "adds table $1, which refers to users", "SHARE ROW EXCLUSIVE", "whoever writes", brief},
		{`UPDATE users SET (\w+)`, "fills $1, oldest account first, in transactions of 1,000 rows", "ROW EXCLUSIVE", "whoever changes the same account, for one transaction", func(rows int64) float64 { return float64(rows) / fillPerSecond }},
	}
}

// steps lists what the missing migrations do, by their text.
func steps(plans []*plan, rows int64) []Step {
	list := []Step{}
	for _, p := range plans {
		if p.applied {
			continue
		}
		list = append(list, p.steps(rows)...)
	}
	return list
}

func (p *plan) steps(rows int64) []Step {
	type hit struct {
		at   int
		step Step
	}
	var hits []hit
	text := p.up
	for _, r := range rules() {
		pattern := regexp.MustCompile(r.pattern)
		for _, at := range pattern.FindAllStringSubmatchIndex(text, -1) {
			does := string(pattern.ExpandString(nil, r.does, text, at))
			if p.version == usersMigration && !strings.HasPrefix(does, "makes index") {
				continue // all of that is there
			}
			hits = append(hits, hit{at[0], Step{p.file, does, r.lock, r.blocks, r.seconds(rows)}})
		}
	}
	if len(hits) == 0 {
		return []Step{{Migration: p.file, Does: "adds tables and functions of its own", Blocks: "nobody", Seconds: briefly}}
	}
	slices.SortStableFunc(hits, func(a, b hit) int { return a.at - b.at })
	list := make([]Step, len(hits))
	for i, h := range hits {
		list[i] = h.step
	}
	return list
}

// Blockers lists the transactions that began over a second ago, longest first and at
// most 20: adding a column waits for those that hold a lock on users, the build of the
// index for all. Of other roles' sessions PostgreSQL tells an ordinary role only that
// they hold the lock.
func Blockers(ctx context.Context, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
},
) ([]Blocker, error) {
	rows, err := db.Query(ctx, `
		SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.state, 'unknown'),
			coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8,
			EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.relation = to_regclass('users')
				AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))
		FROM pg_stat_activity a
		WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.backend_type = 'client backend'
			AND (a.xact_start < clock_timestamp() - interval '1 second'
				OR a.xact_start IS NULL AND a.state IS NULL
				AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.relation = to_regclass('users')))
		UNION ALL
		SELECT 0, gid, 'prepared', extract(epoch FROM clock_timestamp() - prepared)::float8, true
		FROM pg_prepared_xacts WHERE database = current_database()
		ORDER BY 4 DESC LIMIT 20`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Blocker])
}

// Long says that a migration takes as long as there are accounts.
func (r *Report) Long(file string) bool {
	return slices.ContainsFunc(r.Steps, func(s Step) bool {
		return s.Migration == file && (s.Lock == "ROW EXCLUSIVE" || s.Lock == "SHARE UPDATE EXCLUSIVE")
	})
}
