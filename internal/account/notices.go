package account

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/mail"
)

// The limits of one kind of notice for one account.
const (
	noticeGap       = time.Hour
	noticeWindow    = 24 * time.Hour
	noticesInWindow = 5
)

// AdmitNotice implements mail.Accounts. It admits one notice of a kind for an account in an hour and five in a day,
// over all replicas.
func (r Resets) AdmitNotice(ctx context.Context, tx pgx.Tx, notice mail.Notice, userID uuid.UUID) (bool, error) {
	counted, err := db.New().AdmitNotice(ctx, tx, db.AdmitNoticeParams{
		UserID: userID, Kind: string(notice), Now: r.Now(),
		GapSeconds: noticeGap.Seconds(), WindowSeconds: noticeWindow.Seconds(), WindowLimit: noticesInWindow,
	})
	return counted == 1, err
}
