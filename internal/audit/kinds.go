package audit

import "slices"

// Kinds returns all kinds of events that this version writes, sorted.
func Kinds() []Kind {
	all := []Kind{
		SignedUp, SignUpAttempted, LoggedIn, LoggedOut, Reauthenticated, LoginFailed, LoginsLimited, PasswordClosed, ClientClosed,
		RefreshRepeat, RefreshCaughtUp, RefreshReused, LegacyTraded, ResetRequested, PasswordReset, PasswordChanged,
		SessionHandedOver, VerificationMailed, EmailVerified, AddressReclaimed, LoginCodeMailed, LoginCodeFailed,
		EmailChangeRequested, EmailChanged, EmailChangeUndone, UserEmailChanged,
		FactorAdded, FactorRemoved, RecoveryCodesReplaced, RecoveryCodeUsed, FactorFailed, FactorsLimited, UserFactorsRemoved,
		PasskeyAdded, PasskeyRenamed, PasskeyRemoved, PasskeyCountFellBack,
		AccountUpdated, SessionEvicted, SessionRevoked, OthersRevoked, AllLoggedOut,
		DeletionRequested, DeletionCancelled, AccountDeleted, AccountExported,
		UserSuspended, UserReactivated, UserSessionRevoked, UserSessionsRevoked, UserEmailVerified, AllSessionsRevoked,
	}
	slices.Sort(all)
	return all
}

// isOperators returns whether only operators cause events of the kind. Versions that did not record who acted wrote such
// events too.
func (k Kind) isOperators() bool {
	switch k {
	case UserSuspended, UserReactivated, UserSessionRevoked, UserSessionsRevoked, AllSessionsRevoked:
		return true
	default:
		return false
	}
}
