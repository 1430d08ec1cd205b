package account

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/mail"
)

// The bounds of one kind of notice for one account.
const (
	noticeGap       = time.Hour
	noticeWindow    = 24 * time.Hour
	noticesInWindow = 5
)

// NoticeCountLife is how long after its last notice an account's count of them can bound
// the next one: a day, and an hour for clocks that differ.
const NoticeCountLife = 25 * time.Hour

// AdmitNotice implements mail.Accounts: one notice of a kind for an account in an hour and
// five in a day, over all replicas.
func (r Resets) AdmitNotice(ctx context.Context, tx pgx.Tx, notice mail.Notice, userID uuid.UUID) (bool, error) {
	counted, err := db.New().AdmitNotice(ctx, tx, db.AdmitNoticeParams{
		UserID: userID, Kind: string(notice), Now: r.Now(),
		GapSeconds: noticeGap.Seconds(), WindowSeconds: noticeWindow.Seconds(), WindowLimit: noticesInWindow,
	})
	return counted == 1, err
}
