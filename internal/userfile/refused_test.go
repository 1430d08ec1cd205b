package userfile

import (
	"strings"
	"testing"

	"golang.org/x/text/encoding/unicode"
)

// TestRefusedFiles: a file that cannot be read, or could be read wrongly, is refused. The error names its form and
// gives advice.
func TestRefusedFiles(t *testing.T) {
	t.Parallel()
	plain16, err := unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewEncoder().String("email\na@example.com\n")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text   string
		format Format
		want   string
	}{
		"the hashes of better-auth alone": {"id,accountId,providerId,userId,password\n1,1,credential,1,x\n", "", "join it with the table user"},
		"Devise or Supabase":              {"id,email,encrypted_password\n", "", "devise or supabase: name one with --format"},
		"a table of somebody":             {"id,mail_address,passwd\n", "", "not clear from the beginning of the file, which has no email: use --format"},
		"a column of somebody":            {"id,email,passwd\n", "", `no column "passwd"`},
		"no names of columns":             {"1,ada,$P$B,ada@example.com\n", WordPress, "no column user_email, in which wordpress files have the address; perhaps the line of column names is missing"},
		"CSV as JSON":                     {"email\na@example.com\n", Keycloak, "this is not JSON, but keycloak files are"},
		"JSON as CSV":                     {`[{"email":"a@example.com"}]`, CSV, "this is JSON, but csv files are CSV"},
		"another program's":               {"ID,user_login,user_pass,user_email\n", Laravel, "looks like the table wp_users of WordPress, not like the table users of Laravel: use --format wordpress"},
		"another program's, as ours":      {"ID,user_login,user_pass,user_email\n", CSV, "use --format wordpress"},
		"two columns of one name":         {"user_email;USER_EMAIL;user_pass\n", "", `two columns are named "user_email"`},
		"UTF-16 without a mark":           {plain16, "", "UTF-16 without a byte order mark"},
		"UTF-32":                          {"\xff\xfe\x00\x00e\x00\x00\x00", "", "UTF-32"},
		"a spreadsheet":                   {"PK\x03\x04\x14\x00", "", "save it as CSV"},
		"users of federation":             {`{"realm":"x","federatedUsers":[{"id":"f:1"}]}`, "", `no "users" in it`},
		"no such format":                  {"email\n", "excel", `no format "excel": jsonl, csv, `},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, list, err := readAll(t, strings.NewReader(c.text), c.format)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%d accounts, %v; want %q", len(list), err, c.want)
			}
		})
	}
}

// TestRefusedRecords: an error names the column and shows its value, but nothing that could be a hash.
func TestRefusedRecords(t *testing.T) {
	t.Parallel()
	list := read(t, "user_email;user_login;user_pass;user_registered;spam;deleted\n"+
		"a@example.com;ada;x;31.12.2020;;\n"+
		"b@example.com;bo;x;"+bcryptHash+";;\n"+
		"c@example.com;cy;x;;perhaps;\n"+
		"d@example.com;di;x;;5f4dcc3b5aa765d61d8327deb882cf99;\n"+
		";"+bcryptHash+";x;;;\n"+
		"e@example.com;ed;x;;;1\n"+
		"f@example.com;fay;x\n", WordPress)
	wantRecords(t, list, `user_registered "31.12.2020" is not a time`, "user_registered is not a time", `spam "perhaps" is neither`, "spam is neither",
		"it has no address (email)", "the account was deleted (deleted is set)", "it has 3 fields, and there are 6 columns, separated by ';'")
	for _, record := range list {
		if strings.Contains(record.Err.Error(), "$2b$") || strings.Contains(record.Err.Error(), "5f4d") {
			t.Errorf("a hash is told: %v", record.Err)
		}
	}
	if list[0].User.Email != "a@example.com" || list[2].Number != 4 {
		t.Errorf("not named: %+v, %+v", list[0], list[2])
	}
}

// TestNested: an element with 100,000 nested brackets is refused, and the others are read.
func TestNested(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":[`, 50_000) + strings.Repeat("]}", 50_000)
	list := read(t, `[{"email":"a@example.com","profile":{},"status":"ACTIVE"},{"profile":`+deep+`},{"profile":{"email":"b@example.com"}}]`, Okta)
	wantRecords(t, list, "no address", "not JSON", User{Email: "b@example.com"})
}

// TestSchemeOfBetterAuth: other programs write salt:key too, so the file names the scheme.
func TestSchemeOfBetterAuth(t *testing.T) {
	t.Parallel()
	list := read(t, "email,emailVerified,name,createdAt,password\na@example.com,t,,,00ff:5a\nb@example.com,t,,,"+bcryptHash+"\n", "")
	wantRecords(
		t, list,
		User{Email: "a@example.com", EmailVerified: true, PasswordHash: "00ff:5a", PasswordParts: PasswordParts{Scheme: "better-auth"}},
		User{Email: "b@example.com", EmailVerified: true, PasswordHash: bcryptHash},
	)
}
