// Package takeover checks the database and the Redis of an older backend and reports what Latchkey would change, the
// decisions that it cannot make alone, and the problems that prevent a takeover. Check only reads. Hold is a small
// write that the migrations do not make.
package takeover

import (
	"time"

	"github.com/google/uuid"
)

// Status summarises a report.
type Status string

// Statuses; the graver one wins.
const (
	// Clear means that the takeover can continue, or is done.
	Clear Status = "clear"
	// Decisions means that it can continue, but somebody should look at the decisions first.
	Decisions Status = "decisions"
	// Failed means that a problem has to be solved first.
	Failed Status = "error"
)

// Report has the findings of Check. Its JSON form is the output of `latchkey takeover check --json`: fields are added,
// none is renamed or removed.
type Report struct {
	Status Status `json:"status"`
	// Applied means that every migration is in the database already.
	Applied  bool      `json:"applied"`
	Database *Database `json:"database"` // nil: could not be read
	Redis    *Redis    `json:"redis"`    // nil: could not be read, or none is set
	Settings Settings  `json:"settings"`
	// Decisions are the groups of accounts that share an address which none of them holds so far; Held are the groups
	// in which one account holds it. At most 1,000 of each are listed.
	Decisions      []Group `json:"decisions"`
	DecisionsTotal int64   `json:"decisions_total"`
	Held           []Group `json:"held"`
	HeldTotal      int64   `json:"held_total"`
	// Problems prevent the takeover. Warnings do not.
	Problems []Finding `json:"problems"`
	Warnings []Finding `json:"warnings"`
	// Steps are the steps of apply, in its order.
	Steps []Step `json:"steps"`
	// Blockers are the transactions that would make a step wait now.
	Blockers []Blocker `json:"blockers"`
	// Next says in one line what to do.
	Next string `json:"next"`
}

// Finding is one thing that is wrong, or that the operator should know.
type Finding struct {
	// Code names the kind, for scripts.
	Code string `json:"code"`
	// Text names the fault and its place, without any secret.
	Text string `json:"text"`
	// Right describes the right state, or helps to reach it.
	Right string `json:"right,omitempty"`
	// SQL mends it, if statements can: run it as the owner of users. It may hold several statements.
	SQL string `json:"sql,omitempty"`
	// Count is how many accounts, keys or tokens it concerns.
	Count int64 `json:"count,omitempty"`
	// IDs are the first accounts that it concerns, at most five.
	IDs []string `json:"ids,omitempty"`
}

// Database describes the content of the database.
type Database struct {
	Name   string `json:"name"`
	Schema string `json:"schema"`
	Role   string `json:"role"`
	// Version is PostgreSQL's own number, such as 150018.
	Version int `json:"version"`
	// AccountsRead means that users exists, fits and was read. Otherwise Accounts is zero and means nothing.
	AccountsRead bool     `json:"accounts_read"`
	Accounts     Accounts `json:"accounts"`
	// Records are the records of migrations that were found. They show whose database it is.
	Records []Record `json:"records"`
	// Tables are the first 20 tables and views of the database, and TablesTotal counts them. They are set if there is
	// no usable table users.
	Tables      []string `json:"tables,omitempty"`
	TablesTotal int64    `json:"tables_total,omitempty"`
	// TableBytes is the size of users with its indexes.
	TableBytes int64 `json:"table_bytes"`
}

// Record is a table in which a program records its migrations.
type Record struct {
	// Table is its name, Program the program that writes it.
	Table   string `json:"table"`
	Program string `json:"program"`
	// Version is the newest version in it; 0: none.
	Version int64 `json:"version"`
}

// Accounts counts them.
type Accounts struct {
	Total         int64      `json:"total"`
	Disabled      int64      `json:"disabled"`
	Verified      int64      `json:"verified"`
	NeverLoggedIn int64      `json:"never_logged_in"`
	Hashes        []HashKind `json:"hashes"` // most frequent first
}

// HashKind is one kind of password hash with its parameters.
type HashKind struct {
	Kind     string `json:"kind"`
	Count    int64  `json:"count"`
	Unusable int64  `json:"unusable"`
}

// Group is two or more accounts whose addresses differ only in letter case or in their Unicode form. Each of them logs
// in with its exact address; the holder logs in with every other spelling too.
type Group struct {
	// Address is the form in which addresses are compared.
	Address string `json:"address"`
	// Holder holds the address, or will hold it unless somebody decides otherwise: the oldest account.
	Holder   uuid.UUID `json:"holder"`
	Accounts []Account `json:"accounts"` // oldest first
}

// Account is one account of a group.
type Account struct {
	ID        uuid.UUID  `json:"id"`
	Email     string     `json:"email"`
	CreatedAt time.Time  `json:"created_at"`
	LastLogin *time.Time `json:"last_login_at"`
	Active    bool       `json:"is_active"`
	Verified  bool       `json:"is_verified"`
}

// Redis counts the keys that the backends left.
type Redis struct {
	Keys          int64   `json:"keys"`
	GoRefresh     Refresh `json:"go_refresh_tokens"`
	RustRefresh   Refresh `json:"rust_refresh_tokens"`
	GoResets      int64   `json:"go_reset_tokens"`
	RustResets    int64   `json:"rust_reset_tokens"`
	LoginAttempts int64   `json:"login_attempts"`
	// LockedOut of LoginAttempts have used up all of their attempts.
	LockedOut int64 `json:"login_attempts_at_limit"`
	// Latchkey counts Latchkey's own keys, Unknown those of other programs.
	Latchkey int64 `json:"latchkey"`
	Unknown  int64 `json:"unknown"`
	// Patterns has the first part of the unknown ones, at most 20 of them.
	Patterns []Pattern `json:"unknown_patterns"`
	// Unreadable counts keys with a known name and a value that neither backend writes.
	Unreadable int64 `json:"unreadable"`
	// WithoutTTL counts keys that would stay for ever: the backends give every key a life.
	WithoutTTL int64 `json:"without_ttl"`

	longest map[string]time.Duration // lives, by the first part of the names
}

// Refresh counts the refresh tokens of one backend.
type Refresh struct {
	Total int64 `json:"total"`
	// UnknownUser and DisabledUser count those of Total that nobody can use.
	UnknownUser  int64 `json:"unknown_user"`
	DisabledUser int64 `json:"disabled_user"`
	// Genuine counts those of Total that are signed with the secret that is set. Nil: not known.
	Genuine *int64 `json:"genuine"`
}

// Pattern is a part of names and how many keys begin with it.
type Pattern struct {
	Prefix string `json:"prefix"`
	Count  int64  `json:"count"`
}

// Settings has the values of LATCHKEY_LEGACY_*.
type Settings struct {
	Enabled     bool       `json:"enabled"`
	GoKey       bool       `json:"go_public_key"`
	GoSigning   bool       `json:"go_private_key"`
	RustSecret  bool       `json:"rust_secret"`
	AcceptUntil *time.Time `json:"accept_until"`
}

// Step is one thing that apply does.
type Step struct {
	// Migration is the file of the step.
	Migration string `json:"migration"`
	Does      string `json:"does"`
	// Lock is the lock on users, in PostgreSQL's words; "" if users is not locked.
	Lock string `json:"lock"`
	// Restart names the programs that must be restarted after it; "": none.
	Restart string `json:"restart,omitempty"`
	// Blocks names those that wait while the lock is held.
	Blocks string `json:"blocks"`
	// Seconds is an estimate of how long the step takes and, if Lock is set, of how long the lock is held. Row locks
	// are held for one batch only.
	Seconds float64 `json:"seconds"`
}

// Blocker is a transaction that a step would wait for.
type Blocker struct {
	PID         int32  `json:"pid"` // 0: a prepared transaction
	Application string `json:"application"`
	State       string `json:"state"`
	// Seconds is its age.
	Seconds float64 `json:"seconds"`
	// LocksUsers means that it has a lock on users; other transactions delay only the index.
	LocksUsers bool `json:"locks_users"`
}

func (r *Report) problem(code, text, right string) {
	r.Problems = append(r.Problems, Finding{Code: code, Text: text, Right: right})
}

// mendable adds a problem that the statements in sql solve.
func (r *Report) mendable(text, right, sql string) {
	r.Problems = append(r.Problems, Finding{Code: "foreign_schema", Text: text, Right: right, SQL: sql})
}

func (r *Report) warn(f Finding) { r.Warnings = append(r.Warnings, f) }

// conclude sets the fields that follow from the findings.
func (r *Report) conclude() {
	switch {
	case len(r.Problems) > 0:
		r.Status = Failed
		r.Next = "solve the problems above and run `latchkey takeover check` again"
	case r.DecisionsTotal > 0 && r.Applied:
		r.Status = Decisions
		r.Next = "run `latchkey takeover apply`: the oldest account of each group then holds the address, or another one with `--holder USER_ID`"
	case r.DecisionsTotal > 0:
		r.Status = Decisions
		r.Next = "decide which accounts hold the shared addresses, then run `latchkey takeover apply` (with `--holder USER_ID` for each that is not the oldest)"
	case r.Applied:
		r.Status = Clear
		r.Next = "the database is ready: start `latchkey serve`"
	default:
		r.Status = Clear
		r.Next = "run `latchkey takeover apply`"
	}
}
