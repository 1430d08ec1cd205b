package userfile

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestJSONL(t *testing.T) {
	t.Parallel()
	full := User{
		ID: uuid.MustParse(someID), Email: "ada@example.com", PasswordHash: bcryptHash, FirstName: "Ada", LastName: "Lovelace",
		CreatedAt: date("2023-01-02T03:04:05.678901Z"), LastLoginAt: date("2024-01-02T03:04:05Z"), Suspended: true, EmailVerified: true,
	}
	list := read(t, "\ufeff"+`{"id":"`+someID+`","email":"ada@example.com","password_hash":"`+bcryptHash+`","first_name":"Ada","last_name":"Lovelace","created_at":"2023-01-02T04:04:05.678901+01:00","last_login_at":"2024-01-02T03:04:05Z","active":false,"email_verified":true}

{"email":"b@example.com","id":null,"created_at":null}`+"\r\n"+`{"email":"broken@example.com",
{"email":"c@example.com"} {"email":"d@example.com"}
["e@example.com"]
{"email":17}
{"email":"f@example.com","id":"17"}
{"email":"g@example.com","created_at":"secret"}
{"email":"h@example.com","emial":"x"}
{"email":"i@example.com","active":"no"}
{"email":"j@example.com","last_login_at":"`+bcryptHash+`"}
`, "")
	wantRecords(
		t, list, full, User{Email: "b@example.com"}, "it is not JSON", "there is more text", "it is a JSON array, not an object",
		"email cannot be a number", `id "17" is not a UUID`, `created_at "secret" is not a time`, `there is no field "emial"`, "active cannot be a string",
		"last_login_at is not a time",
	)
	var numbers []int64
	for _, record := range list {
		numbers = append(numbers, record.Number)
	}
	if fmt.Sprint(numbers) != "[1 3 4 5 6 7 8 9 10 11 12]" {
		t.Errorf("numbers %v", numbers)
	}
	if list[6].User.Email != "f@example.com" {
		t.Errorf("not named: %+v", list[6])
	}
	if strings.Contains(list[10].Err.Error(), "$2b$") {
		t.Errorf("a hash is told: %v", list[10].Err)
	}
	// A misspelt name is in every line, so the error comes at once.
	if _, _, err := readAll(t, strings.NewReader(`{"email":"h@example.com","passwordhash":"x"}`), JSONL); err == nil || !strings.Contains(err.Error(), `line 1: there is no field "passwordhash": id, email, password_hash`) {
		t.Errorf("typo: %v", err)
	}
}

func TestCSV(t *testing.T) {
	t.Parallel()
	list := read(t, "Email, first_name ,last_name,active,created_at\r\n"+
		"a@example.com,Ada,\"Love\"\"lace, of\",true,\r\n"+
		"\n"+
		"b@example.com,B,,f,2023-01-02 03:04:05+00\n"+
		"c@example.com,too few\n"+
		"d@example.com,too,many,,,fields\n"+
		"\"e@example.com\",a quote \"in the middle,,,\n"+
		"f@example.com,F,,,\n"+
		"g@example.com,G,\"two\nlines\",,\n"+
		"h@example.com,H,\"opened,,\n"+
		"i@example.com,I,,maybe,\n"+
		"j@example.com,J,,,\n", "")
	wantRecords(
		t, list,
		User{Email: "a@example.com", FirstName: "Ada", LastName: `Love"lace, of`},
		User{Email: "b@example.com", FirstName: "B", Suspended: true, CreatedAt: date("2023-01-02T03:04:05Z")},
		"it has 2 fields, and there are 5 columns",
		"it has 6 fields",
		"quote",
		User{Email: "f@example.com", FirstName: "F"},
		User{Email: "g@example.com", FirstName: "G", LastName: "two\nlines"},
		"a quote is opened and not closed",
		`active "maybe" is neither true nor false`,
		User{Email: "j@example.com", FirstName: "J"},
	)
	for i, n := range []int64{2, 4, 5, 6, 7, 8, 9, 11, 12, 13} {
		if list[i].Number != n {
			t.Errorf("record %d has number %d, want %d", i, list[i].Number, n)
		}
	}
	for header, wanted := range map[string]string{
		"email,passwordhash\n": `there is no column "passwordhash"`,
		"email,email\n":        `two columns are named "email"`,
		"id,first_name\na,b\n": "not clear",
	} {
		if _, _, err := readAll(t, strings.NewReader(header), ""); err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("%q: %v", header, err)
		}
	}
}

// TestStrayQuotes: one quote too many costs only its own line, wherever the next quote is.
func TestStrayQuotes(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("email,first_name\n")
	stray := map[int]bool{3: true, 9: true, 500: true}
	for i := range 1000 {
		if stray[i] {
			fmt.Fprintf(&text, "u%d@example.com,\"x\n", i)
		} else {
			fmt.Fprintf(&text, "u%d@example.com,x\n", i)
		}
	}
	bad := 0
	for i, record := range read(t, text.String(), CSV) {
		if (record.Err != nil) != stray[i] || record.Number != int64(i+2) {
			t.Errorf("record %d: %+v", i, record)
		}
		if record.Err != nil {
			bad++
		}
	}
	if bad != len(stray) {
		t.Errorf("%d refused", bad)
	}
}

func TestDetect(t *testing.T) {
	t.Parallel()
	for text, wanted := range map[string]Format{
		"":                                     JSONL,
		`{"email":"a@b.c"}`:                    JSONL,
		`[{"email":"a@b.c","first_name":"x"}]`: JSONL,
		"email\na@b.c\n":                       CSV,
		"id,email,encrypted_password,aud\n":    Supabase,
		`{"traits":{},"credentials":{}}`:       Kratos,
		`{"realm":"x","big":` + strings.Repeat("[", 500):    Keycloak,
		`{"users":[{"localId":"x","passwordHash":"y"}]}`:    Firebase,
		`{"users":[{"username":"x","createdTimestamp":1}]}`: Keycloak,
		`{"email":"a","passwordHash":"x"}`:                  Auth0,
		"\n {\"user_id\":\"auth0|1\",\n \"email\":\"x\"}":   Auth0,
	} {
		r, err := NewReader(strings.NewReader(text), Options{Now: now, Firebase: firebaseConfig(t)})
		if err != nil || r.Format() != wanted {
			t.Errorf("%.60q: %v, want %s", text, err, wanted)
		}
	}
	for text, format := range map[string]Format{
		`{"name":"x"}`: "", "name,x\n": "", "id,email,encrypted_password\n": "", "{\"email\":\"x\"}": CSV, "email\n": Keycloak, "x": "xml",
		`{"email":"x","encrypted_password":"y","traits":{},"password_hash":"z"}`: "parquet",
	} {
		if _, err := NewReader(strings.NewReader(text), Options{Format: format, Now: now}); err == nil {
			t.Errorf("%q is taken for %s", text, format)
		}
	}
}

func TestGzip(t *testing.T) {
	t.Parallel()
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(w, "{\"email\":\"a@example.com\"}\n{\"email\":\"b@example.com\"}\n")
	_ = w.Close()
	wantRecords(t, read(t, zipped.String(), ""), User{Email: "a@example.com"}, User{Email: "b@example.com"})
	cut := zipped.Bytes()[:zipped.Len()-9]
	if _, _, err := readAll(t, bytes.NewReader(cut), JSONL); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut off: %v", err)
	}
}

// TestCutOff: a document that ends too early is an error, and not the end.
func TestCutOff(t *testing.T) {
	t.Parallel()
	const document = `{"realm":"x","users":[{"email":"a@example.com"},{"email":"b@example.com"}],"more":{}}`
	for n := len(`{"realm"`); n < len(document); n++ {
		_, list, err := readAll(t, strings.NewReader(document[:n]), Keycloak)
		if err == nil || !strings.Contains(err.Error(), "cut off") {
			t.Errorf("%s: %d records, %v", document[:n], len(list), err)
		}
	}
	for text, wanted := range map[string]string{
		`[{"email":"a@example.com"} x`:            "behind element 1",
		`{"users":{"a":1}}`:                       "there is no [",
		`{"users":[{"email":"a@example.com"}}`:    "behind element 1",
		`{"realm" "x"}`:                           "there is no :",
		`[{"email":"a@example.com"},{"email":"b"`: "within element 2",
	} {
		format := Keycloak
		if _, _, err := readAll(t, strings.NewReader(text), format); err == nil || !strings.Contains(err.Error(), wanted) {
			t.Errorf("%s: %v", text, err)
		}
	}
	// "users" many times does not grow the stack.
	twice := read(t, `{"users":[],"users":[{"email":"a@example.com"}]`+strings.Repeat(`,"users":[]`, 100_000)+`}`, Keycloak)
	wantRecords(t, twice, User{Email: "a@example.com"})
}

// gigabyte repeats a text between a beginning and an end, without holding all of it.
type gigabyte struct {
	head, body, tail string
	left             int64
	at               int
}

func (g *gigabyte) Read(p []byte) (int, error) {
	if g.head != "" {
		n := copy(p, g.head)
		g.head = g.head[n:]
		return n, nil
	}
	if g.left > 0 {
		n := 0
		for n < len(p) && g.left > 0 {
			m := copy(p[n:], g.body[g.at:])
			g.at = (g.at + m) % len(g.body)
			if g.at == 0 {
				g.left -= int64(len(g.body))
			}
			n += m
		}
		return n, nil
	}
	if g.tail == "" {
		return 0, io.EOF
	}
	n := copy(p, g.tail)
	g.tail = g.tail[n:]
	return n, nil
}

// wide returns an ASCII text as UTF-16.
func wide(text string) string {
	var out strings.Builder
	for _, c := range []byte(text) {
		out.Write([]byte{c, 0})
	}
	return out.String()
}

// TestGigabyte: a line of a gigabyte, and a field, an element or a member of many megabytes, is reported and skipped,
// and uses no memory.
func TestGigabyte(t *testing.T) { //nolint:paralleltest // it measures what is allocated
	const size, less = 1 << 30, 64 << 20
	for name, in := range map[string]struct {
		format  Format
		file    gigabyte
		refused int
	}{
		"line":         {JSONL, gigabyte{"{\"email\":\"a@example.com\"}\n{\"email\":\"", strings.Repeat("x", 4096), "\"}\n{\"email\":\"b@example.com\"}\n", size, 0}, 1},
		"line of CSV":  {CSV, gigabyte{"email\na@example.com\n\"", strings.Repeat("x", 4096), "\"\nb@example.com\n", less, 0}, 1},
		"no line end":  {CSV, gigabyte{"email\na@example.com\nb@example.com\n", strings.Repeat("x", 4096), "", less, 0}, 1},
		"element":      {Keycloak, gigabyte{`{"users":[{"email":"a@example.com"},{"x":"`, strings.Repeat("x", 4096), `"},{"email":"b@example.com"}]}`, size / 4, 0}, 1},
		"deep element": {Kratos, gigabyte{`[{"traits":{"email":"a@example.com"}},`, strings.Repeat("[", 4096), "", less, 0}, -1},
		"other member": {Keycloak, gigabyte{`{"realm":"x","clients":[`, strings.Repeat(`{"a":"b"},`, 400), `1],"users":[{"email":"a@example.com"},{"email":"b@example.com"}]}`, less, 0}, 0},
		"name of one":  {Keycloak, gigabyte{`{"realm":"x","`, strings.Repeat(`x`, 4096), `":1,"users":[{"email":"a@example.com"},{"email":"b@example.com"}]}`, less, 0}, 0},
		"realms":       {Keycloak, gigabyte{`[{"realm":"x","users":[{"email":"a@example.com"}],"clients":[`, strings.Repeat(`{"a":"b"},`, 400), `1]},{"realm":"y","users":[{"email":"b@example.com"}]}]`, less, 0}, 0},
		"organization": {Zitadel, gigabyte{`{"orgs":[{"humanUsers":[{"user":{"email":{"email":"a@example.com"}}},{"user":"`, strings.Repeat("x", 4096), `"},{"user":{"email":{"email":"b@example.com"}}}]}]}`, less, 0}, 1},
		"semicolons":   {WordPress, gigabyte{"user_email;user_pass\na@example.com;\n", strings.Repeat("x", 4096), "\nb@example.com;\n", less, 0}, 1},
		"UTF-16":       {CSV, gigabyte{"\xff\xfe" + wide("email\na@example.com\n"), wide(strings.Repeat("x", 4096)), wide("\nb@example.com\n"), less, 0}, 1},
		"blank lines":  {JSONL, gigabyte{"{\"email\":\"a@example.com\"}\n", strings.Repeat("\n", 4096), "{\"email\":\"b@example.com\"}", less, 0}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, list, err := readAll(t, &in.file, in.format)
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
				t.Errorf("%d MiB allocated", grown>>20)
			}
			if in.refused < 0 {
				if err == nil || !strings.Contains(err.Error(), "cut off") {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			refused, good := 0, 0
			for _, record := range list {
				if record.Err == nil {
					good++
				} else if refused++; !strings.Contains(record.Err.Error(), "longer than 1 MiB") {
					t.Errorf("%v", record.Err)
				}
			}
			if refused != in.refused || good != 2 {
				t.Errorf("%d good, %d refused: %.200v", good, refused, list)
			}
		})
	}
}

func TestLongButNotTooLong(t *testing.T) {
	t.Parallel()
	line := `{"email":"a@example.com","first_name":"` + strings.Repeat("x", MaxRecord-100) + `"}`
	for _, text := range []string{line + "\n" + line, "[" + line + "," + line + "]"} {
		list := read(t, text, JSONL)
		if len(list) != 2 || list[0].Err != nil || list[1].Err != nil || len(list[1].User.FirstName) != MaxRecord-100 {
			t.Errorf("%d records", len(list))
		}
	}
}

// TestWriteAndRead: an account that is written and read again is the same.
func TestWriteAndRead(t *testing.T) {
	t.Parallel()
	users := []User{
		{
			ID: uuid.MustParse(someID), Email: `"quo,ted"@example.com`, PasswordHash: bcryptHash, FirstName: "<Ada>\u2028", LastName: `a "b", c`,
			CreatedAt: date("2023-01-02T03:04:05.678901Z"), LastLoginAt: date("2024-01-02T03:04:05Z"), Suspended: true, EmailVerified: true,
		},
		{ID: uuid.New(), Email: "b@example.com", CreatedAt: date("2023-01-02T03:04:05Z")},
	}
	for _, format := range []Format{JSONL, CSV} {
		for _, hashes := range []bool{true, false} {
			var out bytes.Buffer
			w, err := NewWriter(&out, format, hashes)
			if err != nil {
				t.Fatal(err)
			}
			wanted := make([]any, len(users))
			for i, u := range users {
				if err := w.Write(u); err != nil {
					t.Fatal(err)
				}
				if !hashes {
					u.PasswordHash = ""
				}
				wanted[i] = u
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if !hashes && strings.Contains(out.String(), "password_hash") {
				t.Errorf("%s shows hashes:\n%s", format, out.String())
			}
			wantRecords(t, read(t, out.String(), ""), wanted...)
		}
	}
	if _, err := NewWriter(io.Discard, Keycloak, true); err == nil {
		t.Error("written as Keycloak's")
	}
}
