package takeover

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Progress is the progress of the long migration.
type Progress struct {
	// What names the things that are counted, in the plural. "" if there is no count yet.
	What string
	Done int64
	// Total is 0 if it is not known.
	Total int64
	// WaitsFor is the process whose transaction the index waits for; 0: for none.
	WaitsFor int32
}

// ReadProgress reads it. conn must not be the connection that does the work.
func ReadProgress(ctx context.Context, conn *pgx.Conn) (Progress, error) {
	p := Progress{What: "index blocks"}
	err := conn.QueryRow(ctx, `
		SELECT blocks_done, blocks_total, coalesce(current_locker_pid, 0) FROM pg_stat_progress_create_index
		WHERE relid = to_regclass('users') AND datname = current_database() LIMIT 1`).Scan(&p.Done, &p.Total, &p.WaitsFor)
	if err == nil || !errors.Is(err, pgx.ErrNoRows) {
		return p, err
	}
	p = Progress{What: "accounts"}
	err = conn.QueryRow(ctx, "SELECT count(email_lookup), count(*) FROM users").Scan(&p.Done, &p.Total)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "42703" { // no such column yet
		return Progress{}, nil
	}
	if p.Done == 0 {
		p.What = ""
	}
	return p, err
}
