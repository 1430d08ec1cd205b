package server

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/caller"
	"github.com/latchkey-auth/latchkey/internal/mail"
)

// The bounds of one kind of notice for one account.
const (
	noticeGap       = time.Hour
	noticeWindow    = 24 * time.Hour
	noticesInWindow = 5
)

// noticeCountLife is how long after its last notice an account's count of them can bound
// the next one: a day, and an hour for clocks that differ.
const noticeCountLife = 25 * time.Hour

// notifyOwner queues a notice to the owner of the account in the transaction of the fact.
func (s *Server) notifyOwner(ctx context.Context, tx pgx.Tx, notice mail.Notice, userID uuid.UUID) error {
	if err := s.cfg.Mailer.Notify(ctx, tx, notice, userID, caller.From(ctx).TraceID); err != nil {
		return fmt.Errorf("queue the mail: %w", err)
	}
	return nil
}

// AdmitNotice implements mail.Accounts: one notice of a kind for an account in an hour and
// five in a day, over all replicas.
func (r Resets) AdmitNotice(ctx context.Context, tx pgx.Tx, notice mail.Notice, userID uuid.UUID) (bool, error) {
	counted, err := db.New().AdmitNotice(ctx, tx, db.AdmitNoticeParams{
		UserID: userID, Kind: string(notice), Now: r.Now(),
		GapSeconds: noticeGap.Seconds(), WindowSeconds: noticeWindow.Seconds(), WindowLimit: noticesInWindow,
	})
	return counted == 1, err
}
