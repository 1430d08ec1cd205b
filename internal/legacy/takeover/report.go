// Package takeover looks at the database and the Redis of an older backend and says
// what Latchkey would do to them, what it cannot decide alone, and what stands in the
// way. Check only reads; Hold and Settle are the two small writes that the migrations
// leave to do.
package takeover

import (
	"time"

	"github.com/google/uuid"
)

// Status sums a report up.
type Status string

// Statuses, the graver one wins.
const (
	// Clear: the takeover can go on, or is done.
	Clear Status = "clear"
	// Decisions: it can go on, and somebody should look at the decisions first.
	Decisions Status = "decisions"
	// Failed: a problem has to be solved first.
	Failed Status = "error"
)

// Report is what Check found. Its JSON form is what `latchkey takeover check --json`
// prints: fields are added, none is renamed or removed.
type Report struct {
	Status Status `json:"status"`
	// Applied says that every migration is in the database already.
	Applied  bool      `json:"applied"`
	Database *Database `json:"database"` // nil: could not be read
	Redis    *Redis    `json:"redis"`    // nil: could not be read, or none is set
	Settings Settings  `json:"settings"`
	// Decisions are the groups of accounts that share an address which none of them
	// holds so far; Held those that one of them holds. At most 1,000 of each are listed.
	Decisions      []Group `json:"decisions"`
	DecisionsTotal int64   `json:"decisions_total"`
	Held           []Group `json:"held"`
	HeldTotal      int64   `json:"held_total"`
	// Problems stop the takeover. Warnings do not.
	Problems []Finding `json:"problems"`
	Warnings []Finding `json:"warnings"`
	// Steps are what apply would do, in its order.
	Steps []Step `json:"steps"`
	// Blockers are what would make a step wait now.
	Blockers []Blocker `json:"blockers"`
	// Next says in one line what to do.
	Next string `json:"next"`
}

// Finding is one thing that is wrong, or that one should know.
type Finding struct {
	// Code names the kind, for scripts.
	Code string `json:"code"`
	// Text says what is wrong and where, without any secret.
	Text string `json:"text"`
	// Right says what would be right, or what helps.
	Right string `json:"right,omitempty"`
	// SQL mends it, where that can be said: run it as the owner of users. It may hold several statements.
	SQL string `json:"sql,omitempty"`
	// Count is how many accounts, keys or tokens it is about.
	Count int64 `json:"count,omitempty"`
	// IDs are the first accounts that it is about, at most five.
	IDs []string `json:"ids,omitempty"`
}

// Database is what the database holds.
type Database struct {
	Name   string `json:"name"`
	Schema string `json:"schema"`
	Role   string `json:"role"`
	// Version is PostgreSQL's own number, such as 150018.
	Version int `json:"version"`
	// AccountsRead says that users is there, fits and was read: without it Accounts is zero and means nothing.
	AccountsRead bool     `json:"accounts_read"`
	Accounts     Accounts `json:"accounts"`
	// Records are the records of migrations that were found: whose database it is.
	Records []Record `json:"records"`
	// Tables are the first 20 tables and views of the database, and TablesTotal counts them, where there is no users to
	// go on with.
	Tables      []string `json:"tables,omitempty"`
	TablesTotal int64    `json:"tables_total,omitempty"`
	// TableBytes is the size of users with its indexes.
	TableBytes int64 `json:"table_bytes"`
}

// Record is what a program that migrates a database keeps in it.
type Record struct {
	// Table is its name, Program what keeps it.
	Table   string `json:"table"`
	Program string `json:"program"`
	// Version is the newest that it names; 0: none.
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

// Group is two or more accounts whose addresses differ only in letter case or in
// their Unicode form. Each of them logs in with its exact address; the holder, also
// with every other spelling.
type Group struct {
	// Address is the form in which addresses are compared.
	Address string `json:"address"`
	// Holder holds it, or will unless somebody decides otherwise: the oldest.
	Holder   uuid.UUID `json:"holder"`
	Accounts []Account `json:"accounts"` // oldest first
}

// Account is one of a group.
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
	// Latchkey counts its own keys, Unknown those of other programs.
	Latchkey int64 `json:"latchkey"`
	Unknown  int64 `json:"unknown"`
	// Patterns has the first part of the unknown ones, at most 20 of them.
	Patterns []Pattern `json:"unknown_patterns"`
	// Unreadable have a known name and a value that neither backend writes.
	Unreadable int64 `json:"unreadable"`
	// WithoutTTL would stay for ever: the backends give every key a life.
	WithoutTTL int64 `json:"without_ttl"`

	longest map[string]time.Duration // lives, by the first part of the names
}

// Refresh counts the refresh tokens of one backend.
type Refresh struct {
	Total int64 `json:"total"`
	// UnknownUser and DisabledUser of Total are worth nothing.
	UnknownUser  int64 `json:"unknown_user"`
	DisabledUser int64 `json:"disabled_user"`
	// Genuine of Total are signed with the secret that is set. Nil: cannot be told.
	Genuine *int64 `json:"genuine"`
}

// Pattern is a part of names and how many keys begin with it.
type Pattern struct {
	Prefix string `json:"prefix"`
	Count  int64  `json:"count"`
}

// Settings is what LATCHKEY_LEGACY_* says.
type Settings struct {
	Enabled     bool       `json:"enabled"`
	GoKey       bool       `json:"go_public_key"`
	GoSigning   bool       `json:"go_private_key"`
	RustSecret  bool       `json:"rust_secret"`
	AcceptUntil *time.Time `json:"accept_until"`
}

// Step is one thing that apply does.
type Step struct {
	// Migration is the file that does it.
	Migration string `json:"migration"`
	Does      string `json:"does"`
	// Lock on users: PostgreSQL's name of it, "" when users is not locked.
	Lock string `json:"lock"`
	// Restart says who has to be restarted after it; "": nobody.
	Restart string `json:"restart,omitempty"`
	// Blocks says whom it keeps waiting while the lock is held.
	Blocks string `json:"blocks"`
	// Seconds is how long the step takes at a guess, and with Lock set how long the
	// lock is held: row locks are held for one batch only.
	Seconds float64 `json:"seconds"`
}

// Blocker is a transaction that a step would wait for.
type Blocker struct {
	PID         int32  `json:"pid"` // 0: a prepared transaction
	Application string `json:"application"`
	State       string `json:"state"`
	// Seconds is its age.
	Seconds float64 `json:"seconds"`
	// LocksUsers says that it has a lock on users; others hold up the index only.
	LocksUsers bool `json:"locks_users"`
}

func (r *Report) problem(code, text, right string) {
	r.Problems = append(r.Problems, Finding{Code: code, Text: text, Right: right})
}

// mendable is a problem that the statements in sql solve.
func (r *Report) mendable(text, right, sql string) {
	r.Problems = append(r.Problems, Finding{Code: "foreign_schema", Text: text, Right: right, SQL: sql})
}

func (r *Report) warn(f Finding) { r.Warnings = append(r.Warnings, f) }

// conclude sets what follows from the findings.
func (r *Report) conclude() {
	switch {
	case len(r.Problems) > 0:
		r.Status = Failed
		r.Next = "solve the problems above and run `latchkey takeover check` again"
	case r.DecisionsTotal > 0 && r.Applied:
		r.Status = Decisions
		r.Next = "`latchkey takeover apply` lets the oldest account of each group hold the address, `--holder USER_ID` another one"
	case r.DecisionsTotal > 0:
		r.Status = Decisions
		r.Next = "decide who holds the shared addresses, then `latchkey takeover apply` (`--holder USER_ID` for each that is not the oldest)"
	case r.Applied:
		r.Status = Clear
		r.Next = "nothing is left to do to the database: start `latchkey serve`"
	default:
		r.Status = Clear
		r.Next = "run `latchkey takeover apply`"
	}
}
