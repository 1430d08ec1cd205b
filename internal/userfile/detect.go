package userfile

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// sight is the information that the beginning of a file shows.
type sight struct {
	empty, json bool
	// lines says that each line is a document. path is where in the documents the users are.
	lines bool
	path  []string
	// around are simple members of the objects around the users, before the users, in lower case.
	around map[string]string
	// names are those of the columns, or of the members of the first objects down to the first user. Each name is there
	// twice: unchanged, and in lower case.
	names map[string]bool
}

// look reads the beginning of a file.
func look(head []byte) sight {
	s := sight{names: map[string]bool{}, around: map[string]string{}}
	text := bytes.TrimSpace(head)
	switch {
	case len(text) == 0:
		s.empty = true
	case text[0] == '{', text[0] == '[':
		s.json = true
		s.lookAtJSON(text)
	default:
		line, _, _ := strings.Cut(string(text), "\n")
		s.lookAtHeader(line)
	}
	return s
}

func (s *sight) lookAtHeader(line string) {
	header, _ := headerFields(strings.TrimRight(line, "\r"))
	for _, name := range header {
		s.names[name] = true
	}
	if len(header) >= firebaseColumns && slices.Contains([]string{"true", "false"}, header[2]) {
		s.names["firebase-row"] = true
	}
}

func (s *sight) lookAtJSON(text []byte) {
	in := &memberNames{sight: s, text: text, dec: json.NewDecoder(bytes.NewReader(text))}
	if text[0] == '[' {
		_, _ = in.dec.Token() // the bracket
		s.path = []string{eachOf}
		for in.dec.More() && !in.object() { // phpMyAdmin's comments come first
			clear(s.names)
		}
	} else {
		in.object()
	}
	s.completePath()
	line, _, whole := bytes.Cut(text, []byte("\n"))
	s.lines = len(s.path) == 0 && (!whole || json.Valid(line) || closes(line))
}

// completePath adds the steps that are further down in the file, or not in its first realm or organization.
func (s *sight) completePath() {
	last := ""
	if len(s.path) > 0 {
		last = s.path[len(s.path)-1]
	}
	if last == "dataOrgs" || last == "data_orgs" {
		s.path = append(s.path, "orgs", eachOf)
	}
	switch {
	case slices.Contains(s.path, "orgs") && !slices.Contains(s.path, "humanUsers"):
		s.path = append(s.path, "humanUsers", eachOf)
	case s.names["realm"] && !slices.Contains(s.path, "users"):
		s.path = append(s.path, "users", eachOf)
	}
}

// closes reports whether a line that is not JSON was meant to be a whole object: then it is a broken line, and not the
// first line of an object over several lines.
func closes(line []byte) bool {
	return bytes.HasSuffix(bytes.TrimSpace(line), []byte("}")) || !bytes.HasSuffix(bytes.TrimSpace(line), []byte(",")) &&
		len(bytes.TrimSpace(line)) > 1
}

// maxAround is the longest value that is kept of the objects around the users.
const maxAround = 64

// memberNames reads the names of members at the beginning of a document.
type memberNames struct {
	*sight
	text []byte
	dec  *json.Decoder
}

// object collects the names of members of the next object, as far as the text reaches, down to the first user. It
// returns false for a comment of phpMyAdmin, which holds no users.
func (m *memberNames) object() bool {
	if open, err := m.dec.Token(); err != nil || open != json.Delim('{') {
		return true
	}
	comment, values := false, map[string]string{}
	for m.dec.More() {
		token, err := m.dec.Token()
		name, isName := token.(string)
		if err != nil || !isName {
			return true
		}
		m.names[name], m.names[strings.ToLower(name)] = true, true
		if m.holdsUsers(name) {
			maps.Copy(m.around, values)
			return m.object()
		}
		var value json.RawMessage
		if m.dec.Decode(&value) != nil {
			return true
		}
		if len(value) <= maxAround {
			values[strings.ToLower(name)] = strings.Trim(string(value), `"`)
		}
		comment = comment || name == "type" && (string(value) == `"header"` || string(value) == `"database"`)
		if name == "user_id" && bytes.IndexByte(value, '|') > 0 {
			m.names["user_id|"] = true // Auth0's "auth0|5f7c8f0a"
		}
	}
	_, _ = m.dec.Token() // the end of the object
	return !comment
}

// holdsUsers enters the member that was named last if it holds users, or holds a member that does.
func (m *memberNames) holdsUsers(name string) bool {
	rest := bytes.TrimLeft(m.text[m.dec.InputOffset():], " \t\r\n:")
	array := bytes.HasPrefix(rest, []byte("["))
	switch name {
	case "users", "Users", "humanUsers", "result", "orgs":
		if !array && !bytes.HasPrefix(rest, []byte("{")) || m.names["email"] {
			return false
		}
		array = true // otherwise the reading ends here
	case "dataOrgs", "data_orgs":
		if array {
			return false
		}
	case "data": // of phpMyAdmin's tables; others have a member of this name in each user
		if !array || !m.names["type"] || m.names["email"] {
			return false
		}
	default:
		return false
	}
	m.path = append(m.path, name)
	if array {
		_, _ = m.dec.Token() // the bracket
		m.path = append(m.path, eachOf)
	}
	return true
}

// source splits the file into records of a format.
func (s sight) source(in *bufio.Reader, of spec, named Columns) (source, error) {
	switch {
	case s.json && !of.json:
		return nil, fmt.Errorf("this is JSON, but %s files are CSV", of.format)
	case s.json && s.lines, s.empty:
		return newLines(in), nil
	case s.json:
		return newElements(in, s.path), nil
	case !of.csv:
		return nil, fmt.Errorf("this is not JSON, but %s files are: it begins with neither { nor [", of.format)
	case of.format == Firebase:
		return newFirebaseRows(in), nil
	}
	rows, err := newRows(in)
	if err != nil {
		return nil, err
	}
	switch {
	case len(named) > 0:
		return rows, named.check(rows.columns)
	case of.format == CSV:
		return rows, checkColumns(rows.columns)
	}
	return rows, of.checkColumns(rows.columns)
}

// checkColumns refuses CSV without a column for the address.
func (s spec) checkColumns(named map[string]int) error {
	for _, name := range s.email {
		if _, ok := named[name]; ok {
			return nil
		}
	}
	return fmt.Errorf("there is no column %s, in which %s files have the address; perhaps the line of column names is missing",
		strings.Join(s.email, " or "), s.format)
}

// has reports whether the file has a name. A name with a capital letter must match exactly.
func (s sight) has(name string) bool { return s.names[name] }

// spec returns how the file is read.
func (s sight) spec(o Options) (spec, error) {
	if len(o.Columns) == 0 {
		format, err := s.choose(o.Format)
		return format.spec(), err
	}
	if o.Format != "" && o.Format != s.own() {
		return spec{}, fmt.Errorf("with named columns the file is read as %s: leave --format out", s.own())
	}
	return o.Columns.spec(s.own()), nil
}

// choose returns the format that was asked for, or the one that the file shows. It refuses a format that the file
// cannot have.
func (s sight) choose(asked Format) (Format, error) {
	if asked != "" && asked.spec().format == "" {
		return "", fmt.Errorf("there is no format %q: %s", asked, formatNames())
	}
	shown := s.shown(func(f spec) []sign { return f.signs })
	switch {
	case asked != "" && len(shown) == 1 && shown[0] != asked:
		return "", fmt.Errorf("this looks like %s, not like %s: use --format %s, or leave it out",
			shown[0].Describe(), asked.Describe(), shown[0])
	case asked != "":
		return asked, nil
	case s.empty:
		return JSONL, nil
	case s.ours():
		return s.own(), nil
	case len(shown) == 0:
		shown = s.shown(func(f spec) []sign { return f.hints })
	}
	switch {
	case len(shown) == 1:
		return shown[0], nil
	case len(shown) > 1:
		return "", fmt.Errorf("the file could be %s: name one with --format", orList(shown))
	case s.names["accountid"] && s.names["providerid"]:
		return "", errors.New("this looks like the table account of better-auth, which has no addresses: " +
			"join it with the table user, as docs/import.md shows")
	case s.names["email"]:
		return s.own(), nil
	}
	return "", errors.New("the format is not clear from the beginning of the file, which has no email: use --format, one of " + formatNames() +
		"; or name the columns of a table of your own, --columns email=NAME,password_hash=NAME")
}

// shown returns the formats whose signs the file has.
func (s sight) shown(signs func(spec) []sign) []Format {
	var found []Format
	for _, f := range foreignSpecs() {
		if (s.json && f.json || !s.json && f.csv) && slices.ContainsFunc(signs(f), func(sign sign) bool { return sign.seen(s) }) {
			found = append(found, f.format)
		}
	}
	return found
}

// own returns the one of our own formats that the file can have.
func (s sight) own() Format {
	if s.json {
		return JSONL
	}
	return CSV
}

// ours reports whether the file has only names of our own formats.
func (s sight) ours() bool {
	known := slices.Concat(columns(), partColumns())
	for name := range s.names {
		if !slices.Contains(known, name) {
			return false
		}
	}
	return s.names["email"]
}

// orList returns "a, b or c".
func orList(formats []Format) string {
	var b strings.Builder
	for i, f := range formats {
		switch {
		case i > 0 && i == len(formats)-1:
			b.WriteString(" or ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(f))
	}
	return b.String()
}
