package userfile

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding/unicode"
)

//nolint:gochecknoglobals // a flag of the test
var update = flag.Bool("update", false, "write what the exports in testdata are read as, to be looked at")

// exportFiles returns files in the form in which programs export them, with invented people. The name of a file begins
// with the name of its format.
func exportFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/exports/*.*")
	if err != nil || len(files) < 30 {
		t.Fatalf("%v, %v", files, err)
	}
	var exports []string
	for _, file := range files {
		if filepath.Ext(file) != ".want" {
			exports = append(exports, file)
		}
	}
	return exports
}

// formatOf returns the format at the beginning of a file's name.
func formatOf(t testing.TB, file string) Format {
	t.Helper()
	name := filepath.Base(file)
	if strings.HasPrefix(name, "rails") {
		return Devise
	}
	for _, f := range Formats() {
		if strings.HasPrefix(name, string(f)+".") || strings.HasPrefix(name, string(f)+"-") && f != "better" {
			return f
		}
	}
	t.Fatalf("%s is of no format", file)
	return ""
}

func readFile(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// shownRecords writes accounts as our own JSON Lines, and errors after a "#".
func shownRecords(t testing.TB, list []Record) string {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(&out, JSONL, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, record := range list {
		if record.Err != nil {
			out.WriteString("# " + record.Err.Error() + "\n")
		} else if err := w.Write(record.User); err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// TestExports: each export is recognised, and the file beside it has the result.
func TestExports(t *testing.T) {
	t.Parallel()
	seen := map[Format]bool{JSONL: true, CSV: true, Firebase: true} // other tests have these
	for _, file := range exportFiles(t) {
		format := formatOf(t, file)
		seen[format] = true
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			r, list, err := readAll(t, strings.NewReader(readFile(t, file)), "")
			if err != nil {
				t.Fatal(err)
			}
			if r.Format() != format {
				t.Errorf("taken for %s", r.Format())
			}
			got := shownRecords(t, list)
			if *update {
				if err := os.WriteFile(file+".want", []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if want := readFile(t, file+".want"); got != want {
				t.Errorf("read as\n%s\nwant\n%s", got, want)
			}
			if strings.Contains(got, "hunter22") {
				t.Errorf("a password is told:\n%s", got)
			}
		})
	}
	for _, f := range Formats() {
		if !seen[f] {
			t.Errorf("there is no export of %s", f)
		}
	}
}

// TestExportOfAnother: no export is read in another program's format, and the error names its own.
func TestExportOfAnother(t *testing.T) {
	t.Parallel()
	for _, file := range exportFiles(t) {
		format, text := formatOf(t, file), readFile(t, file)
		for _, other := range Formats() {
			_, err := NewReader(strings.NewReader(text), Options{Format: other, Firebase: firebaseConfig(t), Now: now})
			switch {
			case other == format && err != nil:
				t.Errorf("%s as %s: %v", file, other, err)
			case other != format && (err == nil || !strings.Contains(err.Error(), format.Describe()) || !strings.Contains(err.Error(), string("--format "+format))):
				t.Errorf("%s as %s: %v", file, other, err)
			}
		}
	}
}

// TestDialects: an export of a table has the same accounts, whatever separates its columns and whatever its encoding
// is.
func TestDialects(t *testing.T) {
	t.Parallel()
	for _, file := range exportFiles(t) {
		if filepath.Ext(file) != ".csv" {
			continue
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			want := readFile(t, file+".want")
			table := parseCSVFile(t, readFile(t, file))
			for name, text := range dialects(t, table) {
				_, list, err := readAll(t, strings.NewReader(text), "")
				if err != nil {
					t.Errorf("%s: %v", name, err)
				} else if got := shownRecords(t, list); got != want {
					t.Errorf("%s: read as\n%s\nwant\n%s", name, got, want)
				}
			}
		})
	}
}

func parseCSVFile(t testing.TB, text string) [][]string {
	t.Helper()
	text = strings.TrimPrefix(text, "\ufeff")
	header, _, _ := strings.Cut(text, "\n")
	_, comma := headerFields(header)
	reader := csv.NewReader(strings.NewReader(text))
	reader.Comma = comma
	table, err := reader.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// dialects are the forms in which programs write one table.
func dialects(t testing.TB, table [][]string) map[string]string {
	t.Helper()
	written := func(comma rune, crlf bool, names func(string) string) string {
		var out strings.Builder
		w := csv.NewWriter(&out)
		w.Comma, w.UseCRLF = comma, crlf
		header := make([]string, len(table[0]))
		for i, name := range table[0] {
			header[i] = names(name)
		}
		if err := w.WriteAll(append([][]string{header}, table[1:]...)); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	same := func(name string) string { return name }
	encoded := func(order unicode.Endianness, text string) string {
		out, err := unicode.UTF16(order, unicode.UseBOM).NewEncoder().String(text)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	var quoted strings.Builder
	for _, line := range table {
		for i, field := range line {
			if i > 0 {
				quoted.WriteByte(',')
			}
			quoted.WriteString(`"` + strings.ReplaceAll(field, `"`, `""`) + `"`)
		}
		quoted.WriteByte('\n')
	}
	return map[string]string{
		"comma": written(',', false, same), "semicolon": written(';', true, same), "tab": written('\t', false, same), "bar": written('|', false, same),
		"upper case": written(',', false, strings.ToUpper), "lower case": written(';', false, strings.ToLower), "spaces": written(',', false, func(n string) string { return " " + n + " " }),
		"mark": "\ufeff" + written(',', true, same), "quotes everywhere": quoted.String(),
		"UTF-16LE": encoded(unicode.LittleEndian, written('\t', true, same)), "UTF-16BE": encoded(unicode.BigEndian, written(';', false, same)),
	}
}

// TestArrangements: accounts in one array are the same as in JSON Lines, as objects one after the other, as several
// arrays, and in UTF-16.
func TestArrangements(t *testing.T) {
	t.Parallel()
	for _, file := range exportFiles(t) {
		var list []json.RawMessage
		text := readFile(t, file)
		if filepath.Ext(file) != ".json" || strings.Contains(file, "realms") || strings.Contains(file, "phpmyadmin") || json.Unmarshal([]byte(text), &list) != nil {
			continue
		}
		want := readFile(t, file+".want")
		var lines, pretty, arrays strings.Builder
		for _, element := range list {
			var line bytes.Buffer
			if err := json.Compact(&line, element); err != nil {
				t.Fatal(err)
			}
			lines.WriteString(line.String() + "\n")
			pretty.WriteString("{\n" + strings.TrimPrefix(strings.TrimSpace(string(element)), "{") + "\n")
			arrays.WriteString("[" + string(element) + "]")
		}
		utf16, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String(lines.String())
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"lines": lines.String(), "pretty": pretty.String(), "arrays": arrays.String(), "UTF-16": utf16, "users": `{"total":2,"users":` + text + `}`,
			"pages": `{"users":[]}` + "\n" + `{"users":` + text + "}\n" + `{"users":null}`,
		} {
			_, records, err := readAll(t, strings.NewReader(text), formatOf(t, file))
			if err != nil {
				t.Errorf("%s, %s: %v", file, name, err)
			} else if got := shownRecords(t, records); got != want {
				t.Errorf("%s, %s: read as\n%s\nwant\n%s", file, name, got, want)
			}
		}
	}
}

// TestCutExports: a JSON export that ends too early is never read as a whole one, and CSV loses at most its last line.
func TestCutExports(t *testing.T) {
	t.Parallel()
	for _, file := range exportFiles(t) {
		text := strings.TrimSpace(readFile(t, file))
		whole := strings.Count(readFile(t, file+".want"), "\n")
		for n := 1; n < len(text); n += 5 {
			_, list, err := readAll(t, strings.NewReader(text[:n]), formatOf(t, file))
			refused := slices.ContainsFunc(list, func(r Record) bool { return r.Err != nil })
			if filepath.Ext(file) == ".json" && err == nil && (!refused || len(list) != 1) {
				t.Fatalf("%s cut after %d bytes is read, %d accounts", file, n, len(list))
			}
			if len(list) > whole {
				t.Fatalf("%s cut after %d bytes: %d accounts of %d", file, n, len(list), whole)
			}
		}
	}
}
