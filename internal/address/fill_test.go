package address_test

import (
	"context"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/address"
	"github.com/latchkey-auth/latchkey/internal/postgres"
	"github.com/latchkey-auth/latchkey/internal/testenv"
	"github.com/latchkey-auth/latchkey/sql/migrations"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// database creates a database with these options of CREATE DATABASE and connects to it.
func database(t *testing.T, name, options string) (conn *pgx.Conn, dsn string) {
	t.Helper()
	beside := testenv.EmptyDatabase(t)
	if options == "" {
		return connect(t, beside), beside
	}
	server := connect(t, beside)
	t.Cleanup(func() { exec(t, server, "DROP DATABASE "+name+" WITH (FORCE)") })
	exec(t, server, "CREATE DATABASE "+name+" "+options)
	parsed, err := url.Parse(beside)
	if err != nil {
		t.Fatal(err)
	}
	parsed.Path = "/" + name
	return connect(t, parsed.String()), parsed.String()
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, query string, args ...any) {
	t.Helper()
	if _, err := conn.Exec(context.WithoutCancel(t.Context()), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func texts(t *testing.T, conn *pgx.Conn, query string, args ...any) []string {
	t.Helper()
	return testenv.Strings(t, conn, query, args...)
}

func migrate(t *testing.T, dsn string, files fs.FS) {
	t.Helper()
	if _, err := (postgres.Migrations{URL: dsn, FS: files}).Up(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

const turkish = "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR' LOCALE 'C' ENCODING 'UTF8'"

// SQL computes the same as Go, in each locale, and computes nothing for addresses that are not ASCII.
func TestSQLAgrees(t *testing.T) {
	t.Parallel()
	var all []string
	for r := rune(1); r <= unicode.MaxRune; r++ {
		if utf8.ValidRune(r) && (r <= unicode.MaxASCII || unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S)) && !unicode.Is(unicode.Unified_Ideograph, r) {
			all = append(all, "A"+string(r)+"I@Example.com")
		}
	}
	for name, options := range map[string]string{
		"plain": "", "turkish": turkish,
		"roots": "TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'und' LOCALE 'C.UTF-8' ENCODING 'UTF8'",
	} {
		conn, dsn := database(t, "address_"+name, options)
		migrate(t, dsn, migrations.FS)
		known := 0
		for chunk := range slices.Chunk(all, 100_000) {
			got := texts(t, conn, "SELECT coalesce(latchkey_email_lookup(x), '') FROM unnest($1::text[]) WITH ORDINALITY AS u (x, n) ORDER BY n", chunk)
			for i, email := range chunk {
				if got[i] == "" {
					continue
				}
				known++
				if want := address.Lookup(email); got[i] != want {
					t.Errorf("%s: %q: %q in SQL, %q in Go", name, email, got[i], want)
				}
			}
		}
		if known != unicode.MaxASCII {
			t.Errorf("%s: SQL has computed %d, want ASCII", name, known)
		}
	}
}

// upTo returns the migrations before a version.
func upTo(t *testing.T, version string) fs.FS {
	t.Helper()
	names, err := fs.Glob(migrations.FS, "*.sql")
	if err != nil {
		t.Fatal(err)
	}
	some := fstest.MapFS{}
	for _, name := range names {
		if name < version {
			text, err := fs.ReadFile(migrations.FS, name)
			if err != nil {
				t.Fatal(err)
			}
			some[name] = &fstest.MapFile{Data: text}
		}
	}
	return some
}

// The values that earlier versions wrote become today's, the oldest account holds each address, and nothing else of an
// account changes.
func TestEarlierForms(t *testing.T) {
	t.Parallel()
	conn, dsn := database(t, "address_earlier", turkish)
	migrate(t, dsn, upTo(t, "00016"))
	// In this order, with the value of an earlier version. "": the value from the trigger.
	for _, row := range [][2]string{
		{"j\u0130m@example.com", "jim@example.com"},
		{"jim@example.com", ""},
		{"ida@b\u00FCcher.example", "ida@b\u00FCcher.example"},
		{"IDA@xn--bcher-kva.example", "ida@xn--bcher-kva.example"},
		{"Ilse@Example.com", ""},
		{"ilse@example.com", "ilse@example.com"},
		{"\u212Ate@example.com", "kte@example.com"},
		{"J\u00D6RG@example.com", "j\u00F6rg@example.com"},
		{"swapA@b\u00FC.example", "swapa@b\u00E4.example"},
		{"swapA@b\u00E4.example", "swapa@b\u00FC.example"},
		{"plain@example.com", "plain@example.com"},
	} {
		exec(t, conn, `INSERT INTO users (email, email_lookup, password_hash, first_name, last_name, created_at, updated_at)
			SELECT $1, nullif($2, ''), 'x', 'F', 'L', t, t FROM (SELECT '2026-01-01'::timestamptz + count(*) * interval '1 s' AS t FROM users) AS clock`, row[0], row[1])
	}
	const rest = "SELECT (to_jsonb(u) - 'email_lookup')::text FROM users u ORDER BY id"
	before := texts(t, conn, rest)
	migrate(t, dsn, migrations.FS)
	if _, err := address.Fill(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	if after := texts(t, conn, rest); !slices.Equal(after, before) {
		t.Errorf("more changed than the lookup value: %v", after)
	}
	want := []string{
		"j\u0130m@example.com = j\u0130m@example.com", "jim@example.com = jim@example.com",
		"ida@b\u00FCcher.example = ", "IDA@xn--bcher-kva.example = ida@xn--bcher-kva.example",
		"Ilse@Example.com = ", "ilse@example.com = ilse@example.com",
		"\u212Ate@example.com = \u212Ate@example.com", "J\u00D6RG@example.com = j\u00F6rg@example.com",
		"swapA@b\u00FC.example = swapa@xn--b-eha.example", "swapA@b\u00E4.example = swapa@xn--b-0fa.example",
		"plain@example.com = plain@example.com",
	}
	got := texts(t, conn, "SELECT email || ' = ' || coalesce(email_lookup, '') FROM users ORDER BY created_at")
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n, err := address.Fill(t.Context(), conn); n != 0 || err != nil {
		t.Errorf("again: %d, %v", n, err)
	}
}

// Another program, which does not know the column, wrote more rows than fit in one batch, some with the same mailbox.
func TestFillWhatOthersWrite(t *testing.T) {
	t.Parallel()
	conn, dsn := database(t, "", "")
	migrate(t, dsn, migrations.FS)
	exec(t, conn, `INSERT INTO users (email, password_hash, first_name, last_name, created_at)
		SELECT CASE WHEN i % 2 = 0 THEN 'Ü' ELSE 'ü' END || (i / 2) || '@bücher.example', 'x', 'F', 'L', '2026-01-01'::timestamptz + i * interval '1 s'
		FROM generate_series(0, 4999) AS i`)
	if n := texts(t, conn, "SELECT count(email_lookup)::text FROM users"); n[0] != "0" {
		t.Fatalf("SQL has computed %s", n[0])
	}
	if n, err := address.Fill(t.Context(), conn); n != 2500 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	for _, wrong := range texts(t, conn, "SELECT email FROM users WHERE (email LIKE 'Ü%') <> (email_lookup IS NOT NULL)") {
		t.Errorf("not the oldest: %s", wrong)
	}
	// An address that changes loses its value, and Fill fills it in again.
	exec(t, conn, "UPDATE users SET email = 'moved@b\u00FCcher.example' WHERE email = 'Ü7@bücher.example'")
	if n, err := address.Fill(t.Context(), conn); n != 2 || err != nil {
		t.Errorf("after a change: %d, %v", n, err)
	}
	got := texts(t, conn, "SELECT email_lookup FROM users WHERE email IN ('moved@b\u00FCcher.example', 'ü7@bücher.example') ORDER BY 1")
	if want := []string{"moved@xn--bcher-kva.example", "ü7@xn--bcher-kva.example"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
