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
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
)

// attempts is how often a batch is tried if transactions of other programs make it fail. Batches are sorted, so that
// two imports wait for each other instead.
const attempts = 5

// writer writes batches, one at a time.
type writer struct {
	cfg     Config
	queries *db.Queries
	seen    *seen
	counts  Counts
	// lookFirst says that most accounts of the last batch existed. The next batch is then looked up before it is sent,
	// which is several times faster.
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
	found := &existing{}
	left, err := w.withoutReserved(ctx, b, b.accounts)
	if err != nil {
		return err
	}
	if w.lookFirst || w.cfg.DryRun {
		if left, err = w.findExisting(ctx, b, left, found); err != nil {
			return err
		}
	}
	// Accounts that were neither made nor found were deleted in between, so their addresses are free now.
	for try := 0; len(left) > 0 && !w.cfg.DryRun; try++ {
		if try == attempts {
			return fmt.Errorf("records %d and others: another program makes and deletes the same accounts", left[0].number)
		}
		created, err := w.insert(ctx, left)
		if errors.Is(err, errReserved) {
			if left, err = w.withoutReserved(ctx, b, left); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if left = w.countCreated(left, created); len(left) == 0 {
			break
		}
		if left, err = w.findExisting(ctx, b, left, found); err != nil {
			return err
		}
	}
	if w.cfg.DryRun {
		w.countDry(b, left)
	}
	w.counts.Existing += found.count
	w.lookFirst = found.count > int64(len(b.accounts)/2)
	return w.fill(ctx, found.fill)
}

// errReserved means that a change of address, which came at the same time, has given up an address and may take it back.
var errReserved = errors.New("userimport: an address is reserved")

// withoutReserved refuses the records with addresses that an account had lately and may take back, and returns the others.
func (w *writer) withoutReserved(ctx context.Context, b *batch, accounts []account) ([]account, error) {
	reserved, err := w.queries.ReservedAddresses(ctx, w.cfg.Pool, db.ReservedAddressesParams{Addresses: lookups(accounts), Now: w.cfg.Now()})
	if err != nil {
		return nil, fmt.Errorf("look up records %d and others: %w", accounts[0].number, err)
	}
	if len(reserved) == 0 {
		return accounts, nil
	}
	var free []account
	for _, a := range accounts {
		if slices.Contains(reserved, a.lookup) {
			b.refused = append(b.refused, refuse(a, "another account had this address lately, and may take it back"))
			continue
		}
		free = append(free, a)
	}
	return free, nil
}

func lookups(accounts []account) []string {
	list := make([]string, len(accounts))
	for i, a := range accounts {
		list[i] = a.lookup
	}
	return list
}

// existing are the accounts of a batch that existed: their number, and the passwords for those without one.
type existing struct {
	count int64
	fill  []db.FillPasswordsParams
}

// findExisting finds the accounts that exist, refuses records that conflict with them, and returns the others.
func (w *writer) findExisting(ctx context.Context, b *batch, accounts []account, found *existing) ([]account, error) {
	held, err := w.holders(ctx, accounts)
	if err != nil {
		return nil, err
	}
	var free []account
	for _, a := range accounts {
		holder, reason := held.of(a)
		switch {
		case holder.id == uuid.Nil && reason == "":
			free = append(free, a)
		case w.seen.has(a.lookup):
			b.refused = append(b.refused, refuse(a, "an earlier record has this address"))
		case reason != "":
			b.refused = append(b.refused, refuse(a, reason))
		default:
			found.count++
			w.seen.add(a.lookup)
			if w.cfg.Fill && holder.withoutPassword && a.hash != password.None {
				found.fill = append(found.fill, db.FillPasswordsParams{ID: holder.id, PasswordHash: a.hash})
			}
		}
	}
	return free, nil
}

// fill gives passwords to accounts without one, and counts those that still had none.
func (w *writer) fill(ctx context.Context, passwords []db.FillPasswordsParams) error {
	if len(passwords) == 0 || w.cfg.DryRun {
		w.counts.Filled += int64(len(passwords))
		return nil
	}
	var filled int64
	err := w.inTx(ctx, func(tx pgx.Tx) error {
		filled = 0
		// Otherwise the trigger that revokes would run at the commit, when the setting is that of the last account.
		if _, err := tx.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE"); err != nil {
			return err
		}
		hashes := make([]string, len(passwords))
		for i, p := range passwords {
			hashes[i] = p.PasswordHash
		}
		if err := w.notePeppers(ctx, tx, hashes); err != nil {
			return err
		}
		var failed error
		w.queries.FillPasswords(ctx, tx, passwords).QueryRow(func(_ int, _ uuid.UUID, err error) {
			switch {
			case err == nil:
				filled++
			case !errors.Is(err, pgx.ErrNoRows) && failed == nil:
				failed = err
			}
		})
		return failed
	})
	if err != nil {
		return fmt.Errorf("write passwords: %w", err)
	}
	w.counts.Filled += filled
	return nil
}

// countCreated counts the accounts that were made and returns the others.
func (w *writer) countCreated(tried []account, created map[uuid.UUID]bool) []account {
	var left []account
	for _, a := range tried {
		if !created[a.id] {
			left = append(left, a)
			continue
		}
		w.countOne(a)
	}
	return left
}

// countOne counts an account that was made, or would have been.
func (w *writer) countOne(a account) {
	w.counts.Created++
	if a.hash == password.None {
		w.counts.WithoutPassword++
	}
	w.seen.add(a.lookup)
}

// countDry counts the accounts that would be made. Those that an earlier batch would have made are not in the table.
func (w *writer) countDry(b *batch, free []account) {
	for _, a := range free {
		switch {
		case w.seen.has(a.lookup):
			b.refused = append(b.refused, refuse(a, "an earlier record has this address"))
		case a.idGiven && w.seen.has(a.id.String()):
			b.refused = append(b.refused, refuse(a, "an earlier record has this id"))
		default:
			w.countOne(a)
			if a.idGiven {
				w.seen.add(a.id.String())
			}
		}
	}
}

func refuse(a account, reason string) Refusal { return Refusal{a.number, a.email, reason} }

// insert makes the missing accounts in one transaction, and returns the identifiers of those that it made.
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
	var ids []uuid.UUID
	err := w.inTx(ctx, func(tx pgx.Tx) error {
		err := w.notePeppers(ctx, tx, params.PasswordHashes)
		if err == nil {
			ids, err = w.queries.ImportUsers(ctx, tx, params)
		}
		if err != nil || len(ids) == 0 {
			return err
		}
		// After the insert, which may have waited for a change of address.
		reserved, err := w.queries.ReservedAddresses(ctx, tx, db.ReservedAddressesParams{Addresses: params.EmailLookups, Now: params.Now})
		if err == nil && len(reserved) > 0 {
			err = errReserved
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("write records %d and others: %w", accounts[0].number, err)
	}
	created := make(map[uuid.UUID]bool, len(ids))
	for _, id := range ids {
		created[id] = true
	}
	return created, nil
}

// notePeppers notes which peppers these hashes name, in the order of their IDs, so that two imports cannot wait for
// each other.
func (w *writer) notePeppers(ctx context.Context, tx pgx.Tx, hashes []string) error {
	var ids []string
	for _, hash := range hashes {
		if id := password.PepperOf(hash); id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	return w.queries.NoteImportedPeppers(ctx, tx, ids)
}

// inTx runs do in a transaction, and repeats it if another transaction made it fail.
func (w *writer) inTx(ctx context.Context, do func(pgx.Tx) error) error {
	for try := 1; ; try++ {
		err := postgres.InTx(ctx, w.cfg.Pool, do)
		if err == nil || !inTheWay(err) || try == attempts {
			return err
		}
		select {
		case <-time.After(time.Duration(try) * 50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inTheWay reports whether nothing was written because of another transaction: a deadlock, or a conflict between
// serializable ones.
func inTheWay(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && (pg.Code == "40P01" || pg.Code == "40001")
}

// holders are accounts of the table that have the address or the identifier of some records.
type holders struct {
	byEmail, byLookup map[string]holder
	ids               map[uuid.UUID]bool
}

// holder is an account of the table. The zero value is none.
type holder struct {
	id              uuid.UUID
	withoutPassword bool
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
	h := holders{map[string]holder{}, map[string]holder{}, map[uuid.UUID]bool{}}
	for _, row := range rows {
		one := holder{row.ID, row.WithoutPassword}
		h.byEmail[row.Email] = one
		if row.EmailLookup.Valid {
			h.byLookup[row.EmailLookup.String] = one
		}
		h.ids[row.ID] = true
	}
	return h, nil
}

// of returns the existing account, or the reason why it cannot be made. Hash and names do not matter: they change when
// the owner uses the account.
func (h holders) of(a account) (found holder, reason string) {
	if one, ok := h.byEmail[a.email]; ok {
		if a.idGiven && one.id != a.id {
			return holder{}, "the address is held by another account, " + one.id.String()
		}
		return one, ""
	}
	if one, ok := h.byLookup[a.lookup]; ok {
		if a.idGiven && one.id == a.id {
			return one, ""
		}
		return holder{}, "the address differs in letter case only from that of another account, " + one.id.String()
	}
	if a.idGiven && h.ids[a.id] {
		return holder{}, "the id is held by an account with another address"
	}
	return holder{}, ""
}
