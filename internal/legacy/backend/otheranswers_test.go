package backend_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/code"
)

// sent is a request that was not recorded, and the answer that follows from the Go backend's rules. If Latchkey
// differs, row is the row of docs/takeover.md.
type sent struct {
	rpc     string
	request map[string]string
	want    answer
	row     string
}

const (
	textForm    = "invalid email format"
	textTooLong = "email must not exceed 255 characters"
	textWrong   = "invalid email or password"
	goodSecret  = "Tide-Mark-42!"
	rowMailbox  = "Addresses that no mail server takes"
	rowSpace    = "White space around an address"
	rowName     = "White space around a name"
	rowNUL      = "NUL in a new password"
)

// signingUp returns a sign-up with one field changed.
func signingUp(email, field, value string) map[string]string {
	request := map[string]string{"email": email, "password": goodSecret, "firstName": "Kai", "lastName": "Brandt"}
	request[field] = value
	return request
}

func signedUp(request map[string]string) answer {
	return answeredOK(map[string]any{"success": true, "message": "User registered successfully", "user": map[string]any{
		"id": "<uuid>", "email": request["email"], "firstName": request["firstName"], "lastName": request["lastName"],
	}})
}

func mailed() answer {
	return answeredOK(map[string]any{"success": true, "message": "If your email is registered, you will receive a password reset link"})
}

// malformed returns addresses that only the check of the form refuses.
func malformed() []string {
	list := []string{
		"kai", "kai@@harbor.example", "kai@harbor@harbor.example", "a@b", "a@b.c", "a@b.c1", "a@b.1", "kai@harbor.example.", "kai@.e",
		"kai@harbor_x.example", "kai q@harbor.example", "kai@harbor .example", "kai\t@harbor.example", "kai\n@harbor.example", "kai@harbor.exa mple",
		"кай@harbor.example", "kai@例え.example", "kai@harbor.exámple", "kai@harbor.рф", "kai@harbor\u3002example", "ｋai@harbor.example", "K\u0131i@harbor.example",
		"\u200bkai@harbor.example", "kai\u200b@harbor.example", "kai@harbor.example\u200b", "\ufeffkai@harbor.example", "kai\x00@harbor.example", "kai@harbor.example\x00",
		"kai@1.2.3.4", "kai@[::1]", "kai@xn--e1afmkfd.xn--p1ai", "mailto:kai@harbor.example", `"kai"@harbor.example`, "kai@harbor.example, x@harbor.example",
		"Kai <kai@harbor.example>", strings.Repeat("é", 100) + "@harbor.example", "\u0001kai@harbor.example",
	}
	for _, mark := range "!#$&'*/=?^`{|}~()<>[]:;,\\\"" {
		list = append(list, "kai"+string(mark)+"x@harbor.example")
	}
	return list
}

// overlong returns addresses that have more than 255 bytes even without the white space around them. Most have a wrong
// form too.
func overlong() []string {
	return []string{
		strings.Repeat("k", 241) + "@harbor.example", strings.Repeat("k", 256), strings.Repeat("é", 128), strings.Repeat("a.", 7000),
		" " + strings.Repeat("k", 241) + "@harbor.example ", strings.Repeat("k", 3000) + "@harbor.example", strings.Repeat("日", 86),
	}
}

// blanks returns values that consist of white space.
func blanks() []string {
	return []string{"", " ", "        ", "\t", "\r\n", "\u00a0", "\u2003\u3000", "\u0085\v\f", strings.Repeat(" ", 3000)}
}

func signUpAddresses() []sent {
	var list []sent
	refused := func(row, text string, addresses ...string) {
		for _, a := range addresses {
			list = append(list, sent{"SignUp", signingUp(a, "email", a), invalid(text), row})
		}
	}
	refused("", "email is required", blanks()...)
	refused("", textForm, malformed()...)
	refused("", textTooLong, overlong()...)
	refused(rowMailbox, textForm,
		".kai@harbor.example", "kai.@harbor.example", "k..ai@harbor.example", ".@harbor.example", "kai@-harbor.example", "kai@harbor-.example",
		"kai@harbor..example", "kai@.harbor.example", "kai@xn--.example", "kai@xn--a.example", "kai@"+strings.Repeat("h", 64)+".example",
		strings.Repeat("k", 65)+"@harbor.example", strings.Repeat("k", 240)+"@harbor.example", "kai@-.example")
	refused(rowSpace, textForm,
		" kai@harbor.example", "kai@harbor.example ", "\tkai@harbor.example", "kai@harbor.example\n", "\u3000kai@harbor.example", "kai@harbor.example\u00a0",
		strings.Repeat(" ", 300)+"kai@harbor.example")
	for _, a := range []string{
		"kai_1@harbor.example", "kai%x@harbor.example", "a.b-c+d_e%f@sub.dom-ain.harbor.example", "-kai@harbor.example", "1@1.example", "Kai.X@HARBOR.Example",
		"kai@xn--bcher-kva.example", "_@harbor.example", "%@harbor.example", "+@harbor.example", "kai@h.ex", "kai@a.b.c.d.e.example", "kai@0-0.example",
		strings.Repeat("k", 64) + "@harbor.example", "kai@" + strings.Repeat("h", 63) + ".example", "kai@harbor." + strings.Repeat("e", 63),
		"k@" + strings.Repeat(strings.Repeat("h", 63)+".", 3) + strings.Repeat("e", 61),
	} {
		request := signingUp(a, "email", a)
		list = append(list, sent{"SignUp", request, signedUp(request), ""})
	}
	return list
}

// passwords returns new passwords, each with the text that refuses it; "" accepts it. The text determines the row.
func passwords() map[string]string {
	const upper, lower, number, special = "at least one uppercase letter", "at least one lowercase letter", "at least one number", "at least one special character"
	all := "password must contain " + upper + ", " + lower + ", " + number + ", " + special
	const short, long = "password must be at least 8 characters long", "password must not exceed 128 characters"
	found := map[string]string{
		"": "password is required", " ": short, "Aa1!aaa": short, "Aa1!é": short, "é": short, "1234567": short, "\x00": short,
		"Aa1!aaaa": "", "Aa1!éé": "", "Aa1!" + strings.Repeat("x", 124): "", "Aa1!" + strings.Repeat("é", 62): "", "  Aa1! x ": "", "Aa1!\n\t\x7f\x01": "", "Aa1!日本": "",
		"Aa1!" + strings.Repeat("x", 125): long, "Aa1!" + strings.Repeat("é", 63): long, strings.Repeat("x", 129): long, strings.Repeat("日", 43): long, strings.Repeat("x", 9000): long,
		"        ": all, "ÀÀÀÀàààà": all, "日本日本日本": all, "١٢٣٤٥٦٧٨": all, "«»§¿¡¶…—": all, "\t\r\n\v\f\x7f\x01\x02": all, "😀😀": all,
		"Aa1!\x00xxx": "password must not contain NUL", "\x00Aa1!xxxx": "password must not contain NUL",
		"Àa1!aaaa": "password must contain " + upper, "Aà1!AAAA": "password must contain " + lower, "Aa１!aaaa": "password must contain " + number, "Aa1§aaaa": "password must contain " + special,
	}
	kinds := []struct{ has, text string }{{"Q", upper}, {"q", lower}, {"7", number}, {"~", special}}
	for missing := 1; missing < 15; missing++ {
		var has, lacks []string
		for i, k := range kinds {
			if missing>>i&1 == 1 {
				lacks = append(lacks, k.text)
			} else {
				has = append(has, k.has)
			}
		}
		found[strings.Repeat(strings.Join(has, ""), 8)] = "password must contain " + strings.Join(lacks, ", ")
	}
	for _, mark := range "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~" {
		found["Aa1xxxx"+string(mark)] = ""
	}
	return found
}

func newPasswords() []sent {
	var list []sent
	for candidate, text := range passwords() {
		row := ""
		if strings.HasSuffix(text, "NUL") {
			row = rowNUL
		}
		request := signingUp(fmt.Sprintf("secret%d@harbor.example", len(list)), "password", candidate)
		want := signedUp(request)
		if text != "" {
			want = invalid(text)
		}
		list = append(list, sent{"SignUp", request, want, row})
		if text == "" {
			text = "invalid or expired reset token"
		}
		list = append(list, sent{"ResetPassword", map[string]string{"token": "x", "newPassword": candidate}, invalid(text), row})
	}
	return list
}

func names(member, field string) []sent {
	var list []sent
	add := func(text, row string, values ...string) {
		for _, value := range values {
			request := signingUp(fmt.Sprintf("%s%d@harbor.example", field, len(list)), member, value)
			want := invalid(field + text)
			if text == "" {
				want = signedUp(request)
			}
			list = append(list, sent{"SignUp", request, want, row})
		}
	}
	add(" is required", "", blanks()...)
	add(" must be at least 2 characters long", "", "K", " K ", "-", " ' ", "1", "\tK", "\x00")
	add(" must not exceed 100 characters", "", strings.Repeat("n", 101), strings.Repeat("1", 101), strings.Repeat("é", 51), " "+strings.Repeat("n", 101), strings.Repeat("n", 9000))
	add(" contains invalid characters", "",
		"K1", "Kai.", "K_i", "K@i", "Zoë", "é", strings.Repeat("é", 50), "Ka\ti", "Ka\ni", "Ka\u00a0i", "O’Hara", "Ka—i", "李明", "Kai\x00", "<b>", "Kai\u202e", "😀😀", "Ka\u0301i", "Kai,", "K/i", "ＫＡＩ")
	add("", "", "Ka", "  Ka  ", "--", "''", "O'Hara", "Mary-Jane", "de la Cruz", "a b", "KAI", strings.Repeat("n", 100), " "+strings.Repeat("n", 99))
	add(" contains invalid characters", rowName, "\tKai", "Kai\n", "\u00a0Kai", "Kai\u3000")
	add(" must not exceed 100 characters", rowName, " "+strings.Repeat("n", 100), strings.Repeat(" ", 200)+"Kai")
	return list
}

// orders returns sign-ups with every combination of wrong fields.
func orders() []sent {
	broken := []struct{ member, value, text string }{
		{"email", "no-at", textForm},
		{"password", "short", "password must be at least 8 characters long"},
		{"firstName", "K", "first_name must be at least 2 characters long"},
		{"lastName", "", "last_name is required"},
	}
	var list []sent
	for choice := 1; choice < 16; choice++ {
		request := signingUp("order@harbor.example", "lastName", "Brandt")
		text := ""
		for i, b := range broken {
			if choice>>i&1 == 0 {
				continue
			}
			request[b.member] = b.value
			if text == "" {
				text = b.text
			}
		}
		list = append(list, sent{"SignUp", request, invalid(text), ""})
	}
	return list
}

func logins() []sent {
	var list []sent
	add := func(want answer, email string, passwords ...string) {
		for _, p := range passwords {
			list = append(list, sent{"Login", map[string]string{"email": email, "password": p}, want, ""})
		}
	}
	wrong := refusedWith(code.Code_UNAUTHENTICATED, textWrong)
	for _, email := range blanks() {
		add(invalid("email is required"), email, "x", "")
	}
	for i, email := range malformed() {
		add(invalid(textForm), email, []string{"x", "", strings.Repeat("x", 200), "\x00"}[i%4])
	}
	for _, email := range overlong() {
		add(invalid(textTooLong), email, "x", "")
	}
	add(invalid("password is required"), "nobody@harbor.example", "")
	add(invalid("password is required"), " ines@harbor.example", "")
	add(invalid("password is required"), "greta@harbor.example", "")
	for _, email := range []string{"nobody@harbor.example", "ines@harbor.example", ".no..body@harbor.example", "greta@harbor.example "} {
		add(wrong, email, "x", " ", "\x00", goodSecret, strings.Repeat("x", 129), strings.Repeat("é", 129), strings.Repeat("x", 9000), "Quay-Side-19!\x00", "Quay-Side-19! ")
	}
	return list
}

func forgottenAndReset() []sent {
	var list []sent
	add := func(want answer, emails ...string) {
		for _, email := range emails {
			list = append(list, sent{"ForgotPassword", map[string]string{"email": email}, want, ""})
		}
	}
	add(invalid("email is required"), blanks()...)
	add(invalid(textForm), malformed()...)
	add(invalid(textTooLong), overlong()...)
	add(mailed(), "nobody1@harbor.example", " ines@harbor.example ", "INES@harbor.example", "no..body@harbor.example", strings.Repeat("k", 240)+"@harbor.example", strings.Repeat(" ", 500)+"kai@harbor.example")
	reset := func(text, token, chosen string) {
		list = append(list, sent{"ResetPassword", map[string]string{"token": token, "newPassword": chosen}, invalid(text), ""})
	}
	for _, token := range blanks() {
		reset("token is required", token, "weak")
		reset("token is required", token, goodSecret)
	}
	reset("token is too long", strings.Repeat("x", 2001), "")
	reset("token is too long", strings.Repeat("é", 1001), goodSecret)
	for _, token := range []string{"x", "\x00", strings.Repeat("x", 2000), strings.Repeat("é", 1000), "00000000-0000-0000-0000-000000000000", "df5e8f9d-1aeb-43bd-a5c1-630b32221d9", "*", "../x", "{x}"} {
		reset("invalid or expired reset token", token, goodSecret)
		reset("password must be at least 8 characters long", token, "weak")
	}
	return list
}

func validations() []sent {
	var list []sent
	add := func(want answer, tokens ...string) {
		for _, token := range tokens {
			list = append(list, sent{"ValidateToken", map[string]string{"accessToken": token}, want, ""})
		}
	}
	add(invalid("token is required"), blanks()...)
	add(invalid("token is too long"), strings.Repeat("x", 2001), strings.Repeat("é", 1001), strings.Repeat(".", 9000))
	add(notValid(), ".", "..", "a.b.c", "a.b.c.d", "\x00", strings.Repeat("x", 2000), strings.Repeat("é", 1000), "null", "{}", "Bearer x", "e30.e30.e30", "eyJhbGciOiJub25lIn0.e30.")
	return list
}

// TestOtherAnswers sends requests of the recorded kinds that were not recorded. The texts are repeated here, so that a
// change of the table in rules.go is noticed.
func TestOtherAnswers(t *testing.T) {
	t.Parallel()
	setup, _ := readAnswers(t)
	s := takeOver(t, setup)
	listed := map[string]bool{"": true}
	for _, d := range differences() {
		listed[d.row] = true
	}
	count := 0
	for _, group := range [][]sent{
		signUpAddresses(), newPasswords(), names("firstName", "first_name"), names("lastName", "last_name"), orders(), logins(), forgottenAndReset(), validations(),
	} {
		for _, r := range group {
			count++
			request := fields{}
			for name, value := range r.request {
				request[name] = []byte(value)
			}
			s.forgetFailures(t)
			if got := s.ask(t, r.rpc, request); !got.isLike(r.want) {
				t.Errorf("%s %.200q: %.200s, want %.200s", r.rpc, r.request, got, r.want)
			}
			if !listed[r.row] {
				t.Errorf("docs/takeover.md has no row %q", r.row)
			}
		}
	}
	t.Logf("%d requests", count)
	if count < 400 {
		t.Errorf("only %d requests", count)
	}
}
