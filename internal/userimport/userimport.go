// Package userimport adds accounts of other systems to the table. It checks each record, writes each batch as a whole
// or not at all, and reports every record that it refused. It does not change existing accounts, except that those
// without a password may get one. So an interrupted import can be run again and continues.
package userimport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/latchkey-auth/latchkey/internal/hashforms"
	"github.com/latchkey-auth/latchkey/internal/userfile"
)

// batchSize is how many records share a transaction, and so the time of a commit. At most four times as many are in
// memory, 10 MiB.
const batchSize = 5000

// Source is where records come from: a userfile.Reader, or a stream. Next is called from one goroutine and
// may still be under way when Run has returned because its context ended.
type Source interface {
	// Next returns the next record, or io.EOF. It is not called again after another error.
	Next() (userfile.Record, error)
}

// Refusal is a record that was refused.
type Refusal struct {
	// Number is the number of the record in its file.
	Number int64
	// Email is the address in the record, if there was one, cut to 255 characters.
	Email string
	// Reason contains nothing of the hash.
	Reason string
}

// Counts add up: Read is the sum of Created, Existing and Refused.
type Counts struct {
	Read int64
	// Created are the accounts that were made, or would have been in a dry run. WithoutPassword are those of them whose
	// owners cannot log in before they set a password.
	Created, WithoutPassword int64
	// Existing were in the table before. Filled are those of them that had no password and got that of the record, or
	// would have got it. The others were not changed.
	Existing, Filled int64
	// Refused were not imported; each has a Refusal.
	Refused int64
	// Peppered are records with a hash that was made with a pepper. They are among the others.
	Peppered int64
	// Unsaid are records with a hash whose text does not show what was hashed, as hashforms.Unsaid reports. They are
	// among the others.
	Unsaid int64
}

// Config has the settings of an import.
type Config struct {
	Pool *pgxpool.Pool
	// DryRun writes nothing; the counts and the refusals are those that an import would have.
	DryRun bool
	// Fill gives the password of a record to an existing account that has none.
	Fill bool
	// Remember bounds how many addresses of this import are remembered, at 16 bytes each. A record whose address is
	// remembered is refused as a duplicate; one whose address is no longer remembered counts as existing. Zero:
	// DefaultRemember.
	Remember int
	// Refused is called for each refused record, in the order of the records. Required.
	Refused func(Refusal)
	// Progress is called after each batch. Optional.
	Progress func(Counts)
	// HasPepper reports whether the service has a pepper that a hash names, by its ID: records with others are
	// refused. Nil: nobody knows here, and all are taken.
	HasPepper func(id string) bool
	// Hashes say how password hashes are read. The zero value: their texts show it.
	Hashes hashforms.Options
	// Now is the clock. Required.
	Now func() time.Time
}

// DefaultRemember is 64 MiB of memory at most.
const DefaultRemember = 4 << 20

// batch is some of the records, in their order.
type batch struct {
	read     int64
	unsaid   int64
	peppered int64
	accounts []account
	refused  []Refusal
	// err ends the records after this batch: io.EOF, or the reason why they cannot be read.
	err error
}

// Run imports all records of the source. It reads and checks the next batch while it writes the last one. If it fails
// or ctx ends, the accounts that the counts report have been written and stay.
func Run(ctx context.Context, cfg Config, source Source) (Counts, error) {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	batches := make(chan *batch, 1)
	go readBatches(reading, source, checker{cfg.Hashes, cfg.HasPepper, cfg.Now()}, batches)
	w := newWriter(cfg)
	for {
		select {
		case <-ctx.Done():
			return w.counts, ctx.Err()
		case b := <-batches:
			if err := w.write(ctx, b); err != nil {
				return w.counts, err
			}
			if cfg.Progress != nil {
				cfg.Progress(w.counts)
			}
			if errors.Is(b.err, io.EOF) {
				return w.counts, nil
			}
			if b.err != nil {
				return w.counts, b.err
			}
		}
	}
}

// readBatches fills batches until the source ends or ctx does.
func readBatches(ctx context.Context, source Source, rules checker, to chan<- *batch) {
	defer func() {
		// A panic in this goroutine would end the whole service.
		if value := recover(); value != nil {
			select {
			case to <- &batch{err: fmt.Errorf("panic: %v\n%s", value, debug.Stack())}:
			case <-ctx.Done():
			}
		}
	}()
	for ended := false; !ended; {
		b := nextBatch(ctx, source, rules)
		ended = b.err != nil
		select {
		case to <- b:
		case <-ctx.Done():
			return
		}
	}
}

func nextBatch(ctx context.Context, source Source, rules checker) *batch {
	b := &batch{accounts: make([]account, 0, batchSize)}
	lookups, ids := map[string]int64{}, map[[16]byte]int64{}
	for b.read < batchSize && ctx.Err() == nil {
		record, err := source.Next()
		if err != nil {
			b.err = err
			return b
		}
		b.read++
		a, err := rules.check(record)
		if err == nil {
			err = double(a, lookups, ids)
		}
		if err != nil {
			b.refused = append(b.refused, Refusal{record.Number, shortEmail(record.User.Email), err.Error()})
			continue
		}
		if hashforms.Unsaid(a.hash) {
			b.unsaid++
		}
		if a.pepper != "" {
			b.peppered++
		}
		b.accounts = append(b.accounts, a)
	}
	return b
}

// double refuses an account if another one of the batch has the same address or identifier. Those of earlier batches
// are found in the table.
func double(a account, lookups map[string]int64, ids map[[16]byte]int64) error {
	if other, ok := lookups[a.lookup]; ok {
		return fmt.Errorf("record %d has this address already", other)
	}
	if other, ok := ids[a.id]; ok && a.idGiven {
		return fmt.Errorf("record %d has this id already", other)
	}
	lookups[a.lookup] = a.number
	if a.idGiven {
		ids[a.id] = a.number
	}
	return nil
}

// report calls Refused for each refused record of the batch, in the order of the records.
func (w *writer) report(b *batch) {
	slices.SortFunc(b.refused, func(x, y Refusal) int { return int(x.Number - y.Number) })
	for _, r := range b.refused {
		w.cfg.Refused(r)
	}
	w.counts.Read += b.read
	w.counts.Unsaid += b.unsaid
	w.counts.Peppered += b.peppered
	w.counts.Refused += int64(len(b.refused))
}
