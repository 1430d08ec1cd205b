package userimport

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/postgres"
)

// attempts is how often a batch is tried that other programs' transactions stand in the way of. Batches are
// sorted, so that two imports wait for each other instead.
const attempts = 5

// writer writes batches, one at a time.
type writer struct {
	cfg     Config
	queries *db.Queries
	seen    *seen
	counts  Counts
	// lookFirst says that most of the last batch was there: the next one is looked up before anything is sent
	// to be written, which is several times faster.
	lookFirst bool
}

func newWriter(cfg Config) *writer {
	if cfg.Remember == 0 {
		cfg.Remember = DefaultRemember
	}
	return &writer{cfg: cfg, queries: db.New(), seen: newSeen(cfg.Remember)}
}

// write writes a batch, counts it and reports the records that were not taken.
func (w *writer) write(ctx context.Context, b *batch) error {
	if len(b.accounts) > 0 {
		if err := w.writeAccounts(ctx, b); err != nil {
			return err
		}
	}
	w.report(b)
	return nil
}

func (w *writer) writeAccounts(ctx context.Context, b *batch) error {
	slices.SortFunc(b.accounts, func(x, y account) int { return strings.Compare(x.lookup, y.lookup) })
	left, existing := b.accounts, int64(0)
	settle := func() error {
		held, err := w.holders(ctx, left)
		if err != nil {
			return err
		}
		var free []account
		for _, a := range left {
			reason, exists := held.of(a)
			switch {
			case !exists && reason == "":
				free = append(free, a)
			case w.seen.has(a.lookup):
				b.refused = append(b.refused, refuse(a, "an earlier record has this address"))
			case reason != "":
				b.refused = append(b.refused, refuse(a, reason))
			default:
				existing++
				w.seen.add(a.lookup)
			}
		}
		left = free
		return nil
	}
	if w.lookFirst || w.cfg.DryRun {
		if err := settle(); err != nil {
			return err
		}
	}
	// What was neither made nor found was deleted in between, and is free now.
	for try := 0; len(left) > 0 && !w.cfg.DryRun; try++ {
		if try == attempts {
			return fmt.Errorf("records %d and others: another program makes and deletes the same accounts", left[0].number)
		}
		created, err := w.insert(ctx, left)
		if err != nil {
			return err
		}
		left = w.countCreated(left, created)
		if len(left) > 0 {
			if err := settle(); err != nil {
				return err
			}
		}
	}
	if w.cfg.DryRun {
		w.countDry(b, left)
	}
	w.counts.Existing += existing
	w.lookFirst = existing > int64(len(b.accounts)/2)
	return nil
}

// countCreated counts those that were made and returns the others.
func (w *writer) countCreated(tried []account, created map[uuid.UUID]bool) []account {
	var left []account
	for _, a := range tried {
		if !created[a.id] {
			left = append(left, a)
			continue
		}
		w.counts.Created++
		w.seen.add(a.lookup)
	}
	return left
}

// countDry counts what would be made. What an earlier batch would have made is not in the table.
func (w *writer) countDry(b *batch, free []account) {
	for _, a := range free {
		switch {
		case w.seen.has(a.lookup):
			b.refused = append(b.refused, refuse(a, "an earlier record has this address"))
		case a.idGiven && w.seen.has(a.id.String()):
			b.refused = append(b.refused, refuse(a, "an earlier record has this id"))
		default:
			w.counts.Created++
			w.seen.add(a.lookup)
			if a.idGiven {
				w.seen.add(a.id.String())
			}
		}
	}
}

func refuse(a account, reason string) Refusal { return Refusal{a.number, a.email, reason} }

// insert makes the accounts that are not there, in one transaction, and returns the identifiers of those that
// it made.
func (w *writer) insert(ctx context.Context, accounts []account) (map[uuid.UUID]bool, error) {
	params := db.ImportUsersParams{Now: w.cfg.Now()}
	for _, a := range accounts {
		params.Ids = append(params.Ids, a.id)
		params.Emails = append(params.Emails, a.email)
		params.EmailLookups = append(params.EmailLookups, a.lookup)
		params.PasswordHashes = append(params.PasswordHashes, a.hash)
		params.FirstNames = append(params.FirstNames, a.first)
		params.LastNames = append(params.LastNames, a.last)
		params.CreatedAts = append(params.CreatedAts, a.created)
		params.LastLoginAts = append(params.LastLoginAts, a.lastLogin)
		params.AreActive = append(params.AreActive, a.active)
		params.AreVerified = append(params.AreVerified, a.verified)
	}
	for try := 1; ; try++ {
		var ids []uuid.UUID
		err := postgres.InTx(ctx, w.cfg.Pool, func(tx pgx.Tx) error {
			var err error
			ids, err = w.queries.ImportUsers(ctx, tx, params)
			return err
		})
		if err == nil {
			created := make(map[uuid.UUID]bool, len(ids))
			for _, id := range ids {
				created[id] = true
			}
			return created, nil
		}
		if !inTheWay(err) || try == attempts {
			return nil, fmt.Errorf("write records %d and others: %w", accounts[0].number, err)
		}
		select {
		case <-time.After(time.Duration(try) * 50 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// inTheWay says that nothing was written because of another transaction: a deadlock, or a conflict between
// serializable ones.
func inTheWay(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "40P01" || pg.Code == "40001")
}

// holders are accounts of the table that hold what some records have.
type holders struct {
	byEmail, byLookup map[string]uuid.UUID
	ids               map[uuid.UUID]bool
}

func (w *writer) holders(ctx context.Context, accounts []account) (holders, error) {
	var params db.HoldersOfParams
	for _, a := range accounts {
		params.Emails = append(params.Emails, a.email)
		params.EmailLookups = append(params.EmailLookups, a.lookup)
		if a.idGiven {
			params.Ids = append(params.Ids, a.id)
		}
	}
	rows, err := w.queries.HoldersOf(ctx, w.cfg.Pool, params)
	if err != nil {
		return holders{}, fmt.Errorf("look up records %d and others: %w", accounts[0].number, err)
	}
	h := holders{map[string]uuid.UUID{}, map[string]uuid.UUID{}, map[uuid.UUID]bool{}}
	for _, row := range rows {
		h.byEmail[row.Email] = row.ID
		if row.EmailLookup.Valid {
			h.byLookup[row.EmailLookup.String] = row.ID
		}
		h.ids[row.ID] = true
	}
	return h, nil
}

// of says whether the account is there, or why it cannot be made. Its hash and names play no part: they
// change once their owner uses the account.
func (h holders) of(a account) (reason string, exists bool) {
	if id, ok := h.byEmail[a.email]; ok {
		if a.idGiven && id != a.id {
			return "the address is held by another account, " + id.String(), false
		}
		return "", true
	}
	if id, ok := h.byLookup[a.lookup]; ok {
		if a.idGiven && id == a.id {
			return "", true
		}
		return "the address differs in letter case only from that of another account, " + id.String(), false
	}
	if a.idGiven && h.ids[a.id] {
		return "the id is held by an account with another address", false
	}
	return "", false
}
