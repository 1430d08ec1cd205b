//go:build world

package world

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

const (
	hashedPassword = "Correct-Horse 42 x"
	hashedPepper   = "d2f0a1c4b6e8973510fedcba98765432" // short enough to be before a password of bcrypt
	// hashTime bounds one program that makes hashes.
	hashTime = time.Minute
)

// madeHash is a hash that a package has just made, and what an import has to be told of it.
type madeHash struct {
	Package  string   `json:"package"`
	Form     string   `json:"form"`
	Hash     string   `json:"password_hash"`
	Scheme   string   `json:"password_scheme"`
	Salt     string   `json:"password_salt"`
	Flags    []string `json:"flags"`
	PepperAs *string  `json:"pepper_as"` // nil: no pepper

	version, email string
}

// flags are those of the import.
func (m madeHash) flags(pepperFile string) []string {
	flags := slices.Clone(m.Flags)
	if m.PepperAs != nil {
		flags = append(flags, "--pepper-file", pepperFile)
		if *m.PepperAs != "" {
			flags = append(flags, "--pepper-as", *m.PepperAs)
		}
	}
	return flags
}

// hashPackages are those of npm, as docs/import.md names them.
func hashPackages() []string {
	return []string{
		"@adonisjs/hash@10.1.1", "argon2@0.45.1", "bcrypt@6.0.0", "bcryptjs@3.0.3", "better-auth@1.7.25", "drupal-hash@1.0.4", "mongoose@9.12.1",
		"passport-local-mongoose@9.2.0", "scrypt-kdf@4.0.0", "wordpress-hash-node@1.0.0",
	}
}

// TestHashes has packages hash a password, imports the hashes with `latchkey users import`, and logs in with each.
func TestHashes(t *testing.T) {
	t.Parallel()
	made := slices.Concat(npmHashes(t), scriptHashes(t), toolHashes(t))
	s := testenv.Start(t, testenv.Options{Peppers: []string{hashedPepper}, WallClock: true})
	importMade(t, s, made)
	slots := make(chan struct{}, 2)
	var wg sync.WaitGroup
	for _, m := range made {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			for typed, want := range map[string]bool{hashedPassword: true, hashedPassword[1:]: false} {
				_, err := s.Auth.Login(t.Context(), &latchkeyv1.LoginRequest{Email: m.email, Password: typed})
				if want != (err == nil) {
					t.Errorf("%s %s, %s, %s: a login with %q: %v", m.Package, m.version, m.Form, m.Hash, typed, err)
					return
				}
			}
			record(m.Package, m.version, "hash: "+m.Form, "logs in")
		})
	}
	wg.Wait()
}

// importMade imports with one run for each set of flags, and fails if a hash is refused.
func importMade(t *testing.T, s *testenv.Server, made []madeHash) {
	t.Helper()
	dir := t.TempDir()
	pepperFile := filepath.Join(dir, "pepper")
	if err := os.WriteFile(pepperFile, []byte(hashedPepper+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := map[string]*bytes.Buffer{}
	for i := range made {
		made[i].email = fmt.Sprintf("account%d@example.com", i)
		flags := strings.Join(made[i].flags(pepperFile), "\x00")
		if files[flags] == nil {
			files[flags] = &bytes.Buffer{}
		}
		line, err := json.Marshal(map[string]string{
			"email": made[i].email, "password_hash": made[i].Hash, "password_scheme": made[i].Scheme, "password_salt": made[i].Salt,
		})
		if err != nil {
			t.Fatal(err)
		}
		files[flags].Write(append(line, '\n'))
	}
	for flags, lines := range files {
		cmd := exec.CommandContext(t.Context(), binary(t), "users", "import")
		if flags != "" {
			cmd.Args = append(cmd.Args, strings.Split(flags, "\x00")...)
		}
		cmd.Args = append(cmd.Args, "-")
		cmd.Env = []string{"LATCHKEY_DATABASE_URL=" + s.DatabaseURL}
		cmd.Stdin = lines
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
		}
	}
}

// hashLines reads what a script prints.
func hashLines(t *testing.T, out []byte, version func(pkg string) string) []madeHash {
	t.Helper()
	var made []madeHash
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var m madeHash
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		m.version = version(m.Package)
		made = append(made, m)
	}
	return made
}

func npmHashes(t *testing.T) []madeHash {
	t.Helper()
	dir := npm(t, hashPackages()...)
	script := filepath.Join(dir, "make.mjs")
	into(t, dir, "hashes/make.mjs")
	docs, err := os.ReadFile("../docs/import.md")
	if err != nil {
		t.Fatal(err)
	}
	return hashLines(t, command(t, hashTime, nil, node(t), script, hashedPassword, hashedPepper), func(pkg string) string {
		for _, pinned := range hashPackages() {
			if version, ok := strings.CutPrefix(pinned, pkg+"@"); ok {
				if !strings.Contains(string(docs), pkg+" "+version) {
					t.Errorf("docs/import.md does not name %s %s", pkg, version)
				}
				return version
			}
		}
		t.Errorf("%s is not pinned", pkg)
		return ""
	})
}

// scriptHashes are of the languages that Debian has.
func scriptHashes(t *testing.T) []madeHash {
	t.Helper()
	packages := []string{
		"python3-passlib", "python3-werkzeug", "python3-django", "python3-flask-security", "ruby-devise", "php-cli",
		"python3-bcrypt", "python3-argon2", // what the ones before compute with
	}
	versions := debian(t, packages...)
	of := func(pkg string) string { return versions[slices.Index(packages, pkg)] }
	var made []madeHash
	for _, program := range [][]string{
		{"/usr/bin/python3", "hashes/make.py"}, {"/usr/bin/ruby", "hashes/make.rb"}, {"/usr/bin/php", "hashes/make.php"},
	} {
		out := command(t, hashTime, nil, program[0], append(program[1:], hashedPassword, hashedPepper)...)
		made = append(made, hashLines(t, out, of)...)
	}
	return made
}

// toolHashes are of programs that print one hash.
func toolHashes(t *testing.T) []madeHash {
	t.Helper()
	packages := []string{"whois", "slapd", "slapd-contrib", "dovecot-core", "apache2-utils"}
	versions := debian(t, packages...)
	var made []madeHash
	add := func(pkg, form string, program ...string) {
		t.Helper()
		hash := strings.TrimSpace(string(command(t, hashTime, nil, program[0], program[1:]...)))
		if pkg == "apache2-utils" {
			hash = strings.TrimPrefix(hash, "ada:")
		}
		made = append(made, madeHash{Package: pkg, Form: form, Hash: hash, version: versions[slices.Index(packages, pkg)]})
	}
	for _, method := range []string{"yescrypt", "scrypt", "bcrypt", "bcrypt-a", "sha512crypt", "sha256crypt", "md5crypt"} {
		add("whois", "mkpasswd -m "+method, "/usr/bin/mkpasswd", "-m", method, hashedPassword)
	}
	for scheme, module := range map[string]string{
		"{SSHA}": "", "{SMD5}": "", "{SSHA256}": "pw-sha2", "{SSHA384}": "pw-sha2", "{SSHA512}": "pw-sha2", "{PBKDF2}": "pw-pbkdf2",
		"{PBKDF2-SHA1}": "pw-pbkdf2", "{PBKDF2-SHA256}": "pw-pbkdf2", "{PBKDF2-SHA512}": "pw-pbkdf2", "{ARGON2}": "argon2", "{APR1}": "pw-apr1", "{BSDMD5}": "pw-apr1",
	} {
		args := []string{"/usr/sbin/slappasswd"}
		if module != "" {
			args = append(args, "-o", "module-path=/usr/lib/ldap", "-o", "module-load="+module)
		}
		add("slapd", "slappasswd -h "+scheme, append(args, "-h", scheme, "-s", hashedPassword)...)
	}
	add("slapd", "slappasswd -h {CRYPT} -c $6$", "/usr/sbin/slappasswd", "-h", "{CRYPT}", "-c", "$6$%.16s", "-s", hashedPassword)
	for _, scheme := range []string{
		"BLF-CRYPT", "SHA512-CRYPT", "SHA256-CRYPT", "MD5-CRYPT", "ARGON2ID", "ARGON2I", "PBKDF2", "SSHA", "SSHA256", "SSHA512", "SMD5", "SSHA512.HEX",
	} {
		add("dovecot-core", "doveadm pw -s "+scheme, "/usr/bin/doveadm", "pw", "-s", scheme, "-p", hashedPassword)
	}
	for flag, form := range map[string]string{"-B": "bcrypt", "-m": "$apr1$", "-2": "$5$", "-5": "$6$"} {
		add("apache2-utils", "htpasswd "+flag+", "+form, "/usr/bin/htpasswd", "-nb", flag, "ada", hashedPassword)
	}
	return made
}
