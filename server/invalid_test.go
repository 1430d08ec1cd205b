package server_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/latchkey-auth/latchkey/internal/refusal"
	"github.com/latchkey-auth/latchkey/server"
)

var update = flag.Bool("update", false, "write testdata/invalid-requests.txt again") //nolint:gochecknoglobals // how package testing takes flags

// probes returns texts on both sides of each limit of a field, and of each kind that a rule refuses.
func probes() []struct{ name, text string } {
	of := strings.Repeat
	return []struct{ name, text string }{
		{"empty", ""},
		{"1 letter", "a"},
		{"2 letters", "ab"},
		{"7 letters", of("a", 7)},
		{"8 letters", of("a", 8)},
		{"64 letters", of("a", 64)},
		{"65 letters", of("a", 65)},
		{"100 letters", of("a", 100)},
		{"101 letters", of("a", 101)},
		{"128 letters", of("a", 128)},
		{"129 letters", of("a", 129)},
		{"255 letters", of("a", 255)},
		{"256 letters", of("a", 256)},
		{"257 letters", of("a", 257)},
		{"513 letters", of("a", 513)},
		{"2001 letters", of("a", 2001)},
		{"4097 letters", of("a", 4097)},
		{"8 letters of 3 bytes", of("字", 8)},
		{"33 letters of 4 bytes", of("𝔸", 33)},
		{"128 letters of 2 bytes", of("é", 128)},
		{"100 letters and a control character", of("a", 100) + "\x01"},
		{"NUL", "\x00"},
		{"NUL in a text", "correct\x00horse"},
		{"NUL after 129 letters", of("a", 129) + "\x00"},
		{"spaces", "   "},
		{"no-break spaces", "\u00a0\u2003"},
		{"control character", "a\x01b"},
		{"line end", "a\nb"},
		{"line separator", "a\u2028b"},
		{"direction override", "\u202e"},
		{"direction override in a text", "a\u202eb"},
		{"every kind of character", "Correct-Horse 7!"},
		{"without a capital", "correct-horse-7!"},
		{"name", "Ada O'Hara-Müller"},
		{"ASCII name", "Ada O'Hara"},
		{"UUID", "0197c2de-4f7e-7bbb-8c5d-0a4a1c2f9e11"},
		{"address", "ada@example.com"},
		{"address of another script", "ада@пример.рф"},
		{"address with a space", "ada lovelace@example.com"},
		{"two at signs", "ada@home@example.com"},
		{"nothing before the at sign", "@example.com"},
		{"nothing after the at sign", "ada@"},
		{"two dots", "ada..l@example.com"},
		{"quoted", `"ada"@example.com`},
		{"65 letters before the at sign", of("a", 65) + "@example.com"},
		{"64 letters in a label", "ada@" + of("a", 64) + ".com"},
		{"hyphen at an end", "ada@-example.com"},
		{"address of 256 characters", "ada@" + of("abcdefg.", 31) + "abcd"},
		{"address of 321 bytes", "字@" + of("字字字字.", 24) + "字字"},
	}
}

// TestInvalidRequests checks which texts each field of each request refuses, and the answer, in its order. Clients show
// these texts and act on the reasons. So a rule may be rewritten, but its answers must not change.
func TestInvalidRequests(t *testing.T) {
	t.Parallel()
	validator, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	got.WriteString("# What each field of a request answers to probes() of invalid_test.go; made by `go test ./server -run TestInvalidRequests -update`.\n")
	for _, field := range contractFields() {
		if field.Kind() == protoreflect.StringKind && strings.HasSuffix(string(field.Parent().Name()), "Request") {
			writeAnswers(t, &got, validator, field)
		}
	}
	const golden = "testdata/invalid-requests.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	wanted := strings.Split(string(want), "\n")
	answers := strings.Split(got.String(), "\n")
	for _, line := range answers {
		if !slices.Contains(wanted, line) {
			t.Errorf("new: %s", line)
		}
	}
	for _, line := range wanted {
		if !slices.Contains(answers, line) {
			t.Errorf("was: %s", line)
		}
	}
}

// writeAnswers writes a line for each answer about a field: the probes that get it, then its violations.
func writeAnswers(t *testing.T, to *strings.Builder, validator protovalidate.Validator, field protoreflect.FieldDescriptor) {
	t.Helper()
	byAnswer := map[string][]string{}
	var answers []string
	for _, probe := range probes() {
		message := dynamicpb.NewMessage(field.ContainingMessage())
		value := protoreflect.ValueOfString(probe.text)
		if field.IsList() {
			list := message.NewField(field)
			list.List().Append(value)
			value = list
		}
		message.Set(field, value)
		found := answer(t, validator.Validate(message), string(field.Name()))
		if _, ok := byAnswer[found]; !ok {
			answers = append(answers, found)
		}
		byAnswer[found] = append(byAnswer[found], probe.name)
	}
	for _, a := range answers {
		fmt.Fprintf(to, "%s: %s: %s\n", field.FullName(), strings.Join(byAnswer[a], ", "), a)
	}
}

// answer returns the text about one field in the answer to an invalid request.
func answer(t *testing.T, err error, field string) string {
	t.Helper()
	if err == nil {
		return "accepted"
	}
	var refused *refusal.Error
	if !errors.As(server.InvalidRequest(err), &refused) {
		t.Fatalf("no refusal: %v", err)
	}
	var found []string
	for _, detail := range refused.Details {
		bad, ok := detail.(*errdetails.BadRequest)
		if !ok {
			t.Fatalf("a detail of another kind: %v", detail)
		}
		for _, v := range bad.GetFieldViolations() {
			if v.GetField() == field {
				found = append(found, fmt.Sprintf("%s %q", v.GetReason(), v.GetDescription()))
			}
		}
	}
	if len(found) == 0 {
		return "accepted"
	}
	return strings.Join(found, ", ")
}

// Rules with the same id have the same texts and patterns, in every field.
func TestOneRuleOneText(t *testing.T) {
	t.Parallel()
	pattern := regexp.MustCompile(`r'[^']*'|contains\([^)]*\)`)
	first := map[string]string{}
	for _, field := range contractFields() {
		rules, _ := proto.GetExtension(field.Options(), validate.E_Field).(*validate.FieldRules)
		for _, rule := range slices.Concat(rules.GetCel(), predefined(rules)) {
			if strings.HasPrefix(rule.GetId(), "string.") {
				continue // a length, which differs for each field
			}
			says := fmt.Sprint(rule.GetMessage(), pattern.FindAllString(rule.GetExpression(), -1))
			if first[rule.GetId()] == "" {
				first[rule.GetId()] = says
			}
			if says != first[rule.GetId()] {
				t.Errorf("%s: %s is\n%s\nand elsewhere\n%s", field.FullName(), rule.GetId(), says, first[rule.GetId()])
			}
		}
	}
	if len(first) < 5 {
		t.Errorf("only %d rules were found", len(first))
	}
}
