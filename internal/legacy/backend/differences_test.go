package backend_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/code"
)

// difference is a row of the table in docs/takeover.md: a decision to answer differently from the Go backend.
type difference struct {
	// row is the first column.
	row string
	// answers are those to recorded requests, under the names of the records. None: no record shows it, but other tests
	// do.
	answers map[string]answer
}

func refusedWith(c code.Code, text string) answer { return answer{c.String(), text, map[string]any{}} }

func invalid(text string) answer { return refusedWith(code.Code_INVALID_ARGUMENT, text) }

func answeredOK(body any) answer { return answer{code.Code_OK.String(), "", body} }

func notValid() answer {
	return answeredOK(map[string]any{"valid": false, "user": nil, "message": "invalid or expired token"})
}

func loggedIn(id, email, first, last string) answer {
	return answeredOK(map[string]any{
		"accessToken": "<jwt>", "refreshToken": "<token>", "expiresIn": "900",
		"user": map[string]any{"id": id, "email": email, "firstName": first, "lastName": last},
	})
}

// differences returns all of them, in the order of the table.
func differences() []difference {
	const form, taken = "invalid email format", "email already registered"
	locked := refusedWith(code.Code_PERMISSION_DENIED, "too many failed login attempts, please try again later")
	return []difference{
		{"Letter case of an address", map[string]answer{
			"s-taken-04":   refusedWith(code.Code_ALREADY_EXISTS, taken),
			"s-login-17":   loggedIn("cf181129-275c-464e-a2eb-8209786f7121", "Mika@Harbor.Example", "Mika", "Sato"),
			"s-lockout-06": locked,
		}},
		{"White space around an address", map[string]answer{
			"s-email-08": invalid(form), "s-email-18": invalid(form),
			"s-login-08": loggedIn("dea070ec-c330-40cb-91fe-4d683cb8d167", "ines@harbor.example", "Ines", "Okafor"),
		}},
		{"Other forms of addresses", nil},
		{"Addresses that no mail server takes", nil},
		{"White space around a name", nil},
		{"NUL in a new password", map[string]answer{"s-password-14": invalid("password must not contain NUL")}},
		{"Disabled accounts", map[string]answer{
			"s-login-15":   refusedWith(code.Code_UNAUTHENTICATED, "invalid email or password"),
			"s-lockout-05": refusedWith(code.Code_PERMISSION_DENIED, "account is disabled"),
			"s-reset-16":   invalid("invalid or expired reset token"),
		}},
		{"Accounts that are to be deleted (`LATCHKEY_DELETION_GRACE`)", nil},
		{"Deleted accounts", map[string]answer{"s-reset-17": invalid("invalid or expired reset token")}},
		{"What a reset ends", map[string]answer{
			"s-reset-18":    loggedIn("2114ead6-37a1-4fa7-881b-ebd2c1ab768e", "reset5.dock@harbor.example", "Tess", "Moor"),
			"s-validate-20": notValid(),
		}},
		{"Refresh tokens", map[string]answer{"s-validate-06": notValid()}},
		{"Access tokens that it never made", map[string]answer{
			"s-validate-12": notValid(), "s-validate-13": notValid(), "s-validate-14": notValid(),
			"s-validate-15": notValid(), "s-validate-17": notValid(),
		}},
		{"Limits", nil},
		{"Stores that do not answer", nil},
	}
}

// differentAnswers returns the answers of all differences under the names of the records.
func differentAnswers() map[string]answer {
	all := map[string]answer{}
	for _, d := range differences() {
		maps.Copy(all, d.answers)
	}
	return all
}

// rows returns the first column of the table in docs/takeover.md.
func rows(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile("../../../docs/takeover.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n### Where the answers differ\n")
	if !found {
		t.Fatal("docs/takeover.md has no such section")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var named []string
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 6 { // four columns have five marks
			continue
		}
		if name := strings.TrimSpace(cells[1]); name != "" && !strings.HasPrefix(name, "---") {
			named = append(named, name)
			for _, cell := range cells[2:5] {
				if strings.TrimSpace(cell) == "" {
					t.Errorf("%s: a column is empty", name)
				}
			}
		}
	}
	return named
}

// TestDifferencesAreListed: the page lists every difference, with its reason, and no other.
func TestDifferencesAreListed(t *testing.T) {
	t.Parallel()
	var want []string
	for _, d := range differences() {
		want = append(want, d.row)
	}
	if listed := rows(t); !slices.Equal(listed, want) {
		t.Errorf("docs/takeover.md lists %q, want %q", listed, want)
	}
}
