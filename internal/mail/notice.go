package mail

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
)

const (
	// For a notice, noticeExtra more attempts follow the first ones, with a pause of noticeWait.
	noticeExtra = 24
	noticeWait  = time.Hour
	// strangeWait is the pause after which a notice of an unknown kind is tried again: it belongs to a replica of a
	// newer version. strangeAge is the age at which no such replica is expected any more.
	strangeWait = time.Minute
	strangeAge  = 24 * time.Hour
)

// Notice is what happened to an account. The values are in rows that are older than this version, and in the names of
// templates: add values, but never change one.
type Notice string

// The notices. A mail says what happened, when, and what to do. It has no text that the client who caused it has
// chosen.
const (
	// PasswordChanged: the password was changed and sessions were ended. It is always sent.
	PasswordChanged Notice = "password_changed"
	// RefreshTokenReused: a spent refresh token was shown again, and its session was ended.
	RefreshTokenReused Notice = "refresh_token_reused"
	// PasswordLoginClosed: after too many wrong passwords in a row, no password is checked until a reset.
	PasswordLoginClosed Notice = "password_login_closed"
	// PasswordClientClosed: after too many wrong passwords in a row from one device or session, no more of its
	// passwords are checked.
	PasswordClientClosed Notice = "password_client_closed"
	// LoginsLimited: many wrong passwords were tried, and logins are limited now.
	LoginsLimited Notice = "logins_limited"
	// NewDeviceLogin: somebody logged in from a client that is new to the account.
	NewDeviceLogin Notice = "new_device_login"
	// SignUpAttempted: somebody tried to sign up with the address of this account.
	SignUpAttempted Notice = "sign_up_attempted"
	// FactorAdded, FactorRemoved and RecoveryCodesReplaced: the second factors of the account were changed. They are
	// always sent; the number of changes is limited.
	FactorAdded           Notice = "factor_added"
	FactorRemoved         Notice = "factor_removed"
	RecoveryCodesReplaced Notice = "recovery_codes_replaced"
	// RecoveryCodeUsed: somebody used a recovery code. It is always sent: an account has ten codes.
	RecoveryCodeUsed Notice = "recovery_code_used"
	// PasskeyAdded and PasskeyRemoved are always sent, for the same reason as FactorAdded.
	PasskeyAdded   Notice = "passkey_added"
	PasskeyRemoved Notice = "passkey_removed"
	// DeletionRequested: the account will be deleted, and can be kept until then. DeletionCancelled: it is kept.
	// AccountDeleted: it is gone. They are always sent; the number of deletions is limited.
	DeletionRequested Notice = "deletion_requested"
	DeletionCancelled Notice = "deletion_cancelled"
	AccountDeleted    Notice = "account_deleted"
	// EmailVerifiedByOperator: an operator marked the address as proved. It is always sent.
	EmailVerifiedByOperator Notice = "email_verified_by_operator"
	// FactorsLimited: somebody who knows the password tried many wrong codes.
	FactorsLimited Notice = "factors_limited"
	// EmailChangeRequested: somebody with a session asked for another address. Nothing has changed yet.
	EmailChangeRequested Notice = "email_change_requested"
	// EmailChanged, EmailChangeUndone and EmailChangedByOperator: the account has another address. They are always sent,
	// also to the address that it had before; the number of changes is limited.
	EmailChanged           Notice = "email_changed"
	EmailChangeUndone      Notice = "email_change_undone"
	EmailChangedByOperator Notice = "email_changed_by_operator"
)

// isAlwaysSent returns whether a notice is sent however many of its kind there were lately.
func (n Notice) isAlwaysSent() bool {
	switch n {
	case PasswordChanged, FactorAdded, FactorRemoved, RecoveryCodesReplaced, RecoveryCodeUsed, PasskeyAdded, PasskeyRemoved,
		DeletionRequested, DeletionCancelled, AccountDeleted, EmailVerifiedByOperator,
		EmailChanged, EmailChangeUndone, EmailChangedByOperator:
		return true
	case RefreshTokenReused, PasswordLoginClosed, PasswordClientClosed, LoginsLimited, NewDeviceLogin, SignUpAttempted, FactorsLimited,
		EmailChangeRequested:
	}
	return false
}

// subject returns "" for a kind that this version does not know.
func (n Notice) subject(product string) string {
	switch n {
	case PasswordChanged:
		return "Your password for " + product + " was changed"
	case RefreshTokenReused:
		return "A session of your account at " + product + " was signed out"
	case PasswordLoginClosed:
		return "Reset your password to sign in to " + product
	case PasswordClientClosed:
		return "Many wrong passwords came from a device of yours at " + product
	case LoginsLimited:
		return "Wrong passwords were tried for your account at " + product
	case NewDeviceLogin:
		return "New sign-in to your account at " + product
	case SignUpAttempted:
		return "You already have an account at " + product
	case FactorAdded:
		return "Your account at " + product + " now has a second factor"
	case FactorRemoved:
		return "A second factor of your account at " + product + " was removed"
	case RecoveryCodesReplaced:
		return "New recovery codes for your account at " + product
	case RecoveryCodeUsed:
		return "A recovery code of your account at " + product + " was used"
	case PasskeyAdded:
		return "Your account at " + product + " now has a passkey"
	case PasskeyRemoved:
		return "A passkey of your account at " + product + " was removed"
	case DeletionRequested:
		return "Your account at " + product + " will be deleted"
	case DeletionCancelled:
		return "Your account at " + product + " will not be deleted"
	case AccountDeleted:
		return "Your account at " + product + " was deleted"
	case EmailVerifiedByOperator:
		return "Your email address for " + product + " was confirmed"
	case FactorsLimited:
		return "Somebody knows your password for " + product
	case EmailChangeRequested:
		return "A new email address was asked for at " + product
	case EmailChanged, EmailChangedByOperator:
		return "The email address of your account at " + product + " was changed"
	case EmailChangeUndone:
		return "The email address of your account at " + product + " was changed back"
	}
	return ""
}

func (n Notice) known() bool { return n.subject("") != "" }

type noticeArgs struct {
	Notice     Notice    `json:"notice"`
	UserID     uuid.UUID `json:"user_id"`
	HappenedAt time.Time `json:"happened_at"`
	TraceID    string    `json:"trace_id,omitempty"`
	// Until is for [DeletionRequested].
	Until time.Time `json:"until,omitzero"`
}

// Kind names the job in the table.
func (noticeArgs) Kind() string { return "notice" }

// changedArgs are the arguments that earlier versions insert for [PasswordChanged].
type changedArgs struct {
	UserID    uuid.UUID `json:"user_id"`
	ChangedAt time.Time `json:"changed_at"`
	TraceID   string    `json:"trace_id,omitempty"`
}

// Kind names the job in the table.
func (changedArgs) Kind() string { return "password_changed" }

type noticeWorker struct {
	river.WorkerDefaults[noticeArgs]
	d *delivery
}

// NextRetry returns the time after the next wait: first the configured waits, then an hour each.
func (w *noticeWorker) NextRetry(job *river.Job[noticeArgs]) time.Time {
	return w.d.nextRetry(job.Attempt)
}

// Work sends the notice, unless the account no longer exists.
func (w *noticeWorker) Work(ctx context.Context, job *river.Job[noticeArgs]) error {
	return w.d.sendNotice(ctx, job.JobRow, job.Args)
}

type changedWorker struct {
	river.WorkerDefaults[changedArgs]
	d *delivery
}

// NextRetry returns the time after the next wait: first the configured waits, then an hour each.
func (w *changedWorker) NextRetry(job *river.Job[changedArgs]) time.Time {
	return w.d.nextRetry(job.Attempt)
}

// Work sends the notice, unless the account no longer exists.
func (w *changedWorker) Work(ctx context.Context, job *river.Job[changedArgs]) error {
	return w.d.sendNotice(ctx, job.JobRow, noticeArgs{
		Notice: PasswordChanged, UserID: job.Args.UserID, HappenedAt: job.Args.ChangedAt, TraceID: job.Args.TraceID,
	})
}

func (d *delivery) sendNotice(ctx context.Context, job *rivertype.JobRow, notice noticeArgs) error {
	return d.attempt(ctx, job, notice.TraceID, func() error {
		to, ok, err := d.accounts.Address(ctx, notice.UserID)
		if err != nil {
			return d.lookupFailed(ctx, job, notice.TraceID, err)
		}
		if !ok {
			return nil
		}
		m, known, err := d.letters.notice(notice, to, d.now())
		switch {
		case err != nil:
			return err
		case !known && time.Since(job.CreatedAt) > strangeAge:
			return river.JobCancel(errStrange)
		case !known:
			return river.JobSnooze(strangeWait)
		}
		return d.send(ctx, m)
	})
}
