package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/latchkey-auth/latchkey/internal/legacy/takeover"
)

// groupsShown is how many of the shared addresses people see; JSON has up to 1,000.
const groupsShown = 20

// printReport writes a report for people, in the order in which they need it.
func printReport(w io.Writer, r *takeover.Report) error {
	var b strings.Builder
	printDatabase(&b, r)
	printRedis(&b, r.Redis)
	printSteps(&b, r)
	printGroups(&b, fmt.Sprintf("To decide: %s that several accounts share in different spellings", plural(r.DecisionsTotal, "address")), r.Decisions, r.DecisionsTotal, "would hold it")
	printGroups(&b, fmt.Sprintf("Shared addresses with a holder: %d", r.HeldTotal), r.Held, r.HeldTotal, "holds it")
	printFindings(&b, "Warnings", r.Warnings)
	printFindings(&b, "Problems", r.Problems)
	fmt.Fprintf(&b, "\nNext: %s.\n", r.Next)
	_, err := io.WriteString(w, b.String())
	return err
}

// printApplied writes the final text of apply.
func printApplied(w io.Writer, r *takeover.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Taken over: %s. The older backend can keep running on the same database.\n", plural(r.Database.Accounts.Total, "account"))
	printGroups(&b, fmt.Sprintf("Shared addresses with a holder: %d (--holder USER_ID gives one to another account)", r.HeldTotal), r.Held, r.HeldTotal, "holds it")
	fmt.Fprintf(&b, "\nNext: %s.\n", r.Next)
	_, err := io.WriteString(w, b.String())
	return err
}

func printDatabase(b *strings.Builder, r *takeover.Report) {
	d := r.Database
	if d == nil {
		return
	}
	const mib = 1 << 20
	fmt.Fprintf(b, "Database %s, schema %s, PostgreSQL %d, as role %s\n", printable(d.Name), printable(d.Schema), d.Version/10000, printable(d.Role))
	for _, record := range d.Records {
		fmt.Fprintf(b, "  migrated by %s: %s is at version %d\n", record.Program, record.Table, record.Version)
	}
	if !d.AccountsRead {
		printUnread(b, r)
		return
	}
	a := d.Accounts
	if a.Hashes == nil { // not read: "0 accounts" would be wrong
		b.WriteString("  its accounts were not read: this is not the database of an older backend, or a right is missing (see the problems)\n")
		return
	}
	fmt.Fprintf(b, "  %s: %d disabled, %d verified, %d never logged in; %.1f MiB with indexes\n",
		plural(a.Total, "account"), a.Disabled, a.Verified, a.NeverLoggedIn, float64(d.TableBytes)/mib)
	for _, kind := range a.Hashes {
		fmt.Fprintf(b, "  %8d  %s", kind.Count, kind.Kind)
		if kind.Unusable > 0 {
			fmt.Fprintf(b, " (%d cannot be used)", kind.Unusable)
		}
		b.WriteByte('\n')
	}
}

// printUnread writes what was found instead of the accounts.
func printUnread(b *strings.Builder, r *takeover.Report) {
	d := r.Database
	switch {
	case len(d.Tables) > 0:
		more := ""
		if rest := d.TablesTotal - int64(len(d.Tables)); rest > 0 {
			more = fmt.Sprintf(" and %d more", rest)
		}
		fmt.Fprintf(b, "  No accounts were read: there is no table users. Tables and views: %s%s\n", printable(strings.Join(d.Tables, ", ")), more)
	case slices.ContainsFunc(r.Problems, func(f takeover.Finding) bool { return f.Code == "empty_database" }):
		b.WriteString("  No accounts were read: there is no table here\n")
	default:
		b.WriteString("  No accounts were read: users does not fit, or the role may not read it (see the problems)\n")
	}
}

func printRedis(b *strings.Builder, r *takeover.Redis) {
	if r == nil {
		return
	}
	fmt.Fprintf(b, "Redis: %s\n  refresh tokens: %d of the Go backend, %d of the Rust backend", plural(r.Keys, "key"), r.GoRefresh.Total, r.RustRefresh.Total)
	if r.RustRefresh.Genuine != nil {
		fmt.Fprintf(b, " (%d signed with the secret that is set)", *r.RustRefresh.Genuine)
	}
	fmt.Fprintf(b, "\n  reset tokens: %d and %d\n  counters of failed logins: %d, %d of them at the limit\n", r.GoResets, r.RustResets, r.LoginAttempts, r.LockedOut)
	if r.Unknown > 0 {
		fmt.Fprintf(b, "  keys of other programs: %d", r.Unknown)
		for _, p := range r.Patterns {
			fmt.Fprintf(b, ", %s %d", p.Prefix, p.Count)
		}
		b.WriteByte('\n')
	}
}

func printSteps(b *strings.Builder, r *takeover.Report) {
	if len(r.Steps) == 0 {
		return
	}
	b.WriteString("\nSteps of `latchkey takeover apply`:\n")
	var total float64
	var others []string
	for i := 0; i < len(r.Steps); {
		s, alike := r.Steps[i], 0
		for ; i < len(r.Steps) && r.Steps[i].Migration == s.Migration && r.Steps[i].Lock == s.Lock; i++ {
			total += r.Steps[i].Seconds
			alike++
		}
		if s.Lock == "" {
			others = append(others, s.Migration)
			continue
		}
		more := ""
		if alike > 1 {
			more = fmt.Sprintf(" and %d more such", alike-1)
		}
		fmt.Fprintf(b, "  %-26s %s%s\n  %26s   %s on users; must wait meanwhile: %s\n", s.Migration, s.Does, more, "", s.Lock, s.Blocks)
	}
	if len(others) > 0 {
		fmt.Fprintf(b, "  Latchkey's tables and functions, without a lock on users: %s\n", strings.Join(others, ", "))
	}
	fmt.Fprintf(b, "  About %s in all, estimated from 1,000,000 accounts on two cores. Locks that make others wait are held for\n"+
		"  milliseconds, rows for one transaction of 1,000; users grows by up to its size. If apply does not get a lock in %s,\n"+
		"  it pauses and tries again, for up to %s.\n",
		roughly(total), takeoverLockTimeout, takeoverPatience)
	for _, s := range r.Steps {
		if s.Restart != "" {
			fmt.Fprintf(b, "  RESTART as soon as %s has begun (apply says when): %s.\n", s.Migration, s.Restart)
		}
	}
	if len(r.Blockers) > 0 {
		b.WriteString("  In the way now:\n")
	}
	for _, blocker := range r.Blockers {
		fmt.Fprintf(b, "    %s\n", describeBlocker(blocker))
	}
}

func roughly(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	if d < time.Second {
		return "a second"
	}
	return d.Round(time.Second).String()
}

func describeBlocker(b takeover.Blocker) string {
	what := "delays the index only"
	if b.LocksUsers {
		what = "holds a lock on users"
	}
	who := fmt.Sprintf("process %d", b.PID)
	if b.PID == 0 {
		who = "prepared transaction"
	}
	age := time.Duration(b.Seconds * float64(time.Second)).Round(100 * time.Millisecond)
	return fmt.Sprintf("%s %q, %s for %s, %s", who, b.Application, b.State, age, what)
}

func printGroups(b *strings.Builder, title string, groups []takeover.Group, total int64, mark string) {
	if total == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n  Each account can log in with exactly its own address, and the holder with every other spelling too.\n", title)
	for _, g := range groups[:min(len(groups), groupsShown)] {
		fmt.Fprintf(b, "  %s\n", printable(g.Address))
		for _, a := range g.Accounts {
			printMember(b, a, g.Holder, mark)
		}
	}
	if more := total - int64(min(len(groups), groupsShown)); more > 0 {
		fmt.Fprintf(b, "  … and %d more (--json has them)\n", more)
	}
}

func printMember(b *strings.Builder, a takeover.Account, holder uuid.UUID, mark string) {
	login, state := "never logged in", "active"
	if a.LastLogin != nil {
		login = "last login " + a.LastLogin.Format(time.RFC3339)
	}
	if !a.Active {
		state = "disabled"
	}
	if a.Verified {
		state += ", verified"
	}
	fmt.Fprintf(b, "    %s %s, created %s, %s, %s", a.ID, printable(a.Email), a.CreatedAt.Format(time.RFC3339), login, state)
	if a.ID == holder {
		b.WriteString("  <- " + mark)
	}
	b.WriteByte('\n')
}

func printFindings(b *strings.Builder, title string, list []takeover.Finding) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s (%d)\n", title, len(list))
	for _, f := range list {
		fmt.Fprintf(b, "  %s: %s\n", f.Code, printable(f.Text))
		if len(f.IDs) > 0 {
			fmt.Fprintf(b, "    accounts: %s\n", strings.Join(f.IDs, ", "))
		}
		if f.Right != "" {
			fmt.Fprintf(b, "    right: %s\n", printable(f.Right))
		}
		if f.SQL != "" {
			fmt.Fprintf(b, "    SQL: %s;\n", printable(f.SQL))
		}
	}
}

// plural writes a number with its noun.
func plural(n int64, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "s"):
		return fmt.Sprintf("%d %ses", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
