package factors

import (
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// Message returns the kind as the contract has it.
func (k Kind) Message() latchkeyv1.FactorKind {
	switch k {
	case Password:
		return latchkeyv1.FactorKind_FACTOR_KIND_PASSWORD
	case TOTP:
		return latchkeyv1.FactorKind_FACTOR_KIND_TOTP
	case Passkey:
		return latchkeyv1.FactorKind_FACTOR_KIND_PASSKEY
	case RecoveryCodes:
		return latchkeyv1.FactorKind_FACTOR_KIND_RECOVERY_CODES
	}
	return latchkeyv1.FactorKind_FACTOR_KIND_UNSPECIFIED
}

// Messages returns the factors as the contract shows them to the owner of the account and to operators.
func Messages(list []Factor) []*latchkeyv1.Factor {
	messages := make([]*latchkeyv1.Factor, len(list))
	for i, f := range list {
		m := &latchkeyv1.Factor{Kind: f.Kind.Message(), Name: f.Name, Remaining: int32(f.Remaining)} //nolint:gosec // G115: at most ten
		if f.ID != uuid.Nil {
			m.Id = f.ID.String()
		}
		if !f.CreateTime.IsZero() {
			m.CreateTime = timestamppb.New(f.CreateTime)
		}
		if !f.LastUseTime.IsZero() {
			m.LastUseTime = timestamppb.New(f.LastUseTime)
		}
		messages[i] = m
	}
	return messages
}
