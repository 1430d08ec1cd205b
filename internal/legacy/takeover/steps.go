package takeover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Measured with 1,000,000 accounts on two shared cores, PostgreSQL 15 with its data in memory, beside a backend that
// wrote all the time. For any other machine they are a guess.
const (
	fillPerSecond  = 16_000
	indexPerSecond = 1_000_000
	briefly        = 0.01 // seconds of a statement that only changes the catalog
)

// RestartForColumn names the programs that fail after a new column in users. PostgreSQL refuses a prepared statement if
// its result has another shape than when it was prepared, on every connection that has it.
const RestartForColumn = "the Rust backend, and all other programs that keep prepared SELECT * statements on users: from then on these fail on open " +
	"connections with \"cached plan must not change result type\". The Go backend names its columns and keeps running"

// lockMode describes one kind of lock on users that a note may name.
type lockMode struct {
	// how is printed after the note's words in the report.
	how     string
	blocks  string
	seconds func(rows int64) float64
}

// lockModes has the modes that a note may name. A new migration that needs another mode needs thought: it may make
// users wait for a time that grows with the number of accounts.
func lockModes() map[string]lockMode {
	brief := func(int64) float64 { return briefly }
	return map[string]lockMode{
		"ACCESS EXCLUSIVE":    {"", "everybody", brief},
		"SHARE":               {"", "all who write", brief},
		"SHARE ROW EXCLUSIVE": {"", "all who write", brief},
		"SHARE UPDATE EXCLUSIVE": {
			" while others work; waits for transactions that began earlier", "nobody",
			func(rows int64) float64 { return briefly + float64(rows)/indexPerSecond },
		},
		"ROW EXCLUSIVE": {
			", oldest account first, in transactions of 1,000 rows", "all who change the same account, for one transaction",
			func(rows int64) float64 { return float64(rows) / fillPerSecond },
		},
	}
}

// note is a migration's note on one lock on users that it takes.
type note struct{ lock, does string }

const (
	noteMark    = "-- locks: "
	notesNoLock = "nothing"
)

// readNotes reads a migration's notes on locks, one for each line "-- locks: users MODE, what it does", in the order of
// its statements. A migration that takes no lock on users says "-- locks: nothing". One without a note is an error: the
// report would call it harmless although nobody has checked it.
func readNotes(text string) ([]note, error) {
	var notes []note
	found, nothing := false, false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, strings.TrimSpace(noteMark)) {
			continue
		}
		found = true
		said := strings.TrimPrefix(line, noteMark)
		if said == notesNoLock {
			nothing = true
			continue
		}
		lock, does, _ := strings.Cut(strings.TrimPrefix(said, "users "), ", ")
		if _, known := lockModes()[lock]; !known || does == "" || !strings.HasPrefix(said, "users ") {
			return nil, fmt.Errorf("%q is no note on locks: write %snothing, or %susers MODE, what it does", line, noteMark, noteMark)
		}
		notes = append(notes, note{lock, does})
	}
	switch {
	case !found:
		return nil, fmt.Errorf("it has no note on locks: write a line %snothing, or %susers MODE, what it does", noteMark, noteMark)
	case nothing && len(notes) > 0:
		return nil, errors.New("its notes name locks, but also say that it locks nothing")
	}
	return notes, nil
}

// steps lists the work of the missing migrations, from their notes.
func steps(plans []*plan, rows int64) []Step {
	list := []Step{}
	for _, p := range plans {
		if !p.applied {
			list = append(list, p.steps(rows)...)
		}
	}
	return list
}

func (p *plan) steps(rows int64) []Step {
	if len(p.notes) == 0 {
		return []Step{{Migration: p.file, Does: "adds Latchkey's tables and functions", Blocks: "nobody", Seconds: briefly}}
	}
	list := make([]Step, 0, len(p.notes))
	for _, n := range p.notes {
		mode := lockModes()[n.lock]
		step := Step{Migration: p.file, Does: n.does + mode.how, Lock: n.lock, Blocks: mode.blocks, Seconds: mode.seconds(rows)}
		if strings.HasPrefix(n.does, "adds column ") {
			step.Restart = RestartForColumn
		}
		list = append(list, step)
	}
	return list
}

// Blockers lists the transactions that began over a second ago, the oldest first and at most 20. The addition of a
// column waits for those that hold a lock on users, and the build of the index waits for all. Of other roles' sessions
// PostgreSQL shows an ordinary role only that they hold the lock.
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

// Long reports whether the time of a migration grows with the number of accounts.
func (r *Report) Long(file string) bool {
	return slices.ContainsFunc(r.Steps, func(s Step) bool {
		return s.Migration == file && (s.Lock == "ROW EXCLUSIVE" || s.Lock == "SHARE UPDATE EXCLUSIVE")
	})
}
