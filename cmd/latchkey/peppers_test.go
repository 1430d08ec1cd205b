package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/bcrypt"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/app"
	"github.com/latchkey-auth/latchkey/internal/password"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const devisePassword = "Correct-Horse 42 x"

// devisePepper is as long as the one that Devise makes.
const devisePepper = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef" +
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// deviseFile has two accounts of a Devise with that pepper.
func deviseFile(t *testing.T) string {
	t.Helper()
	made, err := bcrypt.GenerateFromPassword([]byte((devisePassword + devisePepper)[:72]), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, "users.csv", "id,email,encrypted_password,reset_password_token,remember_created_at\n"+
		"1,ada@example.com,"+string(made)+",,\n2,bo@example.com,"+string(made)+",,\n3,cy@example.com,,,\n")
}

// importNotes runs an import and returns what it writes on standard output and standard error.
func importNotes(t *testing.T, settings map[string]string, args ...string) (stdout, stderr string) {
	t.Helper()
	p := start(t, pairs(settings), append([]string{"users", "import"}, args...)...)
	code := p.exit(t)
	stdout, stderr = p.text(&p.stdout), p.text(&p.stderr)
	if code != exitDone {
		t.Fatalf("users import %v: exit %d\n%s%s", args, code, stdout, stderr)
	}
	if strings.Contains(stdout+stderr, devisePepper[:16]) {
		t.Errorf("the pepper is in the output:\n%s%s", stdout, stderr)
	}
	return stdout, stderr
}

// TestPeppers: accounts of a Devise with a pepper log in where the service has the pepper, and their hashes are
// rewritten; without it the import, the start and each login say so.
func TestPeppers(t *testing.T) {
	t.Parallel()
	settings := serveSettings(t)
	settings["LATCHKEY_ARGON2_MEMORY_KIB"], settings["LATCHKEY_ARGON2_TIME"] = "7168", "5" // OWASP's least
	if err := run(t.Context(), []string{"migrate", "up"}, pairs(settings), &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	file, pepperFile := deviseFile(t), writeFile(t, "pepper", devisePepper+"\n")
	pepper, err := password.NewPepper([]byte(devisePepper))
	if err != nil {
		t.Fatal(err)
	}
	missing := "no running service has pepper " + pepper.ID()

	_, notes := importNotes(t, settings, "--dry-run", "--pepper-file", pepperFile, file)
	if !strings.Contains(notes, missing) || !strings.Contains(notes, "behind the password, as Devise adds it") {
		t.Errorf("a dry run says:\n%s", notes)
	}
	out, notes := importNotes(t, settings, "--json", "--pepper-file", pepperFile, file)
	if got := summary(t, out); got.Created != 3 || got.WithoutPassword != 1 || got.Peppered != 2 || got.Unsaid != 0 ||
		len(got.PeppersMissing) != 1 || got.PeppersMissing[0] != pepper.ID() || !strings.Contains(notes, missing) {
		t.Errorf("%s%s", out, notes)
	}
	stored := queryStrings(t, settings["LATCHKEY_DATABASE_URL"], "SELECT password_hash FROM users WHERE email LIKE 'ada%'")[0]
	if !strings.HasPrefix(stored, "{PEPPER-SUFFIX:"+pepper.ID()+"}$2a$04$") {
		t.Errorf("stored as %s", stored)
	}

	login := func(auth latchkeyv1.AuthServiceClient, typed string) error {
		_, err := auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: "ada@example.com", Password: typed})
		return err
	}
	ends := func(p *process) string {
		p.signal(t, syscall.SIGTERM)
		if code := p.exit(t); code != exitDone {
			t.Errorf("exit %d", code)
		}
		return p.text(&p.stderr)
	}

	serve := func() (*process, latchkeyv1.AuthServiceClient) {
		p := start(t, pairs(settings), "serve")
		return p, latchkeyv1.NewAuthServiceClient(testenv.Dial(t, p.addrs(t)["grpc"]))
	}

	p, auth := serve()
	if err := login(auth, devisePassword); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a login without the pepper: %v", err)
	}
	log := ends(p)
	for _, want := range []string{
		"accounts cannot log in: their passwords were imported with a pepper that LATCHKEY_PASSWORD_PEPPERS lacks",
		`"pepper":"` + pepper.ID() + `"`, `"accounts_up_to_1000":2`, "unusable password hash",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}

	both := filepath.Join(t.TempDir(), "peppers")
	if err := os.WriteFile(both, []byte("another pepper\r\n\n"+devisePepper+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	settings["LATCHKEY_PASSWORD_PEPPERS_FILE"] = both
	p, auth = serve()
	if err := login(auth, "Correct-Horse 42 y"); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a wrong password: %v", err)
	}
	for range 2 { // the second one by the hash that the first one wrote
		if err := login(auth, devisePassword); err != nil {
			t.Errorf("with the pepper: %v", err)
		}
	}
	rows := queryStrings(t, settings["LATCHKEY_DATABASE_URL"], "SELECT left(password_hash, 10) FROM users ORDER BY email")
	if got := strings.Join(rows, " "); got != "$argon2id$ {PEPPER-SU !" {
		t.Errorf("the hashes are now %s", got)
	}
	out, notes = importNotes(t, settings, "--json", "--pepper-file", pepperFile, file)
	if got := summary(t, out); got.Existing != 3 || len(got.PeppersMissing) > 0 || strings.Contains(notes, "WARNING") {
		t.Errorf("while the service has the pepper: %s%s", out, notes)
	}
	if log := ends(p); strings.Contains(log, "cannot log in") || strings.Contains(log, devisePepper[:16]) {
		t.Errorf("log:\n%s", log)
	}

	// When nobody needs the pepper any more, it can be taken away.
	runSQL(t, settings["LATCHKEY_DATABASE_URL"], "DELETE FROM users WHERE password_hash LIKE '{%'")
	delete(settings, "LATCHKEY_PASSWORD_PEPPERS_FILE")
	for range 2 {
		p, _ = serve()
		if log := ends(p); strings.Contains(log, "cannot log in") {
			t.Errorf("log:\n%s", log)
		}
	}
	if n := queryStrings(t, settings["LATCHKEY_DATABASE_URL"], "SELECT count(*)::text FROM password_peppers WHERE imported_at IS NOT NULL")[0]; n != "0" {
		t.Errorf("%s peppers are still needed", n)
	}
}

// TestPeppersTravel: an export names the peppers of its hashes, and an import into another database says which ones the
// service there needs.
func TestPeppersTravel(t *testing.T) {
	t.Parallel()
	settings, _ := usersDatabase(t)
	file, pepperFile := deviseFile(t), writeFile(t, "pepper", devisePepper)
	mustRunUsers(t, settings, "import", "--pepper-file", pepperFile, file)
	export := filepath.Join(t.TempDir(), "users.jsonl")
	mustRunUsers(t, settings, "export", "--with-hashes", export)
	other, _ := usersDatabase(t)
	got := summary(t, mustRunUsers(t, other, "import", "--json", export))
	if got.Created != 3 || got.Peppered != 2 || len(got.PeppersMissing) != 1 {
		t.Errorf("%+v", got)
	}
	if _, err := runUsers(t, other, "import", "--pepper-file", pepperFile, export); exitCode(err) != exitFailed {
		t.Errorf("a pepper upon a pepper: %v", err)
	}
}

// TestBadPeppers: no error shows a pepper.
func TestBadPeppers(t *testing.T) {
	t.Parallel()
	settings, _ := usersDatabase(t)
	file := deviseFile(t)
	for text, want := range map[string]string{
		"":                                  "0 lines",
		"\n\n":                              "0 lines",
		"hunter2secret\nhunter2other":       "2 lines",
		"hunter2secret\nhunter2secret":      "twice",
		"hunter2\x00secret":                 "control character",
		"hex:hunter2secret":                 "is not hex",
		"base64:hunter2secret!":             "is not base64",
		"hex:":                              "empty",
		strings.Repeat("hunter2secret", 80): "1,024",
	} {
		_, err := runUsers(t, settings, "import", "--pepper-file", writeFile(t, "pepper", text), file)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%.20q: %v", text, err)
		}
		if want == "2 lines" || want == "0 lines" {
			continue
		}
		_, err = app.LoadSettings([]string{"LATCHKEY_PASSWORD_PEPPERS=" + text}, "tool")
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%.20q as a setting: %v", text, err)
		}
	}
	pepper := writeFile(t, "pepper", "hunter2secret")
	for _, args := range [][]string{
		{"--pepper-as", "suffix"}, {"--pepper-file", pepper, "--pepper-as", "behind"}, {"--pepper-file", pepper, "--prehash", "sha256-hex"},
	} {
		if _, err := runUsers(t, settings, append(append([]string{"import"}, args...), file)...); exitCode(err) != exitUsage {
			t.Errorf("%v: %v", args, err)
		}
	}
	if _, err := runUsers(t, settings, "import", "--pepper-file", filepath.Join(t.TempDir(), "none"), file); exitCode(err) != exitFailed {
		t.Errorf("no file: %v", err)
	}
	unclear := writeFile(t, "x.jsonl", `{"email":"x@example.com","password_hash":"$6$saltsalt$`+strings.Repeat(".", 86)+`"}`)
	report := filepath.Join(t.TempDir(), "report")
	if _, err := runUsers(t, settings, "import", "--pepper-file", pepper, "--report", report, unclear); exitCode(err) != exitFailed {
		t.Errorf("an unclear way: %v", err)
	}
	var line refusalLine
	text, err := os.ReadFile(report)
	if err != nil || json.Unmarshal(text, &line) != nil || !strings.Contains(line.Reason, "--pepper-as suffix, prefix") {
		t.Errorf("the report has %s: %v", text, err)
	}
}

// TestUsersImportMeteor: nobody must know that Meteor hashes a digest.
func TestUsersImportMeteor(t *testing.T) {
	t.Parallel()
	settings, _ := usersDatabase(t)
	file := "../../internal/userfile/testdata/exports/meteor.jsonl"
	for _, args := range [][]string{{"import", "--json", file}, {"import", "--json", "--prehash", "sha256-hex", file}} {
		out, err := runUsers(t, settings, args...)
		if got := summary(t, out); exitCode(err) != exitFailed || got.Read != 4 || got.Refused != 1 || got.Unsaid != 0 {
			t.Errorf("%v: %s, %v", args, out, err)
		}
	}
	rows := queryStrings(t, settings["LATCHKEY_DATABASE_URL"], "SELECT left(password_hash, 20) FROM users ORDER BY email")
	if got := strings.Join(rows, " "); got != "bcrypt_sha256$$2b$10 {SHA256-HEX}$argon2i !" {
		t.Errorf("the hashes are %s", got)
	}
	mine := writeFile(t, "mine.csv", "mail,pw\ndi@example.com,"+bcryptHash+"\n")
	if got := summary(t, mustRunUsers(t, settings, "import", "--json", "--columns", "email=mail,hash=pw", mine)); got.Created != 1 || got.WithoutPassword != 0 {
		t.Errorf("named columns: %+v", got)
	}
	if _, err := runUsers(t, settings, "import", "--columns", "mail=email", mine); exitCode(err) != exitUsage {
		t.Errorf("a column that is none: %v", err)
	}
}
