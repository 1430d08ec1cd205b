package userimport

import (
	"context"
	"time"
)

// ReadAll reads and checks all records and returns how many are accounts.
func ReadAll(ctx context.Context, source Source, now time.Time) int {
	n := 0
	for {
		b := nextBatch(ctx, source, checker{now: now})
		n += len(b.accounts)
		if b.err != nil {
			return n
		}
	}
}
