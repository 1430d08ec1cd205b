package ledger

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/revocations"
)

const (
	// renewEvery is the longest time between two renewals: watchers learn the head that often. A third of a
	// short lease is less: two lost renewals still leave time for a third.
	renewEvery = time.Second
	// renewDeafEvery is used while LISTEN does not work and nobody wakes the tail: each revocation waits for the
	// next renewal.
	renewDeafEvery = 500 * time.Millisecond
	// margin is how much longer than its tokens' life a row stays in memory: twice the clocks' difference, and a
	// minute for transactions that began long before they committed.
	margin = 2 * time.Minute
	// heartbeatEvery is how often watchers get a heartbeat if there are no rows. It is a little less than
	// renewEvery, so that each renewal after a quiet second sends one.
	heartbeatEvery = 900 * time.Millisecond
	dropEvery      = 10 * time.Second
	// resumeWithin is how long memory may miss renewals and still catch up. After that it is read anew: rows
	// about changed accounts are deleted after an hour.
	resumeWithin = 30 * time.Minute

	// pageSize is how many rows one query reads: some 1 MB.
	pageSize = 5000

	firstRetry   = 50 * time.Millisecond
	longestRetry = time.Second
	leaveTime    = 2 * time.Second
)

var (
	errNotPrimary = errors.New("this server is not, or no longer, the primary: connecting anew")
	errNotJoined  = errors.New("this replica is not, or no longer, in the table of replicas")
	errWrongClock = errors.New("the wall clock is over 30 s from PostgreSQL's: validations ask PostgreSQL until it is right")
	errUnknownRow = errors.New("a newer version of Latchkey wrote a row of an unknown kind: update this replica; until then validations ask PostgreSQL")
	errGap        = errors.New("the newest row of the ledger is missing")
)

// Run follows the ledger until ctx ends. Then it drops the lease first and deletes this replica's row after
// it: in the other order, this process could answer from memory while revokers no longer wait for it.
func (l *Ledger) Run(ctx context.Context) {
	listening := make(chan struct{})
	go func() {
		defer close(listening)
		l.retry(ctx, "listen for revocations", l.listen)
	}()
	l.retry(ctx, "follow the revocation ledger", l.follow)
	<-listening
	l.lease.drop()
	l.leave(ctx)
}

// WaitTrusted waits until memory is trusted for the first time, or ctx ends.
func (l *Ledger) WaitTrusted(ctx context.Context) error { return l.wait(ctx, l.Trusted) }

// WaitFollowed waits until the ledger was read to its end for the first time, or ctx ends. Memory is trusted
// then, unless the clock is wrong or a newer version wrote a row of an unknown kind: Run logs that, and
// validations ask PostgreSQL.
func (l *Ledger) WaitFollowed(ctx context.Context) error { return l.wait(ctx, l.followed.Load) }

// Failed returns the last error of following the ledger, or nil if there was none.
func (l *Ledger) Failed() error {
	if err := l.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (l *Ledger) wait(ctx context.Context, until func() bool) error {
	for !until() {
		read, _ := l.log.readAfter(Position{}, 0) // the zero position is always there
		if until() {
			return nil
		}
		select {
		case <-read.Changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// retry runs one part until ctx ends, and starts it again after each failure.
func (l *Ledger) retry(ctx context.Context, what string, part func(context.Context) error) {
	pause := firstRetry
	last := ""
	for {
		began := l.cfg.Boot()
		err := part(ctx)
		if ctx.Err() != nil {
			return
		}
		l.failed.Store(&err)
		if text := err.Error(); text != last {
			last = text // log each reason once: it may last for hours
			l.cfg.Logger.WarnContext(ctx, "the ledger is not followed", "doing", what, "error", err)
		}
		if l.cfg.Boot()-began > longestRetry {
			pause, last = firstRetry, ""
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		pause = min(2*pause, longestRetry)
	}
}

// tail has how far this process has followed the ledger. Only follow's goroutine uses it. It survives a lost
// connection.
type tail struct {
	joined      bool
	applied     Position
	table       *revocations.Table // what rows are applied to
	noted       int64              // what its row in replicas says
	renewed     time.Duration      // boot clock
	dropped     time.Duration
	life        time.Duration // of the longest access token that may be out
	legacy      time.Time     // until when some replica accepts tokens of an older backend
	heartbeatAt time.Duration
	withheld    error // why there is no lease although all rows are applied
}

// follow joins if this replica has no row, and renews the lease until something fails. A broken connection
// does not end the current lease.
func (l *Ledger) follow(ctx context.Context) error {
	conn, err := l.connect(ctx, "latchkey ledger")
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // nothing is under way
	for {
		if !l.tail.joined {
			if err := l.join(ctx); err != nil {
				return err
			}
			l.tail.joined, l.tail.noted = true, 0
		}
		if err := l.renewInTime(ctx, conn); err != nil {
			return err
		}
		timer := time.NewTimer(l.nextRenewal())
		select {
		case <-l.woken:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func (l *Ledger) nextRenewal() time.Duration {
	every := min(l.cfg.Lease/3, renewEvery)
	if !l.listens.Load() {
		every = min(every, renewDeafEvery)
	}
	return every
}

// join inserts this replica's row, for which revokers wait, and commits it before anything is read. If it
// read first, nobody would wait until this replica has a row that was appended between the read and the join.
// Each join has a new id, so that a row that others have marked dead stays dead.
func (l *Ledger) join(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, appendTime)
	defer cancel()
	err := l.queries.RaiseLives(ctx, l.cfg.Pool, db.RaiseLivesParams{
		SessionSeconds: l.cfg.SessionLife.Seconds(), AccessSeconds: l.cfg.AccessLife.Seconds(),
	})
	if err != nil {
		return err
	}
	if !l.cfg.LegacyUntil.IsZero() {
		if err := l.queries.KeepForLegacy(ctx, l.cfg.Pool, l.cfg.LegacyUntil); err != nil {
			return err
		}
	}
	id, err := newID()
	if err != nil {
		return err
	}
	if err := l.queries.JoinReplica(ctx, l.cfg.Pool, db.JoinReplicaParams{
		ID: id, LeaseMs: int32(l.cfg.Lease.Milliseconds()), //nolint:gosec // G115: at most 10,000
	}); err != nil {
		return err
	}
	if previous := l.id.Swap(&id); previous != nil { // its lease was dropped before
		if err := l.queries.LeaveReplica(ctx, l.cfg.Pool, *previous); err != nil {
			return err
		}
	}
	// Read the longest lease now: PostgreSQL may be gone when this process has to wait.
	replicas, err := l.queries.ListReplicas(ctx, l.cfg.Pool)
	if err != nil {
		return err
	}
	l.waiters.learn(replicas)
	return nil
}

// newID returns a random id of version 8, which says that this replica reads long refresh tokens (ConfirmReplica).
func newID() (uuid.UUID, error) {
	id, err := uuid.NewRandom()
	id[6] = id[6]&0x0f | 0x80
	return id, err
}

func (l *Ledger) leave(ctx context.Context) {
	id := l.id.Load()
	if id == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer cancel()
	if err := l.queries.LeaveReplica(ctx, l.cfg.Pool, *id); err != nil {
		l.cfg.Logger.WarnContext(ctx, "left without telling the other replicas: the next revocation takes them one lease", "error", err)
	}
}

func (l *Ledger) renewInTime(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, max(l.cfg.Lease, time.Second))
	defer cancel()
	err := l.renew(ctx, conn)
	if isReadOnly(err) {
		// Another server may be the primary by now: rows may be missing here, and this server sends no more
		// notices.
		l.lease.drop()
		l.relisten(errNotPrimary)
		return errors.Join(errNotPrimary, err)
	}
	return err
}

// isReadOnly returns whether a statement failed because its server is not the primary.
func isReadOnly(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pg.Code == "25006"
}

// renew reads the head and this replica's row in one statement, and then, in later statements, the rows that
// it has not applied: these see at least all rows up to that head. Memory is then right for one lease,
// counted from before the first statement was sent.
func (l *Ledger) renew(ctx context.Context, conn *pgx.Conn) error {
	t := &l.tail
	sent := l.lease.now()
	head, err := l.queries.ConfirmReplica(ctx, conn, db.ConfirmReplicaParams{
		ID: *l.id.Load(), AppliedSeq: t.applied.Seq, AppliedTip: t.applied.Tip,
	})
	if err != nil {
		return err
	}
	if !head.Joined {
		l.lease.drop()
		t.joined = false
		return errNotJoined
	}
	l.readLong.Store(!head.ShortOnly)
	t.life = time.Duration(head.AccessLifeSeconds * float64(time.Second))
	t.legacy = orZero(head.LegacyUntil)
	if now := (Position{head.Seq, head.Tip}); t.applied != now {
		t.heartbeatAt = 0
		// A ledger that was empty has no row whose tip could be compared.
		known := head.Known || t.applied.Seq == 0 && t.applied.Tip != uuid.Nil
		resume := known && sent.boot-t.renewed < resumeWithin
		if err := l.catchUp(ctx, conn, now, resume); err != nil {
			return err
		}
	}
	// Write it also if the row is new, or if the last write failed: otherwise revokers with an earlier position
	// would wait a lease for this replica and then mark it dead.
	if t.noted != t.applied.Seq {
		err := l.queries.SetReplicaApplied(ctx, conn, db.SetReplicaAppliedParams{ID: *l.id.Load(), AppliedSeq: t.applied.Seq})
		if err != nil {
			return err
		}
		t.noted = t.applied.Seq
	}
	forgotten := orZero(head.ForgottenAt)
	l.forgotten.Store(&forgotten)
	l.waiters.noteTimeline(head.Seq, sent.boot)
	t.renewed = sent.boot
	if sent.boot-t.dropped > dropEvery {
		t.dropped = sent.boot
		l.log.dropExpired(head.DatabaseTime)
		t.table.DropExpired(head.DatabaseTime)
	}
	l.grantLease(ctx, sent, head.DatabaseTime)
	return nil
}

// grantLease grants the lease to memory that has all rows, unless the clock is wrong or a row had an unknown
// kind.
func (l *Ledger) grantLease(ctx context.Context, sent moment, databaseTime time.Time) {
	var withheld error
	l.skewed.Store(databaseTime.Sub(sent.wall).Abs() > maxSkew)
	switch {
	case l.skewed.Load():
		withheld = errWrongClock
	case l.unknownRow:
		withheld = errUnknownRow
	}
	if withheld != nil {
		l.lease.drop()
		if !errors.Is(l.tail.withheld, withheld) { // log it once: it may last for hours
			l.cfg.Logger.ErrorContext(ctx, "memory is not trusted", "error", withheld)
		}
	} else {
		if !l.lease.valid() {
			l.tail.heartbeatAt = 0
		}
		l.lease.grant(sent, l.cfg.Lease)
	}
	l.tail.withheld = withheld
	l.followed.Store(true)
	// A renewal without a new row sends no heartbeat before its time.
	if l.tail.heartbeatAt == 0 || sent.boot-l.tail.heartbeatAt >= heartbeatEvery {
		l.tail.heartbeatAt = sent.boot
		l.log.heartbeat()
	}
}

// catchUp applies the rows after the last applied one (resume). If the ledger no longer has that row,
// PostgreSQL was restored or a failover lost rows: catchUp then reads everything anew.
func (l *Ledger) catchUp(ctx context.Context, conn *pgx.Conn, head Position, resume bool) error {
	t := &l.tail
	if !resume {
		l.lease.drop()
		// A validation that called Trusted a moment ago will call Refuses next. A half-filled table would let it
		// accept a token that was refused long before, so the former table stays in use until this one has all
		// rows.
		t.table = &revocations.Table{}
		l.log.begin(Position{})
		l.applied.Store(0) // positions of another history say nothing about this one
		for _, f := range l.cfg.Followers {
			f.Reset()
		}
		t.applied = Position{}
	}
	if err := l.applyPages(ctx, conn, resume); err != nil {
		return err
	}
	if t.applied.Seq < head.Seq && resume {
		t.applied = Position{} // everything anew
		return errGap          // the newest row is never deleted
	}
	if t.applied.Seq <= head.Seq {
		// The head's row is too old to be in force, or there is none yet.
		t.applied = head
		l.log.moveTo(head)
	}
	l.revoked.Store(t.table)
	l.log.finish()
	l.applied.Store(t.applied.Seq)
	return nil
}

// applyPages reads the rows after t.applied, page by page, and takes them into memory. It reads all of them
// to resume, else only those that can still refuse something.
func (l *Ledger) applyPages(ctx context.Context, conn *pgx.Conn, resume bool) error {
	for {
		rows, err := l.readPage(ctx, conn, resume)
		if err != nil {
			return err
		}
		for _, row := range rows {
			l.apply(row)
			l.tail.applied = Position{row.Seq, row.Tip}
		}
		if len(rows) < int(l.pageSize) {
			return nil
		}
	}
}

// readPage has one number for the page in both queries and in applyPages: if a query stopped at fewer rows,
// the rest of the ledger would be missing in memory that is trusted.
func (l *Ledger) readPage(ctx context.Context, conn *pgx.Conn, resume bool) ([]db.Revocation, error) {
	after := l.tail.applied.Seq
	if resume {
		return l.queries.RevocationsAfter(ctx, conn, db.RevocationsAfterParams{Seq: after, Page: l.pageSize})
	}
	return l.queries.RevocationsInForce(ctx, conn, db.RevocationsInForceParams{Seq: after, Page: l.pageSize})
}

// apply takes one row into memory.
func (l *Ledger) apply(row db.Revocation) {
	message := revocation(row, l.tail.life)
	if !l.tail.table.Apply(l.tail.heldFor(message)) {
		l.unknownRow = true
		// Drop the lease now: the row counts as applied, and so as final, before grantLease runs.
		l.lease.drop()
	}
	for _, f := range l.cfg.Followers {
		f.Applied(message)
	}
	l.log.append(message, row.Tip)
}

// revocation converts a row to the message that watchers get.
func revocation(row db.Revocation, life time.Duration) *latchkeyv1.Revocation {
	text := func(id uuid.NullUUID) string {
		if !id.Valid {
			return ""
		}
		return id.UUID.String()
	}
	return &latchkeyv1.Revocation{
		Position:        row.Seq,
		Kind:            kindOf(row.Kind),
		UserId:          text(row.UserID),
		SessionId:       text(row.SessionID),
		ExceptSessionId: text(row.ExceptSessionID),
		KeyId:           row.KeyID.String,
		CreateTime:      timestamppb.New(row.CreatedAt),
		ExpireTime:      timestamppb.New(row.CreatedAt.Add(life + margin)),
		Reason:          reasonOf(row.Reason),
	}
}

// reasonOf returns no reason for one that only a newer version knows: nothing depends on it here.
func reasonOf(name string) latchkeyv1.RevocationReason {
	if name == "user_deleted" {
		return latchkeyv1.RevocationReason_REVOCATION_REASON_USER_DELETED
	}
	return latchkeyv1.RevocationReason_REVOCATION_REASON_UNSPECIFIED
}

func kindOf(name string) latchkeyv1.RevocationKind {
	switch name {
	case "session":
		return latchkeyv1.RevocationKind_REVOCATION_KIND_SESSION
	case "user":
		return latchkeyv1.RevocationKind_REVOCATION_KIND_USER
	case "all":
		return latchkeyv1.RevocationKind_REVOCATION_KIND_ALL
	case "key":
		return latchkeyv1.RevocationKind_REVOCATION_KIND_KEY
	case "user_changed":
		return latchkeyv1.RevocationKind_REVOCATION_KIND_USER_CHANGED
	case "keys_changed":
		return latchkeyv1.RevocationKind_REVOCATION_KIND_KEYS_CHANGED
	}
	return latchkeyv1.RevocationKind_REVOCATION_KIND_UNSPECIFIED
}
