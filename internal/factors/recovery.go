package factors

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"

	"github.com/latchkey-auth/latchkey/gen/db"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/audit"
	"github.com/latchkey-auth/latchkey/internal/mail"
	"github.com/latchkey-auth/latchkey/internal/recoverycode"
	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/internal/revoke"
)

// RegenerateCodes returns new recovery codes. Those before are not good any more.
func (f *Flow) RegenerateCodes(ctx context.Context, by revoke.Authority) ([]string, error) {
	if err := f.cfg.Redis.Allow(ctx, changesScope, by.UserID.String(), changesRate()); err != nil {
		return nil, err
	}
	return change(ctx, f, by, func(ctx context.Context, tx pgx.Tx, second []db.Factor) ([]string, error) {
		if len(second) == 0 {
			return nil, refusal.New(codes.FailedPrecondition, latchkeyv1.ErrorReason_ERROR_REASON_FACTOR_REQUIRED,
				"the account has no second factor for which recovery codes could stand in: enrol one first")
		}
		made, err := f.replaceCodes(ctx, tx, by.UserID)
		if err != nil {
			return nil, err
		}
		return made, f.note(ctx, tx, by, audit.RecoveryCodesReplaced, mail.RecoveryCodesReplaced)
	})
}

// replaceCodes makes new recovery codes for an account, which is locked, and returns them as they are shown.
func (f *Flow) replaceCodes(ctx context.Context, tx pgx.Tx, userID uuid.UUID) ([]string, error) {
	if _, err := f.queries.DeleteRecoverySet(ctx, tx, userID); err != nil {
		return nil, fmt.Errorf("remove the codes before: %w", err)
	}
	id, key := uuid.New(), recoverycode.NewKey()
	err := f.queries.ReplaceRecoverySet(ctx, tx, db.ReplaceRecoverySetParams{
		UserID: userID, ID: id, SealedKey: f.cfg.Sealer.Seal(codesPlace(id), key), Now: f.cfg.Now(),
	})
	if err != nil {
		return nil, fmt.Errorf("keep the recovery codes: %w", err)
	}
	var shown []string
	params := db.CreateRecoveryCodesParams{UserID: userID}
	for _, code := range recoverycode.New() {
		shown = append(shown, code.Text())
		params.CodeHashes = append(params.CodeHashes, recoverycode.Hash(key, code))
	}
	if err := f.queries.CreateRecoveryCodes(ctx, tx, params); err != nil {
		return nil, fmt.Errorf("keep the recovery codes: %w", err)
	}
	return shown, nil
}

// codesPlace is the place of the key of recovery codes for the Sealer. It is stored with the key: do not change it.
func codesPlace(setID uuid.UUID) string { return "recovery_sets.sealed_key " + setID.String() }
