package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/latchkey-auth/latchkey/internal/hosts"
)

// Problem is one setting that cannot be used.
type Problem struct {
	// Variable is the setting's name in the environment.
	Variable string
	// Wrong says what is wrong with it, without the value if that is secret.
	Wrong string
}

// Error holds all problems that were found.
type Error struct{ Problems []Problem }

// Error returns one line for each problem: the variable, what is wrong, the right form and an example.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.Variable + " " + p.Wrong
		if f, ok := fieldOf(p.Variable); ok {
			lines[i] += fmt.Sprintf(": it must be %s, such as %s", f.wanted(), f.tag("example"))
		}
	}
	return strings.Join(lines, "\n")
}

// Reject returns an *Error about one value, for callers that check what Load cannot.
func Reject(variable, wrong string) error {
	return &Error{[]Problem{{variable, wrong}}}
}

// Judge checks settings by the rules of the package that will use them. It returns nil or an *Error, as
// Reject makes it. Settings that were found wrong before are zero, so a judge ignores settings that are not
// set.
type Judge func(*Config) error

// Load reads the settings for profile from environ ("NAME=value" each, as from os.Environ), and lets the
// judges check them. Its error is an *Error with everything that is wrong, one problem for each setting, so
// that one round of changes is enough.
func Load(environ []string, profile Profile, judges ...Judge) (*Config, error) {
	values := env.ToMap(environ)
	var problems []Problem
	for standard, ours := range map[string]string{"DATABASE_URL": "LATCHKEY_DATABASE_URL", "REDIS_URL": "LATCHKEY_REDIS_URL"} {
		// In a developer's shell these variables name the stores of the developer's own application.
		if profile != Dev && values[ours] == "" && values[ours+"_FILE"] == "" && values[standard] != "" {
			values[ours] = values[standard]
		}
	}
	for _, f := range fields() {
		if f.tag("secret") != "" {
			problems = append(problems, f.readFile(values, profile)...)
		}
	}
	if profile == Dev {
		for name, value := range devDefaults() {
			if values[name] == "" {
				values[name] = value
			}
		}
	}
	// An empty value means unset: compose files and shells do not distinguish the two.
	for name, value := range values {
		if value == "" {
			delete(values, name)
		}
	}
	cfg := &Config{}
	problems = append(problems, parse(cfg, values)...)
	if profile != Dev { // dev knows its address only when it listens
		cfg.DefaultLinks(cfg.Issuer)
	}
	problems = append(problems, cfg.check(values, profile, problems)...)
	problems = append(problems, cfg.judge(judges, problems)...)
	if len(problems) > 0 {
		slices.SortStableFunc(problems, func(a, b Problem) int { return strings.Compare(a.Variable, b.Variable) })
		return nil, &Error{problems}
	}
	return cfg, nil
}

// judge returns the problems that the judges find, without those of variables that have one already.
func (c *Config) judge(judges []Judge, found []Problem) []Problem {
	bad := make(map[string]bool)
	for _, p := range found {
		bad[p.Variable] = true
		if f, ok := fieldOf(p.Variable); ok {
			reflect.ValueOf(c).Elem().FieldByIndex(f.Index).SetZero()
		}
	}
	var problems []Problem
	for _, judge := range judges {
		err := judge(c)
		var wrong *Error
		switch {
		case err == nil:
			continue
		case !errors.As(err, &wrong):
			wrong = &Error{[]Problem{{"environment", "cannot be used: " + err.Error()}}}
		}
		for _, p := range wrong.Problems {
			if !bad[p.Variable] {
				bad[p.Variable] = true
				problems = append(problems, p)
			}
		}
	}
	return problems
}

func parse(cfg *Config, values map[string]string) []Problem {
	err := env.ParseWithOptions(cfg, env.Options{Environment: values})
	if err == nil {
		return nil
	}
	var all env.AggregateError
	if !errors.As(err, &all) {
		return []Problem{{"environment", "cannot be read: " + err.Error()}}
	}
	var problems []Problem
	for _, one := range all.Errors {
		var bad env.ParseError
		if !errors.As(one, &bad) {
			problems = append(problems, Problem{"environment", "cannot be read: " + one.Error()})
			continue
		}
		f, _ := fieldNamed(bad.Name)
		wrong := "is not usable"
		if isOurs(f.Type) {
			wrong = bad.Err.Error() // from our own UnmarshalText, which never includes the value
		}
		if f.tag("secret") == "" && f.tag("echo") == "" {
			wrong = fmt.Sprintf("has the value %q", values[f.variable()])
		}
		problems = append(problems, Problem{f.variable(), wrong})
	}
	return problems
}

func isOurs(t reflect.Type) bool { return t.PkgPath() == reflect.TypeFor[Config]().PkgPath() }

// DefaultLinks makes the account pages those to which mailed links lead, unless other pages are set. origin is a URL of the
// HTTP listener as people reach it. The token is in the fragment, which no server and no log sees. A page at http of
// another machine is no default: its links would carry secrets in plaintext.
func (c *Config) DefaultLinks(origin string) {
	u, err := url.Parse(origin)
	if !c.AccountPages || err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !hosts.IsLoopbackInBrowsers(u.Hostname())) {
		return
	}
	root := u.Scheme + "://" + u.Host + "/account/"
	c.ResetURL = cmp.Or(c.ResetURL, root+"reset#")
	c.VerifyURL = cmp.Or(c.VerifyURL, root+"verify#")
	c.EmailChangeURL = cmp.Or(c.EmailChangeURL, root+"email#")
}

// check applies the rules that the types of the fields do not: bounds, choices, settings that the profile
// needs, and settings that depend on each other.
func (c *Config) check(values map[string]string, profile Profile, found []Problem) []Problem {
	bad := make(map[string]bool)
	for _, p := range found {
		bad[p.Variable] = true
	}
	var problems []Problem
	add := func(variable, wrong string) {
		if !bad[variable] {
			bad[variable] = true
			problems = append(problems, Problem{variable, wrong})
		}
	}
	for _, f := range fields() {
		name := f.variable()
		if strings.HasPrefix(f.tag("form"), "a path") && (strings.Contains(values[name], "-----BEGIN") || strings.Contains(values[name], "\n")) {
			add(name, "holds a key or a certificate itself")
			continue
		}
		if f.tag("need") == string(profile) && values[name] == "" {
			add(name, "is not set")
			continue
		}
		if bad[name] || f.inBounds(reflect.ValueOf(c).Elem().FieldByIndex(f.Index)) {
			continue
		}
		add(name, fmt.Sprintf("has the value %q", values[name]))
	}
	if profile == Serve && c.ResetURL == "" && isHTTP(c.Issuer) {
		add("LATCHKEY_RESET_URL", "is not set, and no account page takes its place: they are turned off, or LATCHKEY_ISSUER is not https")
	}
	c.checkForms(values, add)
	c.checkTogether(bad, add)
	return problems
}

// checkForms checks settings whose form the tags cannot describe.
func (c *Config) checkForms(values map[string]string, add func(variable, wrong string)) {
	for name, addr := range map[string]string{
		"LATCHKEY_GRPC_ADDR": c.GRPCAddr, "LATCHKEY_HTTP_ADDR": c.HTTPAddr, "LATCHKEY_OPS_ADDR": c.OpsAddr,
	} {
		if !isAddr(addr) {
			add(name, fmt.Sprintf("has the value %q", addr))
		}
	}
	if c.Issuer != "" && !isHTTP(c.Issuer) {
		add("LATCHKEY_ISSUER", fmt.Sprintf("has the value %q", c.Issuer))
	}
	// A former key still verifies for 25 hours. With shorter periods such keys would accumulate.
	if c.KeyRotation != 0 && c.KeyRotation < 24*time.Hour {
		add("LATCHKEY_KEY_ROTATION", fmt.Sprintf("has the value %q", values["LATCHKEY_KEY_ROTATION"]))
	}
}

// checkTogether checks settings that depend on each other. bad holds the variables that have a problem
// already.
func (c *Config) checkTogether(bad map[string]bool, add func(variable, wrong string)) {
	if c.AccountAudience != "" && c.AccountAudience == c.Audience {
		add("LATCHKEY_ACCOUNT_AUDIENCE", "is the same as LATCHKEY_AUDIENCE, so that services could use the tokens that they receive")
	}
	// A maximum that could not be read is zero, and must not limit another setting.
	if !bad["LATCHKEY_SESSION_MAX_TTL"] && c.SessionIdleTTL > c.SessionMaxTTL {
		add("LATCHKEY_SESSION_IDLE_TTL", fmt.Sprintf("(%s) is longer than LATCHKEY_SESSION_MAX_TTL (%s)", c.SessionIdleTTL, c.SessionMaxTTL))
	}
	if !bad["LATCHKEY_SESSION_MAX_TTL"] && c.AccessTokenTTL > c.SessionMaxTTL {
		add("LATCHKEY_ACCESS_TOKEN_TTL", fmt.Sprintf("(%s) is longer than LATCHKEY_SESSION_MAX_TTL (%s)", c.AccessTokenTTL, c.SessionMaxTTL))
	}
	if !bad["LATCHKEY_ARGON2_THREADS"] && c.Argon2MemoryKiB < 8*c.Argon2Threads {
		add("LATCHKEY_ARGON2_MEMORY_KIB", fmt.Sprintf("(%d) is under 8 KiB for each of LATCHKEY_ARGON2_THREADS (%d)", c.Argon2MemoryKiB, c.Argon2Threads))
	}
	for _, hash := range c.ServiceKeySHA256 {
		if slices.Contains(c.AdminKeySHA256, hash) {
			add("LATCHKEY_SERVICE_KEY_SHA256", "contains the hash of an admin key: a service with that key could do everything that operators can")
		}
	}
	if c.TLSCertFile != "" && c.TLSKeyFile == "" {
		add("LATCHKEY_TLS_KEY_FILE", "is not set though LATCHKEY_TLS_CERT_FILE is")
	}
	if c.TLSKeyFile != "" && c.TLSCertFile == "" {
		add("LATCHKEY_TLS_CERT_FILE", "is not set though LATCHKEY_TLS_KEY_FILE is")
	}
	if c.ProxyProtocol && len(c.TrustedProxies) == 0 && !bad["LATCHKEY_TRUSTED_PROXIES"] {
		add("LATCHKEY_PROXY_PROTOCOL", "is true and LATCHKEY_TRUSTED_PROXIES is not set, so that nobody may send a header")
	}
	if c.LegacyEnabled && c.LegacyAcceptUntil.IsZero() {
		add("LATCHKEY_LEGACY_ACCEPT_UNTIL", "is not set though LATCHKEY_LEGACY_ENABLED is, and what the older backends left would be honoured for ever")
	}
}

func isAddr(s string) bool {
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	_, err = strconv.ParseUint(port, 10, 16)
	return err == nil
}

func isHTTP(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// field is one setting with its tags.
type field struct{ reflect.StructField }

func fields() []field {
	var list []field
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		list = append(list, field{f})
	}
	return list
}

func fieldNamed(name string) (field, bool) {
	f, ok := reflect.TypeFor[Config]().FieldByName(name)
	return field{f}, ok
}

func fieldOf(variable string) (field, bool) {
	for _, f := range fields() {
		if f.variable() == variable {
			return f, true
		}
	}
	return field{}, false
}

func (f field) tag(name string) string { return f.Tag.Get(name) }

func (f field) variable() string { return f.Tag.Get("env") }

// wanted returns the form of a right value, with its bounds if there are any.
func (f field) wanted() string {
	if f.tag("min") == "" {
		return f.tag("form")
	}
	return fmt.Sprintf("%s from %s to %s", f.tag("form"), f.tag("min"), f.tag("max"))
}

// inBounds reports whether a value is within min and max and one of oneof. A test checks the tags themselves,
// so their errors are ignored here.
func (f field) inBounds(v reflect.Value) bool {
	if choices := f.tag("oneof"); choices != "" {
		if _, chosen := f.Tag.Lookup("envDefault"); !chosen && v.String() == "" {
			return true // it may be unset
		}
		return slices.Contains(strings.Fields(choices), v.String())
	}
	if f.tag("min") == "" {
		return true
	}
	low, high := f.bounds()
	return v.Int() >= low && v.Int() <= high
}

func (f field) bounds() (low, high int64) {
	number := func(text string) int64 {
		if f.Type == reflect.TypeFor[time.Duration]() {
			d, _ := time.ParseDuration(text)
			return int64(d)
		}
		n, _ := strconv.ParseInt(text, 10, 64)
		return n
	}
	return number(f.tag("min")), number(f.tag("max"))
}

// readFile sets NAME to the content of the file that NAME_FILE names.
func (f field) readFile(values map[string]string, profile Profile) []Problem {
	name := f.variable()
	path := values[name+"_FILE"]
	if path == "" {
		return nil
	}
	if values[name] != "" {
		return []Problem{{name, "and " + name + "_FILE are both set: set one of them"}}
	}
	content, err := os.ReadFile(path) //nolint:gosec // G304: the operator names the file
	if only := f.tag("only"); err != nil && only != "" && only != string(profile) {
		return nil // the profile that needs it reports this; `dev` even creates the file of the admin key
	}
	if err != nil {
		// The path is left out: somebody may have set it to the secret itself.
		reason := err
		if pathError, ok := errors.AsType[*fs.PathError](err); ok {
			reason = pathError.Err
		}
		return []Problem{{name, "cannot be read from " + name + "_FILE (" + reason.Error() + ")"}}
	}
	values[name] = strings.TrimRight(string(content), "\r\n")
	return nil
}
