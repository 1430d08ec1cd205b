package rules_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"pgregory.net/rapid"

	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
	"github.com/latchkey-auth/latchkey/internal/rules"
)

// requests returns the messages that clients send.
func requests() []protoreflect.MessageDescriptor {
	var list []protoreflect.MessageDescriptor
	protoregistry.GlobalFiles.RangeFilesByPackage("latchkey.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			methods := file.Services().Get(i).Methods()
			for j := range methods.Len() {
				list = append(list, methods.Get(j).Input())
			}
		}
		return true
	})
	slices.SortFunc(list, func(a, b protoreflect.MessageDescriptor) int {
		return strings.Compare(string(a.FullName()), string(b.FullName()))
	})
	return list
}

// compare fails if the checker and protovalidate answer a message differently.
func compare(t rapid.TB, checker *rules.Checker, oracle protovalidate.Validator, m proto.Message) {
	t.Helper()
	got, err := checker.Check(m)
	if err != nil {
		t.Fatal(err)
	}
	var want []rules.Violation
	if err := oracle.Validate(m); err != nil {
		var invalid *protovalidate.ValidationError
		if !errors.As(err, &invalid) {
			t.Fatal(err)
		}
		for _, v := range invalid.Violations {
			field := protovalidate.FieldPathString(v.Proto.GetField())
			want = append(want, rules.Violation{Field: field, Rule: v.Proto.GetRuleId(), Message: v.Proto.GetMessage()})
		}
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%v\n%q, and protovalidate says\n%q", m, got, want)
	}
}

// texts draws texts that are near what a rule of the contract refuses.
func texts() *rapid.Generator[string] {
	pieces := rapid.SampledFrom([]string{
		"", "a", "B", "7", "é", "字", "𝔸", "@", ".", "-", " ", "\u00a0", "\x00", "\x01", "\n", "\u2028", "\u202e", "\u2066", "\u0301", "(", "\"", "\\",
		"example.com", "ada@example.com", "ада@пример.рф", "0197c2de-4f7e-7bbb-8c5d-0a4a1c2f9e11", "0197C2DE-4F7E-7BBB-8C5D-0A4A1C2F9E1g",
		"0197c2de04f7e-7bbb-8c5d-0a4a1c2f9e11", "Correct-Horse 7!",
	})
	lengths := rapid.SampledFrom([]int{1, 1, 1, 7, 8, 63, 64, 65, 100, 101, 127, 128, 129, 255, 256, 257, 320, 321, 512, 513, 4096, 4097})
	return rapid.Custom(func(t *rapid.T) string {
		text := strings.Join(rapid.SliceOfN(pieces, 0, 4).Draw(t, "pieces"), "")
		switch rapid.IntRange(0, 5).Draw(t, "form") {
		case 0:
			return strings.Repeat(pieces.Draw(t, "piece"), lengths.Draw(t, "length")) + text
		case 1:
			return rapid.String().Draw(t, "any")
		case 2, 3: // exactly at a limit
			return strings.Repeat("a", lengths.Draw(t, "length"))
		}
		return text
	})
}

// fill gives random fields of a message random values.
func fill(t *rapid.T, m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		d := fields.Get(i)
		if !rapid.Bool().Draw(t, "set "+string(d.Name())) {
			continue
		}
		switch {
		case d.IsList() && d.Message() != nil && depth > 0:
			n := rapid.SampledFrom([]int{0, 1, 3, 999, 1000, 1001}).Draw(t, "items")
			for at := range n {
				if at < 3 {
					fill(t, m.Mutable(d).List().AppendMutable().Message(), depth-1)
				} else {
					m.Mutable(d).List().AppendMutable()
				}
			}
		case d.IsList() || d.IsMap():
		case d.Message() != nil && depth > 0:
			fill(t, m.Mutable(d).Message(), depth-1)
		case d.Kind() == protoreflect.StringKind:
			m.Set(d, protoreflect.ValueOfString(texts().Draw(t, string(d.Name()))))
		case d.Kind() == protoreflect.Int32Kind:
			n := rapid.OneOf(rapid.Int32(), rapid.SampledFrom([]int32{-1, 0, 1, 100, 101, 1000, 1001})).Draw(t, "number")
			m.Set(d, protoreflect.ValueOfInt32(n))
		case d.Kind() == protoreflect.BoolKind:
			m.Set(d, protoreflect.ValueOfBool(rapid.Bool().Draw(t, "bool")))
		}
	}
}

// TestTwin shows that the checker answers requests of the contract as protovalidate does, in the same order.
func TestTwin(t *testing.T) {
	t.Parallel()
	kinds := requests()
	if len(kinds) < 20 {
		t.Fatalf("only %d requests", len(kinds))
	}
	checker, err := rules.New(kinds...)
	if err != nil {
		t.Fatal(err)
	}
	oracle, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		for _, kind := range kinds {
			m := dynamicpb.NewMessage(kind)
			fill(t, m, 2)
			compare(t, checker, oracle, m)
		}
	})
}

// FuzzTwin does the same with messages as they come from the network.
func FuzzTwin(f *testing.F) {
	kinds := requests()
	checker, err := rules.New(kinds...)
	if err != nil {
		f.Fatal(err)
	}
	oracle, err := protovalidate.New()
	if err != nil {
		f.Fatal(err)
	}
	for i := range kinds {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), []byte("\x0a\x0fada@example.com\x12\x08password\x1a\x03Ada"))
		f.Add(uint8(i), []byte("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x12\x03a\x00b"))
	}
	f.Fuzz(func(t *testing.T, kind uint8, wire []byte) {
		m := dynamicpb.NewMessage(kinds[int(kind)%len(kinds)])
		if proto.Unmarshal(wire, m) != nil {
			t.Skip("gRPC refuses it")
		}
		compare(t, checker, oracle, m)
	})
}

// withRules returns a message with one field of a type and these rules.
func withRules(tb rapid.TB, kind descriptorpb.FieldDescriptorProto_Type, label descriptorpb.FieldDescriptorProto_Label, r *validate.FieldRules) protoreflect.MessageDescriptor {
	tb.Helper()
	options := &descriptorpb.FieldOptions{}
	proto.SetExtension(options, validate.E_Field, r)
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: new("twin.proto"), Syntax: new("proto3"), Package: new("twin"),
		Dependency: []string{"buf/validate/validate.proto"},
		MessageType: []*descriptorpb.DescriptorProto{{
			Name:  new("Message"),
			Field: []*descriptorpb.FieldDescriptorProto{{Name: new("value"), Number: proto.Int32(1), Type: &kind, Label: &label, Options: options}},
		}},
	}, protoFiles{})
	if err != nil {
		tb.Fatal(err)
	}
	return file.Messages().Get(0)
}

// protoFiles finds the only file that withRules imports.
type protoFiles struct{}

func (protoFiles) FindFileByPath(string) (protoreflect.FileDescriptor, error) {
	return validate.File_buf_validate_validate_proto, nil
}

func (protoFiles) FindDescriptorByName(protoreflect.FullName) (protoreflect.Descriptor, error) {
	return nil, errors.New("no name is looked up")
}

// expressions draws expressions, most of which have a meaning.
func expressions(depth int) *rapid.Generator[string] {
	literals := rapid.SampledFrom([]string{
		`''`, `"a"`, `'\u0000'`, `'\\'`, `r'\'`, `"it's"`, `r"^[a-z]+$"`, `r'^[^\p{Cc}\x{202A}-\x{202E}]*$'`, `'(a'`, `r'[^\pZ\pC]'`, `"\""`, `'é'`,
	})
	numbers := rapid.SampledFrom([]string{"0", "1", "2", "8", "100"})
	comparisons := rapid.SampledFrom([]string{"==", "!=", "<", "<=", ">", ">="})
	return rapid.Custom(func(t *rapid.T) string {
		form := rapid.IntRange(0, 8).Draw(t, "form")
		if depth == 0 {
			form %= 5
		}
		sub := func() string { return expressions(depth-1).Draw(t, "part") }
		switch form {
		case 0:
			return "this.size() " + comparisons.Draw(t, "operator") + " " + numbers.Draw(t, "number")
		case 1:
			return "this " + comparisons.Draw(t, "operator") + literals.Draw(t, "text")
		case 2:
			return "this." + rapid.SampledFrom([]string{"contains", "startsWith", "endsWith", "matches", "size", "trim"}).Draw(t, "method") + "(" + literals.Draw(t, "text") + ")"
		case 3:
			return rapid.SampledFrom([]string{"true", "false", "rule", "this", "1"}).Draw(t, "name")
		case 4:
			return literals.Draw(t, "text") + ".size() == " + numbers.Draw(t, "number")
		case 5:
			return sub() + " && " + sub()
		case 6:
			return sub() + "||" + sub()
		case 7:
			return "!" + sub()
		}
		return "(" + sub() + ")"
	})
}

// TestExpressionTwin shows that an expression that is understood means what it means in CEL.
func TestExpressionTwin(t *testing.T) {
	t.Parallel()
	oracle, err := protovalidate.New()
	if err != nil {
		t.Fatal(err)
	}
	understood := 0
	rapid.Check(t, func(t *rapid.T) {
		expression := expressions(3).Draw(t, "expression")
		message := withRules(t, descriptorpb.FieldDescriptorProto_TYPE_STRING, descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL, validate.FieldRules_builder{
			Cel: []*validate.Rule{validate.Rule_builder{Id: new("id"), Message: new("text"), Expression: &expression}.Build()},
		}.Build())
		checker, err := rules.New(message)
		if err != nil {
			if !errors.Is(err, rules.ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		understood++
		for range 5 {
			m := dynamicpb.NewMessage(message)
			m.Set(message.Fields().Get(0), protoreflect.ValueOfString(texts().Draw(t, "this")))
			compare(t, checker, oracle, m)
		}
	})
	if understood < 20 {
		t.Errorf("only %d expressions were understood", understood)
	}
}

// FuzzExpression does the same with any text as the expression.
func FuzzExpression(f *testing.F) {
	for _, seed := range []string{
		`!rule || this.size() <= 100`, `this == '' || this.matches(r'^a') && !this.contains('\u0000')`, `(this.size()>1)==true`, `this.matches("\\x")`,
		`'''a'''.size() > 1`, `this < "a"`, `1.5 > 1`, `this.size() > 9223372036854775808`, `r'`, `this.size().size()`,
	} {
		f.Add(seed, "a")
	}
	oracle, err := protovalidate.New()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, expression, this string) {
		if !utf8.ValidString(expression) || !utf8.ValidString(this) {
			t.Skip("protobuf refuses it")
		}
		message := withRules(t, descriptorpb.FieldDescriptorProto_TYPE_STRING, descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL, validate.FieldRules_builder{
			Cel: []*validate.Rule{validate.Rule_builder{Id: new("id"), Message: new("text"), Expression: &expression}.Build()},
		}.Build())
		checker, err := rules.New(message)
		if err != nil {
			t.Skip("not understood")
		}
		m := dynamicpb.NewMessage(message)
		m.Set(message.Fields().Get(0), protoreflect.ValueOfString(this))
		compare(t, checker, oracle, m)
	})
}

// TestUnsupported shows that no rule is left out: one that is not understood stops the service at its start.
func TestUnsupported(t *testing.T) {
	t.Parallel()
	const text, number = descriptorpb.FieldDescriptorProto_TYPE_STRING, descriptorpb.FieldDescriptorProto_TYPE_INT32
	const one, many = descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL, descriptorpb.FieldDescriptorProto_LABEL_REPEATED
	cel := func(id, message, expression string) *validate.FieldRules {
		return validate.FieldRules_builder{Cel: []*validate.Rule{
			validate.Rule_builder{Id: &id, Message: &message, Expression: &expression}.Build(),
		}}.Build()
	}
	about := func(r validate.StringRules_builder) *validate.FieldRules {
		return validate.FieldRules_builder{String: r.Build()}.Build()
	}
	unknown := about(validate.StringRules_builder{MinLen: proto.Uint64(1)})
	unknown.GetString().ProtoReflect().SetUnknown([]byte{0xf8, 0x3f, 1})
	two := about(validate.StringRules_builder{})
	proto.SetExtension(two.GetString(), latchkeyv1.E_Name, true)
	proto.SetExtension(two.GetString(), latchkeyv1.E_Password, true)
	for name, c := range map[string]struct {
		kind  descriptorpb.FieldDescriptorProto_Type
		label descriptorpb.FieldDescriptorProto_Label
		rules *validate.FieldRules
	}{
		"required":                    {text, one, validate.FieldRules_builder{Required: new(true)}.Build()},
		"ignored always":              {text, one, validate.FieldRules_builder{Ignore: validate.Ignore_IGNORE_ALWAYS.Enum()}.Build()},
		"pattern":                     {text, one, about(validate.StringRules_builder{Pattern: new("a")})},
		"email of protovalidate":      {text, one, about(validate.StringRules_builder{Email: new(true)})},
		"a rule of an unknown number": {text, one, unknown},
		"two predefined rules":        {text, one, two},
		"a rule of another kind":      {number, one, about(validate.StringRules_builder{MinLen: proto.Uint64(1)})},
		"an int32 from below":         {number, one, validate.FieldRules_builder{Int32: validate.Int32Rules_builder{Gte: proto.Int32(1)}.Build()}.Build()},
		"an int32 without a place":    {number, one, validate.FieldRules_builder{Int32: validate.Int32Rules_builder{Gte: proto.Int32(2), Lte: proto.Int32(1)}.Build()}.Build()},
		"an int32 in a list":          {number, one, validate.FieldRules_builder{Int32: validate.Int32Rules_builder{In: []int32{1}}.Build()}.Build()},
		"unique":                      {text, many, validate.FieldRules_builder{Repeated: validate.RepeatedRules_builder{Unique: new(true)}.Build()}.Build()},
		"rules of items":              {text, many, validate.FieldRules_builder{Repeated: validate.RepeatedRules_builder{Items: about(validate.StringRules_builder{MinLen: proto.Uint64(1)})}.Build()}.Build()},
		"an expression about a list":  {text, many, cel("id", "text", "this.size() > 1")},
		"an expression of a number":   {number, one, cel("id", "text", "this > 1")},
		"no id":                       {text, one, cel("", "text", "true")},
		"no message":                  {text, one, cel("id", "", "true")},
		"a text as the result":        {text, one, cel("id", "text", "this")},
		"another function":            {text, one, cel("id", "text", "this.isEmail()")},
		"a pattern that is no text":   {text, one, cel("id", "text", "this.matches(this)")},
		"a wrong pattern":             {text, one, cel("id", "text", "this.matches('(')")},
		"a condition":                 {text, one, cel("id", "text", "true ? true : false")},
		"rule where there is none":    {text, one, cel("id", "text", "rule")},
		"more after the end":          {text, one, cel("id", "text", "true true")},
		"texts in an order":           {text, one, cel("id", "text", "this < 'b'")},
		"too deep":                    {text, one, cel("id", "text", strings.Repeat("!", 1000)+"true")},
	} {
		if _, err := rules.New(withRules(t, c.kind, c.label, c.rules)); !errors.Is(err, rules.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestUnknownMessage shows that a message that was not compiled is not taken for a good one.
func TestUnknownMessage(t *testing.T) {
	t.Parallel()
	checker, err := rules.New()
	if err != nil {
		t.Fatal(err)
	}
	if broken, err := checker.Check(&latchkeyv1.LoginRequest{}); err == nil {
		t.Errorf("no error, and %v", fmt.Sprint(broken))
	}
}
