package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv/benchkit"
)

const (
	// flushSamples is how many commits show how long one takes.
	flushSamples = 200
	// idleWindow is longer than what a replica does least often, each ten seconds.
	idleWindow = 10 * time.Second
	// appendBatch is how many rows a replica appends in one transaction at the most.
	appendBatch = 500
)

// appends has how many rows the ledger takes while a flush takes so long.
type appends struct {
	// CommitDelay is PostgreSQL's setting, in microseconds. With commit_siblings = 0 a backend sleeps so long before each
	// flush, and holds the lock of the log meanwhile, as it does while a slow disk writes.
	CommitDelay int `json:"commit_delay_us"`
	// Flush is how much longer a commit takes that waits for the disk.
	Flush float64      `json:"flush_ms"`
	Ways  []*appendWay `json:"ways"`
}

// appendWay is one way to append.
type appendWay struct {
	Name   string          `json:"name"`
	Rows   float64         `json:"rows_per_second"`
	Result benchkit.Result `json:"calls"`
}

// idleCalls is what one replica asks its stores in a second while nobody calls it.
type idleCalls struct {
	Postgres float64 `json:"postgres_transactions"`
	Redis    float64 `json:"redis_commands"`
}

// countIdle counts what replicas ask their stores while nobody calls them.
func (s *site) countIdle(ctx context.Context, conn *pgx.Conn, replicas int) (postgres, redis float64, err error) {
	read := func() (transactions, commands float64, err error) {
		// The server publishes a backend's counts within a second.
		if err := conn.QueryRow(ctx, "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").Scan(&transactions); err != nil {
			return 0, 0, err
		}
		counted, err := s.redisInfo(ctx, "stats", "total_commands_processed")
		return transactions, float64(counted), err
	}
	if err := benchkit.Pause(ctx, idleWindow/2); err != nil { // what a start asks
		return 0, 0, err
	}
	transactions, commands, err := read()
	if err != nil {
		return 0, 0, err
	}
	if err := benchkit.Pause(ctx, idleWindow); err != nil {
		return 0, 0, err
	}
	after, commandsAfter, err := read()
	each := float64(replicas) * idleWindow.Seconds()
	return (after - transactions) / each, (commandsAfter - commands) / each, err
}

// measureAppends measures each way, as the disk is and with longer flushes.
func (s *site) measureAppends(ctx context.Context) (all []*appends, idle idleCalls, err error) {
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return nil, idle, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	var two [2]*grpc.ClientConn
	for i := range two {
		l, err := s.start(ctx)
		if err != nil {
			return nil, idle, err
		}
		defer func() { err = errors.Join(err, l.End()) }()
		if two[i], err = grpc.NewClient("passthrough:///"+l.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
			return nil, idle, err
		}
		defer func() { err = errors.Join(err, two[i].Close()) }()
	}
	if idle.Postgres, idle.Redis, err = s.countIdle(ctx, conn, len(two)); err != nil {
		return nil, idle, err
	}
	natural, err := s.setFlush(ctx, conn, 0)
	if err != nil {
		return nil, idle, err
	}
	for _, target := range []float64{0, .1, 2} { // ms
		if target != 0 && target < natural*1.2 {
			s.stand.progress("a flush takes %.2f ms here already: %.1f ms is not measured", natural, target)
			continue
		}
		a, err := s.tuneFlush(ctx, conn, natural, target)
		if err != nil {
			return nil, idle, err
		}
		for _, way := range s.appendWays(two) {
			if err := way.measure(ctx, max(s.stand.o.window, time.Second)); err != nil {
				return nil, idle, fmt.Errorf("%s: %w", way.Name, err)
			}
			a.Ways = append(a.Ways, &way.appendWay)
			s.stand.progress("flush of %.2f ms: %s: %.0f rows/s", a.Flush, way.Name, way.Rows)
		}
		all = append(all, a)
	}
	_, err = s.setFlush(ctx, conn, 0)
	return all, idle, err
}

// tuneFlush makes a flush take so many milliseconds; 0: as long as the disk takes.
func (s *site) tuneFlush(ctx context.Context, conn *pgx.Conn, natural, target float64) (*appends, error) {
	if target == 0 {
		return &appends{Flush: natural}, nil
	}
	delay := int((target - natural) * 1000)
	got, err := s.setFlush(ctx, conn, delay)
	return &appends{CommitDelay: delay, Flush: got}, err
}

// setFlush lengthens flushes by so many microseconds, and returns how many milliseconds one takes then.
func (s *site) setFlush(ctx context.Context, conn *pgx.Conn, delay int) (float64, error) {
	for _, statement := range []string{
		fmt.Sprintf("ALTER SYSTEM SET commit_delay = %d", delay), "ALTER SYSTEM SET commit_siblings = 0", "SELECT pg_reload_conf()",
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return 0, err
		}
	}
	for set := false; !set; { // the server reads its settings a moment later
		if err := conn.QueryRow(ctx, "SELECT setting = $1 FROM pg_settings WHERE name = 'commit_delay'", strconv.Itoa(delay)).Scan(&set); err != nil {
			return 0, err
		}
	}
	var took [2]float64
	for i, setting := range []string{"on", "off"} {
		if _, err := conn.Exec(ctx, "SET synchronous_commit = "+setting); err != nil {
			return 0, err
		}
		var each []float64
		for range flushSamples {
			began := time.Now()
			if _, err := conn.Exec(ctx, "UPDATE ledger_head SET access_life = access_life"); err != nil {
				return 0, err
			}
			each = append(each, benchkit.Millis(time.Since(began)))
		}
		slices.Sort(each)
		took[i] = each[len(each)/10] // not the median: that includes waiting for a processor, on a machine with other work
	}
	return took[0] - took[1], nil
}

// appending is a way to append that can be measured.
type appending struct {
	appendWay
	callers, rows int
	do            func(ctx context.Context, caller int, n int64) error
}

func (a *appending) measure(ctx context.Context, window time.Duration) error {
	made := make([]int64, a.callers)
	r, err := benchkit.ClosedLoop(ctx, a.callers, window, func(ctx context.Context, caller int) error {
		made[caller]++
		return a.do(ctx, caller, made[caller]*int64(a.callers)+int64(caller))
	}, func() error { return nil })
	a.Result, a.Rows = r, r.PerSecond*float64(a.rows)
	return err
}

func (s *site) appendWays(replicas [2]*grpc.ClientConn) []*appending {
	queries := db.New()
	began := time.Now().UnixNano() // so that no two ways end the same session
	ofOne := func(replicas ...*grpc.ClientConn) func(context.Context, int, int64) error {
		return func(ctx context.Context, caller int, n int64) error {
			_, err := latchkeyv1.NewAdminServiceClient(replicas[caller%len(replicas)]).RevokeUserSession(bearer(ctx, adminKey), &latchkeyv1.RevokeUserSessionRequest{
				UserId: s.any("append", n).id.String(), SessionId: id(fmt.Sprint("appended", began, len(replicas)), n).String(),
			})
			return err
		}
	}
	return []*appending{
		{appendWay{Name: "SQL: one row in each transaction, 16 connections"}, 16, 1, func(ctx context.Context, _ int, n int64) error {
			_, err := queries.AppendUserRevocation(ctx, s.pool, db.AppendUserRevocationParams{UserID: s.any("append", n).id})
			return err
		}},
		{appendWay{Name: fmt.Sprintf("SQL: %d sessions in each transaction, 2 connections", appendBatch)}, 2, appendBatch, func(ctx context.Context, _ int, n int64) error {
			p := db.AppendSessionRevocationsParams{Now: time.Now()}
			for i := range int64(appendBatch) {
				p.SessionIds, p.UserIds = append(p.SessionIds, id(fmt.Sprint("batch", began), n*appendBatch+i)), append(p.UserIds, s.any("append", n+i).id)
				p.Kinds, p.Addresses = append(p.Kinds, "logout"), append(p.Addresses, "203.0.113.77")
				p.TraceIds, p.CallIds, p.Actors = append(p.TraceIds, ""), append(p.CallIds, ""), append(p.Actors, "")
			}
			_, err := queries.AppendSessionRevocations(ctx, s.pool, p)
			return err
		}},
		{appendWay{Name: "RevokeUserSessions, 16 at a time, two replicas"}, 16, 1, func(ctx context.Context, caller int, n int64) error {
			_, err := latchkeyv1.NewAdminServiceClient(replicas[caller%2]).RevokeUserSessions(bearer(ctx, adminKey), &latchkeyv1.RevokeUserSessionsRequest{
				UserId: s.any("append", n).id.String(),
			})
			return err
		}},
		{appendWay{Name: "RevokeUserSession, 100 at a time, one replica"}, 100, 1, ofOne(replicas[0])},
		{appendWay{Name: "RevokeUserSession, 200 at a time, two replicas"}, 200, 1, ofOne(replicas[0], replicas[1])},
	}
}
