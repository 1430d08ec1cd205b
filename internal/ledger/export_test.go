package ledger

import (
	"time"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// Message converts a row as the tail does before it takes the row into memory.
func Message(row db.Revocation, accessLife time.Duration) *latchkeyv1.Revocation {
	return revocation(row, accessLife)
}

// SetPageSize sets how many rows one query reads. Call it before Run.
func (l *Ledger) SetPageSize(rows int32) { l.pageSize = rows }
