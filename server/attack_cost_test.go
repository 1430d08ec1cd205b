package server_test

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// No rule of a request matches a pattern against a text of any length: a megabyte of an address took 240 ms of a
// processor, 16 KiB took 7 ms. A rule with a pattern checks the length first.
func TestAttack08LengthBeforePattern(t *testing.T) {
	t.Parallel()
	guarded := regexp.MustCompile(`^(!rule \|\| )?(this == '' \|\| )?this\.size\(\) (> \d+ \|\||<= \d+ &&) `)
	patterns := 0
	for _, field := range contractFields() {
		rules, _ := proto.GetExtension(field.Options(), validate.E_Field).(*validate.FieldRules)
		expressions := slices.Concat(rules.GetCel(), predefined(rules))
		for _, rule := range expressions {
			if !strings.Contains(rule.GetExpression(), "matches(") {
				continue
			}
			patterns++
			if !guarded.MatchString(rule.GetExpression()) {
				t.Errorf("%s: %s has a pattern before the length", field.FullName(), rule.GetId())
			}
			if most, ok := skipsLonger(rule.GetExpression()); ok && !bounded(rules, expressions, most) {
				t.Errorf("%s: %s lets more than %d characters pass, and nothing else refuses them", field.FullName(), rule.GetId(), most)
			}
		}
		if rules.GetString().HasPattern() || len(rules.GetCelExpression()) > 0 {
			t.Errorf("%s: say this with (buf.validate.field).cel, which can look at the length first", field.FullName())
		}
	}
	if patterns < 7 {
		t.Errorf("only %d patterns were found", patterns)
	}
}

// contractFields returns the fields of all messages of latchkey.v1. The rules of the older contract are in
// internal/legacy/backend, whose tests check the same.
func contractFields() []protoreflect.FieldDescriptor {
	var list []protoreflect.FieldDescriptor
	for _, file := range []protoreflect.FileDescriptor{
		latchkeyv1.File_latchkey_v1_auth_service_proto, latchkeyv1.File_latchkey_v1_session_service_proto,
		latchkeyv1.File_latchkey_v1_admin_service_proto, latchkeyv1.File_latchkey_v1_revocation_service_proto,
		latchkeyv1.File_latchkey_v1_account_service_proto,
	} {
		for i := range file.Messages().Len() {
			fields := file.Messages().Get(i).Fields()
			for j := range fields.Len() {
				list = append(list, fields.Get(j))
			}
		}
	}
	return list
}

// predefined returns the expressions of the rules that rules.proto defines and a field names.
func predefined(rules *validate.FieldRules) []*validate.Rule {
	var list []*validate.Rule
	rules.GetString().ProtoReflect().Range(func(rule protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if rule.IsExtension() {
			made, _ := proto.GetExtension(rule.Options(), validate.E_Predefined).(*validate.PredefinedRules)
			list = append(list, made.GetCel()...)
		}
		return true
	})
	return list
}

// skipsLonger returns the length above which a rule does not read the text.
func skipsLonger(expression string) (most uint64, ok bool) {
	found := regexp.MustCompile(`this\.size\(\) > (\d+) \|\|`).FindStringSubmatch(expression)
	if found == nil {
		return 0, false
	}
	most, err := strconv.ParseUint(found[1], 10, 32)
	return most, err == nil
}

// bounded returns whether a field refuses texts of more than most characters.
func bounded(rules *validate.FieldRules, expressions []*validate.Rule, most uint64) bool {
	if s := rules.GetString(); s.HasMaxLen() && s.GetMaxLen() <= most || s.HasMaxBytes() && s.GetMaxBytes() <= most {
		return true
	}
	return slices.ContainsFunc(expressions, func(r *validate.Rule) bool {
		return strings.Contains(r.GetExpression(), fmt.Sprintf("size() <= %d", most))
	})
}

// A request that breaks several rules still gets a violation for each.
func TestAttack08AllViolations(t *testing.T) {
	t.Parallel()
	validator, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	err = validator.Validate(&latchkeyv1.SignUpRequest{Email: "no address", Password: "short\x00", FirstName: strings.Repeat("n", 101), LastName: "\u202e"})
	var invalid *protovalidate.ValidationError
	if !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, v := range invalid.Violations {
		got[v.Proto.GetRuleId()] = true
	}
	for _, want := range []string{"email.form", "string.min_len", "no_nul", "string.max_len", "name.characters"} {
		if !got[want] {
			t.Errorf("no %s in %v", want, got)
		}
	}
}

// BenchmarkLongFields measures the rules for fields of the longest message.
func BenchmarkLongFields(b *testing.B) {
	validator, err := protovalidate.New()
	if err != nil {
		b.Fatal(err)
	}
	long := strings.Repeat("a.", 8000)
	for name, m := range map[string]proto.Message{
		"SignUp":        &latchkeyv1.SignUpRequest{Email: "a@" + long},
		"SignUp, names": &latchkeyv1.SignUpRequest{FirstName: long},
		"Login":         &latchkeyv1.LoginRequest{DeviceName: long},
		"RefreshToken":  &latchkeyv1.RefreshTokenRequest{RequestId: long},
		"ordinary":      &latchkeyv1.SignUpRequest{Email: "ada@example.com", Password: "correct horse", FirstName: "Ada", LastName: "Lovelace"},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_ = validator.Validate(m) // only the time matters, not the refusal
			}
		})
	}
}
