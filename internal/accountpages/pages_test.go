package accountpages

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/audit"
)

const (
	appURL    = "https://app.example.com/callback?from=latchkey"
	challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM" // RFC 7636, appendix B
)

func newPages(t *testing.T, cfg Config) *Pages {
	t.Helper()
	if cfg.Product == "" {
		cfg.Product = "Acme"
	}
	cfg.PasswordMin = 8
	pages, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// answer is what a page answered.
type answer struct {
	StatusCode int
	Header     http.Header
	body       string
}

func get(t *testing.T, pages http.Handler, target string, headers ...string) answer {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	pages.ServeHTTP(w, r)
	return answer{w.Code, w.Header(), w.Body.String()}
}

// TestTexts: both languages have the same texts, each text is used, each kind of event has one, and marks are the same.
func TestTexts(t *testing.T) {
	t.Parallel()
	english, err := ours("en")
	if err != nil {
		t.Fatal(err)
	}
	german, err := ours("de")
	if err != nil {
		t.Fatal(err)
	}
	if a, b := slices.Sorted(maps.Keys(english)), slices.Sorted(maps.Keys(german)); !slices.Equal(a, b) {
		t.Errorf("English %v, German %v", a, b)
	}
	marks := regexp.MustCompile(`\{\w+\}`)
	for name, text := range english {
		a, b := marks.FindAllString(text, -1), marks.FindAllString(german[name], -1)
		slices.Sort(a)
		slices.Sort(b)
		if !slices.Equal(a, b) {
			t.Errorf("%s: %v in English, %v in German", name, a, b)
		}
	}
	for _, kind := range audit.Kinds() {
		if english[kindPrefix+string(kind)] == "" {
			t.Errorf("the event %s has no text", kind)
		}
	}
	var sources strings.Builder
	for _, pattern := range []string{"templates/*.html", "web/*.ts", "*.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			body, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(body)
		}
	}
	reasons, err := os.ReadFile("../../proto/latchkey/v1/error_reason.proto")
	if err != nil {
		t.Fatal(err)
	}
	for name := range english {
		script, isScript := strings.CutPrefix(name, scriptPrefix)
		_, isKind := strings.CutPrefix(name, kindPrefix)
		field, isField := strings.CutPrefix(script, "field_")
		used := isKind || strings.Contains(sources.String(), ".T."+name) || name == "language" ||
			isScript && (strings.Contains(sources.String(), `"`+script+`"`) || strings.Contains(string(reasons), "REASON_"+script+" ")) ||
			isField && strings.Contains(sources.String(), `name="`+field+`"`)
		if !used {
			t.Errorf("%s is used nowhere", name)
		}
	}
	for _, used := range regexp.MustCompile(`text\("(\w+)"`).FindAllStringSubmatch(sources.String(), -1) {
		if english[scriptPrefix+used[1]] == "" && used[1] != "field_" {
			t.Errorf("the script shows %q, which is no text", used[1])
		}
	}
}

// TestEveryPage: no template asks for a text that there is not, in any language, with all that a service can have and without.
func TestEveryPage(t *testing.T) {
	t.Parallel()
	own := Own{Texts: map[string]map[string]string{"fr": {"language": "Français"}}, Logo: []byte(icon), LogoType: "image/svg+xml", Style: []byte("p {}"), Header: "<p>head</p>"}
	for _, cfg := range []Config{{}, {Own: own, Passkeys: true, LoginByCode: true, Verification: true, DeletionGrace: time.Hour, ReturnURLs: []string{appURL}}} {
		pages := newPages(t, cfg)
		for _, name := range names() {
			for _, one := range pages.languages {
				if got := get(t, pages, Root+name+"?lang="+one.tag.String()); got.StatusCode != http.StatusOK || !strings.HasSuffix(strings.TrimSpace(got.body), "</html>") {
					t.Errorf("%s in %s: %d %s", name, one.tag, got.StatusCode, got.body)
				}
			}
		}
	}
}

// TestHeaders: every answer has the policy, also those that are errors, and no page has an inline script or style.
func TestHeaders(t *testing.T) {
	t.Parallel()
	pages := newPages(t, Config{Passkeys: true, LoginByCode: true, Verification: true})
	targets := []string{Root, Root + "nothing", Root + "login?return_to=https://evil.example/", Root + "assets/x/nothing", Root + "../account/a/b/c"}
	for _, name := range names() {
		targets = append(targets, Root+name)
	}
	executable := regexp.MustCompile(`(?i)<script(?: type="module" src="/account/assets/[0-9a-f]{16}/pages\.js"| type="application/json" id="config")>`)
	for _, target := range targets {
		r := get(t, pages, target)
		for header, want := range map[string]string{
			"Content-Security-Policy":      policy,
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Referrer-Policy":              "no-referrer",
			"X-Content-Type-Options":       "nosniff",
			"X-Frame-Options":              "DENY",
			"Cache-Control":                "no-store",
		} {
			if got := r.Header.Get(header); got != want {
				t.Errorf("%s: %s is %q, want %q", target, header, got, want)
			}
		}
		if r.Header.Get("Permissions-Policy") == "" {
			t.Errorf("%s has no Permissions-Policy", target)
		}
		body := r.body
		if r.StatusCode == http.StatusOK && !strings.Contains(body, "<noscript><p") {
			t.Errorf("%s says nothing to people without JavaScript", target)
		}
		if strings.Contains(target, "evil") && strings.Contains(body, "evil") {
			t.Errorf("%s: the answer repeats the address", target)
		}
		if rest := executable.ReplaceAllString(body, ""); strings.Contains(rest, "<script") || strings.Contains(rest, "<style") || strings.Contains(rest, "style=") ||
			regexp.MustCompile(`\son\w+=`).MatchString(rest) {
			t.Errorf("%s has an inline script or style:\n%s", target, body)
		}
	}
	for _, needed := range []string{"default-src 'none'", "frame-ancestors 'none'", "form-action 'none'", "base-uri 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(policy, needed) {
			t.Errorf("the policy lacks %s", needed)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("the policy is %s", policy)
	}
}

// TestOpenRedirects: return_to is one of the listed addresses to the letter, or the answer is 400 and leads nowhere.
func TestOpenRedirects(t *testing.T) {
	t.Parallel()
	pages := newPages(t, Config{ReturnURLs: []string{appURL, "com.example.app:/login"}})
	link := func(parts ...string) string {
		query := url.Values{}
		for i := 0; i+1 < len(parts); i += 2 {
			query.Add(parts[i], parts[i+1])
		}
		return Root + "login?" + query.Encode()
	}
	for _, to := range []string{appURL, "com.example.app:/login"} {
		r := get(t, pages, link("return_to", to, "code_challenge", challenge, "code_challenge_method", "S256", "state", "xyz"))
		if r.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d", to, r.StatusCode)
		}
		var found scriptConfig
		body := r.body
		_, rest, _ := strings.Cut(body, `id="config">`)
		rest, _, _ = strings.Cut(rest, "</script>")
		if err := json.Unmarshal([]byte(rest), &found); err != nil || found.Return == nil || found.Return.URL != to || found.Return.State != "xyz" {
			t.Errorf("%s: the script is told %+v (%v)", to, found.Return, err)
		}
		for _, page := range []string{"signup", "code"} { // a login may begin on these, or a link of theirs leads to one
			if got := get(t, pages, strings.Replace(link("return_to", to, "code_challenge", challenge), "login", page, 1)); got.StatusCode != http.StatusOK {
				t.Errorf("%s: %d", page, got.StatusCode)
			}
		}
	}
	const base = "https://app.example.com/callback?from=latchkey"
	for _, to := range []string{
		"", " " + base, base + " ", base + "#", base + "#@evil.example", base + "&x=1", base + "/", "https://app.example.com/callback", "https://app.example.com/callback?",
		"HTTPS://app.example.com/callback?from=latchkey", "https://APP.example.com/callback?from=latchkey", "https://app.example.com:443/callback?from=latchkey",
		"https://app.example.com./callback?from=latchkey", "https://app.example.com/./callback?from=latchkey", "https://app.example.com/x/../callback?from=latchkey",
		"https://app.example.com/%63allback?from=latchkey", "https://app.example.com%2f@evil.example/callback?from=latchkey", "https://app.example.com@evil.example/callback?from=latchkey",
		"https://evil.example@app.example.com/callback?from=latchkey", "https://app.example.com\\@evil.example/callback?from=latchkey", "https:\\\\app.example.com/callback?from=latchkey",
		"//app.example.com/callback?from=latchkey", "/\\evil.example", "//evil.example", "///evil.example", "https:evil.example", "https:/evil.example", "http://app.example.com/callback?from=latchkey",
		"https://app.example.com.evil.example/callback?from=latchkey", "https://evil.example/?" + base, "https://аpp.example.com/callback?from=latchkey",
		"javascript:alert(1)", "JaVaScRiPt:alert(1)", "java\nscript:alert(1)", "\x00" + base, base + "\r\nLocation: https://evil.example", "data:text/html,x", "vbscript:x", "file:///etc/passwd",
		"com.example.app:/login/", "com.example.app:login", "COM.example.app:/login", "com.example.app://login", "%68ttps://app.example.com/callback?from=latchkey",
		appURL + "," + appURL, appURL + "\u200b", "\ufeff" + appURL,
	} {
		if r := get(t, pages, link("return_to", to, "code_challenge", challenge)); r.StatusCode != http.StatusBadRequest || r.Header.Get("Location") != "" {
			t.Errorf("%q: %d", to, r.StatusCode)
		}
	}
	for name, target := range map[string]string{
		"twice":                  link("return_to", appURL, "return_to", "https://evil.example/", "code_challenge", challenge),
		"twice, the other way":   link("return_to", "https://evil.example/", "return_to", appURL, "code_challenge", challenge),
		"without a challenge":    link("return_to", appURL),
		"plain":                  link("return_to", appURL, "code_challenge", challenge, "code_challenge_method", "plain"),
		"a short challenge":      link("return_to", appURL, "code_challenge", challenge[:42]),
		"a padded challenge":     link("return_to", appURL, "code_challenge", challenge+"="),
		"bits that do not count": link("return_to", appURL, "code_challenge", challenge[:42]+"N"),
		"a long state":           link("return_to", appURL, "code_challenge", challenge, "state", strings.Repeat("s", 513)),
		"a state alone":          link("state", "xyz"),
		"a semicolon":            Root + "login?return_to=" + url.QueryEscape(appURL) + ";x&code_challenge=" + challenge,
		"a broken escape":        Root + "login?return_to=%zz&code_challenge=" + challenge,
	} {
		if r := get(t, pages, target); r.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %d", name, r.StatusCode)
		}
	}
	if r := get(t, newPages(t, Config{}), link("return_to", appURL, "code_challenge", challenge)); r.StatusCode != http.StatusBadRequest {
		t.Errorf("a service that lists none: %d", r.StatusCode)
	}
}

// TestNext: a login leads to a page of the account and nowhere else.
func TestNext(t *testing.T) {
	t.Parallel()
	for next, want := range map[string]string{
		"sessions": "sessions", "delete": "delete", "": "security", "login": "security", "//evil.example": "security", "https://evil.example": "security",
		"..": "security", "sessions/../../x": "security", "Sessions": "security", "javascript:alert(1)": "security",
	} {
		if got := nextPage(&url.URL{RawQuery: url.Values{"next": {next}}.Encode()}); got != want {
			t.Errorf("%q leads to %q", next, got)
		}
	}
}

// TestLanguages: the link, then what was chosen before, then the browser's wish, then English.
func TestLanguages(t *testing.T) {
	t.Parallel()
	pages := newPages(t, Config{Own: Own{Texts: map[string]map[string]string{"fr": {"language": "Français", "login_title": "Connexion à {product}"}}}})
	for name, test := range map[string]struct {
		query   string
		headers []string
		want    string
	}{
		"nothing":           {"", nil, "en"},
		"German":            {"", []string{"Accept-Language", "de-AT,de;q=0.9,en;q=0.8"}, "de"},
		"own language":      {"", []string{"Accept-Language", "fr-CA"}, "fr"},
		"unknown language":  {"", []string{"Accept-Language", "ja"}, "en"},
		"no header":         {"", []string{"Accept-Language", strings.Repeat("de,", 4000)}, "en"},
		"kept":              {"", []string{"Cookie", "latchkey_language=de", "Accept-Language", "en"}, "de"},
		"kept and unknown":  {"", []string{"Cookie", `latchkey_language="><script>`, "Accept-Language", "de"}, "de"},
		"link":              {"?lang=de", []string{"Cookie", "latchkey_language=fr"}, "de"},
		"a link to nothing": {"?lang=%22%3E%3Cscript%3E", nil, "en"},
	} {
		r := get(t, pages, Root+"login"+test.query, test.headers...)
		if body := r.body; r.Header.Get("Content-Language") != test.want || !strings.Contains(body, `<html lang="`+test.want+`">`) || strings.Contains(body, `"><script>`) {
			t.Errorf("%s: %s", name, r.Header.Get("Content-Language"))
		}
		if kept := len(r.Header.Values("Set-Cookie")) == 1; kept != (test.query == "?lang=de") {
			t.Errorf("%s: sets %v", name, r.Header.Values("Set-Cookie"))
		}
	}
	if body := get(t, pages, Root+"login?lang=fr").body; !strings.Contains(body, "Connexion à Acme") || !strings.Contains(body, "Email address") {
		t.Error("a text that is missing is not English")
	}
}

// TestOwnTexts: what an operator sets is text, wherever it comes to stand.
func TestOwnTexts(t *testing.T) {
	t.Parallel()
	const attack = `</script><script>alert(1)</script><img src=x onerror=alert(1)>" onfocus="alert(1)`
	own := map[string]string{}
	english, err := ours("en")
	if err != nil {
		t.Fatal(err)
	}
	for name := range english {
		own[name] = attack
	}
	pages := newPages(t, Config{
		Product: attack, Passkeys: true, LoginByCode: true, Verification: true,
		Own: Own{Texts: map[string]map[string]string{"en": own}, Logo: []byte("x"), LogoType: "image/png"},
	})
	for _, name := range names() {
		body := get(t, pages, Root+name).body
		if strings.Contains(body, "<script>alert") || strings.Contains(body, "<img src=x") || regexp.MustCompile(`<[^>]*" onfocus="`).MatchString(body) {
			t.Errorf("%s runs a text:\n%s", name, body)
		}
	}
}

func TestLoadOwn(t *testing.T) {
	t.Parallel()
	template := func(name string) string {
		body, err := files.ReadFile("templates/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	forgot, layout := template("forgot.html"), template("layout.html")
	for name, test := range map[string]struct {
		files map[string]string
		wrong string // "": none
	}{
		"all": {map[string]string{
			"texts.en.json": `{"login":"Sign in"}`, "texts.nl.json": `{"language":"Nederlands"}`, "style.css": ":root{}", "logo.svg": "<svg/>",
			"header.html": "<p>Hello", "footer.html": "<a href=/imprint>Imprint</a>", ".hidden": "",
		}, ""},
		"an unknown file":     {map[string]string{"style.scss": ""}, "style.scss"},
		"no JSON":             {map[string]string{"texts.en.json": `{"login":`}, "texts.en.json"},
		"an unknown text":     {map[string]string{"texts.en.json": `{"logn":"Sign in"}`}, "logn"},
		"no language":         {map[string]string{"texts.english.json": `{"language":"English"}`}, "BCP 47"},
		"without its name":    {map[string]string{"texts.nl.json": `{}`}, "language"},
		"two logos":           {map[string]string{"logo.svg": "", "logo.png": ""}, "logo.png"},
		"an empty page":       {map[string]string{"login.html": ""}, "login.html"},
		"no page":             {map[string]string{"logon.html": ""}, "logon.html"},
		"a page":              {map[string]string{"forgot.html": strings.Replace(forgot, "<h1", "<img src=x><h1", 1)}, ""},
		"a page and layout":   {map[string]string{"forgot.html": forgot, "layout.html": strings.Replace(layout, "<body", "<body class=own", 1)}, ""},
		"a page without step": {map[string]string{"forgot.html": strings.Replace(forgot, `data-step="done"`, "", 1)}, `forgot.html has no data-step="done"`},
		"without an id":       {map[string]string{"forgot.html": strings.Replace(forgot, `id="email"`, `id="mail"`, 1)}, `id="email"`},
		"without the script":  {map[string]string{"layout.html": strings.Replace(layout, "pages.js", "own.js", 1)}, "pages.js"},
		"an unknown word":     {map[string]string{"forgot.html": strings.Replace(forgot, ".T.forgot_why", ".T.forgot_wy", 1)}, "forgot_wy"},
		"an unknown fact":     {map[string]string{"forgot.html": strings.Replace(forgot, ".T.forgot_why", ".Password", 1)}, "forgot.html:5"},
		"broken":              {map[string]string{"forgot.html": strings.Replace(forgot, "{{end}}", "", 1)}, "forgot.html"},
		"a file of 300 KiB":   {map[string]string{"style.css": strings.Repeat("x", 300<<10)}, "256 KiB"},
		"a text, not an text": {map[string]string{"texts.en.json": `{"login":1}`}, "texts.en.json"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			for file, body := range test.files {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(body), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			own, err := LoadOwn(dir)
			if err == nil {
				_, err = New(Config{Product: "Acme", PasswordMin: 8, Own: own})
			}
			switch {
			case test.wrong == "" && err != nil:
				t.Error(err)
			case test.wrong != "" && (!errors.Is(err, ErrOwn) || !strings.Contains(err.Error(), test.wrong)):
				t.Errorf("%v, want one about %s", err, test.wrong)
			}
		})
	}
	if _, err := LoadOwn(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, ErrOwn) {
		t.Error(err)
	}
}

// TestOwnFiles: the operator's files are served, with a new address when they change.
func TestOwnFiles(t *testing.T) {
	t.Parallel()
	plain := newPages(t, Config{})
	mine, err := files.ReadFile("templates/login.html")
	if err != nil {
		t.Fatal(err)
	}
	own := newPages(t, Config{Color: "#ffe000", Own: Own{
		Templates: map[string]string{"login.html": "not shown " + strings.Replace(string(mine), "<h1", "<p>Our own page of {{.Product}}</p><h1", 1)},
		Style:     []byte(":root{--radius:0}"), Logo: []byte("<svg/>"), LogoType: "image/svg+xml", Header: "<p id=own-header>x</p>", Footer: "<a href=/imprint>Imprint</a>",
	}})
	if plain.version == own.version {
		t.Error("the address of the files is the same")
	}
	body := get(t, own, Root+"login").body
	for _, want := range []string{own.version + "/own.css", own.version + `/logo" alt="Acme"`, "<p id=own-header>", "<a href=/imprint>", "<p>Our own page of Acme</p>"} {
		if !strings.Contains(body, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(body, "not shown") {
		t.Error("text outside of the templates of a page is shown")
	}
	logo := get(t, own, Root+"assets/"+own.version+"/logo")
	if logo.Header.Get("Content-Type") != "image/svg+xml" || !strings.Contains(logo.Header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("the logo: %v", logo.Header)
	}
	script := get(t, own, Root+"assets/"+own.version+"/pages.js", "Accept-Encoding", "gzip, br")
	if script.Header.Get("Content-Encoding") != "gzip" || !strings.Contains(script.Header.Get("Cache-Control"), "immutable") {
		t.Errorf("the script: %v", script.Header)
	}
	if old := get(t, own, Root+"assets/"+plain.version+"/pages.js"); old.StatusCode != http.StatusOK || old.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("the script of another replica: %d %v", old.StatusCode, old.Header)
	}
}

// TestColors: no colour makes text that cannot be read.
func TestColors(t *testing.T) {
	t.Parallel()
	for _, color := range []string{"#ffffff", "#000000", "#ffe000", "#1a5fb4", "#808080", "#00ff00", "#ff0000"} {
		style, err := colorStyle(color)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`--accent:(#[0-9a-f]{6});--on-accent:(#[0-9a-f]{3,6})`).FindAllStringSubmatch(style, -1)
		if len(found) != 2 {
			t.Fatal(style)
		}
		for i, ground := range []rgb{lightGround(), darkGround()} {
			accent, err := parseColor(found[i][1])
			if err != nil {
				t.Fatal(err)
			}
			on, err := parseColor(strings.Replace(found[i][2], "#fff", "#ffffff", 1))
			if err != nil {
				t.Fatal(err)
			}
			if ratio(accent, ground) < contrast || ratio(accent, on) < contrast {
				t.Errorf("%s becomes %s: %.2f on the ground, %.2f under text", color, found[i][1], ratio(accent, ground), ratio(accent, on))
			}
		}
	}
	for _, color := range []string{"red", "#fff", "#12345g", "1a5fb4", "#1a5fb4}body{}"} {
		if ParseColor(color) == nil {
			t.Errorf("%q is accepted", color)
		}
	}
}

// TestSizes: a first visit loads less than 60 KB, also where nothing is compressed, and what is built in stays below 120.
func TestSizes(t *testing.T) {
	t.Parallel()
	pages := newPages(t, Config{Passkeys: true, LoginByCode: true, Verification: true})
	for _, name := range names() {
		total := len(get(t, pages, Root+name).body)
		for _, file := range []string{"pages.js", "pages.css", "icon.svg"} {
			total += len(pages.assets[file].plain)
		}
		if total > 60_000 {
			t.Errorf("%s: %d bytes", name, total)
		}
	}
	built := 0
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := files.ReadFile(name)
		built += len(body)
		return err
	})
	if err != nil || built > 120_000 {
		t.Errorf("%d bytes are built in (%v)", built, err)
	}
	t.Logf("%d bytes are built in", built)
}
