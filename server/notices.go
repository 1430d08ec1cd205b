package server

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/mail"
)

// noticeCountLife is how long after its last notice an account's count of them can bound
// the next one: a day, and an hour for clocks that differ.
const noticeCountLife = 25 * time.Hour

// notifyOwner queues a notice to the owner of the account in the transaction of the fact.
func (s *Server) notifyOwner(ctx context.Context, tx pgx.Tx, notice mail.Notice, userID uuid.UUID) error {
	if err := s.cfg.Mailer.Notify(ctx, tx, notice, userID, callFrom(ctx).traceID); err != nil {
		return fmt.Errorf("queue the mail: %w", err)
	}
	return nil
}

// AdmitNotice implements mail.Accounts: one notice of a kind for an account in an hour and
// five in a day, over all replicas. The bounds are in the query.
func (r Resets) AdmitNotice(ctx context.Context, tx pgx.Tx, notice mail.Notice, userID uuid.UUID) (bool, error) {
	counted, err := db.New().AdmitNotice(ctx, tx, db.AdmitNoticeParams{UserID: userID, Kind: string(notice), Now: r.Now()})
	return counted == 1, err
}
