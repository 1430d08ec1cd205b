package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/latchkey-auth/latchkey/gen/db"
	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/userfile"
	"github.com/latchkey-auth/latchkey/internal/userimport"
)

// refusalsShown is how many refusals are printed to stderr. The rest are counted, and all are in the file of --report.
const refusalsShown = 100

// counted counts the bytes that were read of a file, for the time left.
type counted struct {
	io.Reader
	bytes atomic.Int64
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

// refusals reports lines that were refused.
type refusals struct {
	unit    string
	shown   int
	show    func(string)
	report  io.WriteCloser // nil: --report is not set
	encoder *json.Encoder
	err     error // of the report
}

// refusalLine is a line of the report. Scripts rely on its keys.
type refusalLine struct {
	Line   int64  `json:"line,omitempty"`
	Elem   int64  `json:"element,omitempty"`
	Email  string `json:"email,omitempty"`
	Reason string `json:"reason"`
}

// openRefusals creates the report. It contains addresses, so nobody else may read it.
func openRefusals(unit, report string, show func(string)) (*refusals, error) {
	r := &refusals{unit: unit, show: show}
	if report == "" {
		return r, nil
	}
	file, err := os.OpenFile(report, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // G304: the operator named it
	if err != nil {
		return nil, fmt.Errorf("--report: %w", err)
	}
	r.report, r.encoder = file, json.NewEncoder(file)
	r.encoder.SetEscapeHTML(false)
	return r, nil
}

func (r *refusals) tell(refused userimport.Refusal) {
	if r.encoder != nil && r.err == nil {
		line := refusalLine{Line: refused.Number, Email: refused.Email, Reason: refused.Reason}
		if r.unit == "element" {
			line.Line, line.Elem = 0, refused.Number
		}
		r.err = r.encoder.Encode(line)
	}
	r.shown++
	switch {
	case r.shown <= refusalsShown && refused.Email != "":
		r.show(fmt.Sprintf("%s %d (%s): %s", r.unit, refused.Number, printable(refused.Email), printable(refused.Reason)))
	case r.shown <= refusalsShown:
		r.show(fmt.Sprintf("%s %d: %s", r.unit, refused.Number, printable(refused.Reason)))
	case r.shown == refusalsShown+1 && r.report == nil:
		r.show("more lines are refused and not shown: --report FILE writes all of them")
	case r.shown == refusalsShown+1:
		r.show("more lines are refused and not shown: the report has all of them")
	}
}

// close returns an error if the report is not complete.
func (r *refusals) close() error {
	if r.report == nil {
		return nil
	}
	if err := errors.Join(r.err, r.report.Close()); err != nil {
		return fmt.Errorf("--report: %w", err)
	}
	return nil
}

// importSummary is the output of --json.
type importSummary struct {
	Format  userfile.Format `json:"format"`
	DryRun  bool            `json:"dry_run"`
	Read    int64           `json:"read"`
	Created int64           `json:"created"`
	// WithoutPassword are those of Created whose owners cannot log in before they set a password.
	WithoutPassword int64 `json:"without_password"`
	Existing        int64 `json:"existing"`
	// PasswordsAdded are those of Existing that had no password and got that of the file.
	PasswordsAdded int64 `json:"passwords_added"`
	Refused        int64 `json:"refused"`
	// Unsaid counts hashes whose text does not show whether only the password was hashed.
	Unsaid int64 `json:"unsaid"`
	// Peppered hashes were made with a pepper, and PeppersMissing are the IDs of those that no running service has.
	Peppered       int64    `json:"peppered"`
	PeppersMissing []string `json:"peppers_missing,omitempty"`

	Seconds   float64 `json:"seconds"`
	PerSecond int64   `json:"per_second"`
	// Whole means that the end of the file was reached.
	Whole bool `json:"whole"`
}

func (u *usersCommand) importFile(ctx context.Context) error {
	in, size, err := openInput(u.file)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // it was only read
	hash, err := u.firebaseHash()
	if err != nil {
		return err
	}
	read := &counted{Reader: in}
	records, err := userfile.NewReader(read, userfile.Options{Format: u.format, Columns: u.columns, Firebase: hash, Now: time.Now})
	if err != nil {
		return fmt.Errorf("%s: %w", u.file, err)
	}
	bar := newProgress(u.stderr, isTerminal(u.stderr), u.log, 0, "users")
	refused, err := openRefusals(records.Unit(), u.report, bar.Line)
	if err != nil {
		return err
	}
	start := time.Now()
	counts, failed := userimport.Run(ctx, userimport.Config{
		Pool: u.pool, DryRun: u.dryRun, Fill: true, Hashes: u.hashes, Refused: refused.tell, Now: time.Now,
		Progress: func(c userimport.Counts) { tellProgress(bar, c, read.bytes.Load(), size) },
	}, records)
	if failed == nil {
		bar.SetTotal(counts.Read)
	}
	bar.Done()
	u.warnUnsaid(records.Format(), counts)
	u.notePeppered(counts)
	var missing []string
	if failed == nil {
		missing, failed = u.missingPeppers(ctx, counts)
	}
	err = u.printSummary(ctx, records.Format(), counts, missing, since(start), failed == nil)
	return errors.Join(err, refused.close(), u.outcome(counts, failed))
}

// warnUnsaid warns of hashes whose text does not show what was hashed: their owners may not be able to log in. The
// programs of the known formats add nothing to a password.
func (u *usersCommand) warnUnsaid(format userfile.Format, counts userimport.Counts) {
	known := []userfile.Format{userfile.Auth0, userfile.Firebase, userfile.Keycloak, userfile.Supabase, userfile.Kratos}
	if counts.Unsaid == 0 || u.hashes.Prehash != "" || u.hashes.Pepper != nil || slices.Contains(known, format) {
		return
	}
	fmt.Fprintf(u.stderr, "Hashes of bcrypt and Argon2: %d. Their text does not say whether the program hashed something else than the password\n"+ //nolint:errcheck // a note
		"(Meteor and Rocket.Chat: --prehash sha256-hex) or added a pepper (Devise and others: --pepper-file).\n"+
		"Log in with one of these accounts before you rely on them.\n", counts.Unsaid)
}

// notePeppered says what the import took for granted of the pepper: a wrong one looks like the right one.
func (u *usersCommand) notePeppered(counts userimport.Counts) {
	if counts.Peppered == 0 || u.hashes.Pepper == nil {
		return
	}
	way := u.hashes.PepperAs
	if way == "" {
		way = "bcrypt: behind the password, as Devise adds it; Argon2: as its secret; --pepper-as names other ways"
	}
	fmt.Fprintf(u.stderr, "Hashes with %s: %d (%s). No hash shows whether that is right:\n"+ //nolint:errcheck // a note
		"log in with one of these accounts before you rely on them.\n", u.hashes.Pepper, counts.Peppered, way)
}

// missingPeppers returns the IDs of the peppers that imported accounts need and no running service has, and warns of
// each.
func (u *usersCommand) missingPeppers(ctx context.Context, counts userimport.Counts) ([]string, error) {
	queries := db.New()
	imported, err := queries.ImportedPeppers(ctx, u.pool)
	if err != nil {
		return nil, fmt.Errorf("peppers: %w", err)
	}
	var ids, missing []string
	for _, p := range imported {
		ids = append(ids, p.ID)
	}
	if p := u.hashes.Pepper; p != nil && counts.Peppered > 0 && !slices.Contains(ids, p.ID()) { // a dry run notes nothing
		ids = append(ids, p.ID())
	}
	for _, id := range ids {
		served, err := queries.PepperServed(ctx, u.pool, id)
		if err != nil {
			return nil, fmt.Errorf("peppers: %w", err)
		}
		if served {
			continue
		}
		missing = append(missing, id)
		fmt.Fprintf(u.stderr, "WARNING: no running service has pepper %s, so accounts with it cannot log in: put the pepper into the file that\n"+ //nolint:errcheck // a note
			"LATCHKEY_PASSWORD_PEPPERS_FILE names, and restart the service.\n", id)
	}
	return missing, nil
}

// readPepper reads the pepper from a file: a command line can be read by everybody on the machine.
func (u *usersCommand) readPepper() error {
	if u.pepper == "" {
		return nil
	}
	text, err := os.ReadFile(u.pepper)
	if err != nil {
		return fmt.Errorf("--pepper-file: %w", err)
	}
	var secrets config.Peppers
	if err := secrets.UnmarshalText(text); err != nil {
		return fmt.Errorf("--pepper-file %s %w", u.pepper, err)
	}
	if len(secrets) != 1 {
		return fmt.Errorf("--pepper-file %s has %d lines with a pepper, not one: all hashes of an import have the same", u.pepper, len(secrets))
	}
	pepper, err := password.NewPepper(secrets[0])
	if err != nil {
		return fmt.Errorf("--pepper-file %s: %w", u.pepper, err)
	}
	u.hashes.Pepper = &pepper
	return nil
}

// tellProgress estimates the records of the file from the bytes that were read.
func tellProgress(bar *progress, c userimport.Counts, done, size int64) {
	if size > 0 && done > 0 {
		bar.SetTotal(max(c.Read, int64(float64(c.Read)*float64(size)/float64(done))))
	}
	bar.Set(c.Read)
}

// outcome returns the error of the command.
func (u *usersCommand) outcome(counts userimport.Counts, failed error) error {
	switch {
	case errors.Is(failed, context.Canceled):
		return errors.New("interrupted: run the same command again, it continues")
	case postgres.IsUnavailable(failed):
		return fmt.Errorf("the database failed: run the same command again, it continues: %w", failed)
	case failed != nil:
		return fmt.Errorf("%s: %w", u.file, failed)
	case counts.Refused > 0:
		return fmt.Errorf("%d of %d were refused", counts.Refused, counts.Read)
	}
	return nil
}

func (u *usersCommand) printSummary(
	ctx context.Context, format userfile.Format, counts userimport.Counts, missing []string, took time.Duration, whole bool,
) error {
	rate := int64(float64(counts.Read) / took.Seconds())
	u.log.LogAttrs(ctx, slog.LevelInfo, "accounts imported", slog.String("format", string(format)),
		slog.Int64("read", counts.Read), slog.Int64("created", counts.Created), slog.Int64("existing", counts.Existing),
		slog.Int64("without_password", counts.WithoutPassword), slog.Int64("passwords_added", counts.Filled),
		slog.Int64("refused", counts.Refused), slog.Int64("peppered", counts.Peppered), slog.Bool("dry_run", u.dryRun), slog.Bool("whole", whole))
	if u.json {
		return json.NewEncoder(u.stdout).Encode(importSummary{
			Format: format, DryRun: u.dryRun, Read: counts.Read, Created: counts.Created, WithoutPassword: counts.WithoutPassword,
			Existing: counts.Existing, PasswordsAdded: counts.Filled,
			Refused: counts.Refused, Unsaid: counts.Unsaid, Peppered: counts.Peppered, PeppersMissing: missing, Seconds: took.Seconds(), PerSecond: rate, Whole: whole,
		})
	}
	_, err := fmt.Fprintf(u.stdout, "%d read, %s, %d refused (%s, %s, %d/s)\n",
		counts.Read, u.written(counts), counts.Refused, format, took, rate)
	return err
}

// written describes what was done, or would be done, and how many accounts have no password.
func (u *usersCommand) written(counts userimport.Counts) string {
	made, got := "created", "got their password"
	if u.dryRun {
		made, got = "would be created", "would get their password"
	}
	text := fmt.Sprintf("%d %s", counts.Created, made)
	if counts.WithoutPassword > 0 {
		text += fmt.Sprintf(" (%d without a password)", counts.WithoutPassword)
	}
	text += fmt.Sprintf(", %d already there", counts.Existing)
	if counts.Filled > 0 {
		text += fmt.Sprintf(" (%d had none and %s)", counts.Filled, got)
	}
	return text
}

// openInput opens a file and returns its length, 0 if it is not known.
func openInput(name string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(os.Stdin), 0, nil
	}
	file, err := os.Open(name) //nolint:gosec // G304: the operator named it
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return file, 0, nil //nolint:nilerr // a pipe has no length, and reading tells what is wrong
	}
	return file, info.Size(), nil
}

// firebaseHash reads the parameters from a file, since everybody on the machine can read a command line.
func (u *usersCommand) firebaseHash() (*password.FirebaseScrypt, error) {
	if u.firebase == "" {
		return nil, nil //nolint:nilnil // without the flag there is nothing to read
	}
	text, err := os.ReadFile(u.firebase)
	if err != nil {
		return nil, fmt.Errorf("--firebase-config: %w", err)
	}
	hash, err := userfile.ParseFirebaseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("--firebase-config %s: %w", u.firebase, err)
	}
	return hash, nil
}
