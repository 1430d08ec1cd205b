// Package rules checks messages against the rules that their proto files give them with protovalidate's options
// (buf.validate). It knows the options and the part of CEL that the contract uses, and refuses all others when it
// compiles, so that no rule is left out. A test compares its answers with those of protovalidate itself, which makes the
// binary 5 MB larger, because it can run all of CEL.
package rules

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// ErrUnsupported means that a proto file has a rule that this package cannot check.
var ErrUnsupported = errors.New("rules: unsupported rule")

// Violation says which rule a field breaks. No text in it is from the message.
type Violation struct {
	// Field is the path to the field: "email", or "users[3].email". For a oneof it is the name of the oneof.
	Field string
	// Rule is the identifier of the rule, such as "string.max_len".
	Rule string
	// Message is the text of the rule, for people.
	Message string
}

// Checker checks the messages that it was made for. It is safe for concurrent use.
type Checker struct {
	messages map[protoreflect.MessageDescriptor]*message
}

// New compiles the rules of the messages, and of the messages in their fields. The error wraps [ErrUnsupported] and
// names the field.
func New(messages ...protoreflect.MessageDescriptor) (*Checker, error) {
	c := &Checker{messages: map[protoreflect.MessageDescriptor]*message{}}
	for _, m := range messages {
		if err := c.compile(m); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Check returns every rule that a message breaks, in the order of protovalidate: oneofs first, then the fields as the
// proto file lists them. The error is for a message that New did not get.
func (c *Checker) Check(m proto.Message) ([]Violation, error) {
	reflected := m.ProtoReflect()
	compiled, ok := c.messages[reflected.Descriptor()]
	if !ok {
		return nil, fmt.Errorf("rules: %s was not compiled", reflected.Descriptor().FullName())
	}
	var found []Violation
	c.check(compiled, reflected, "", &found)
	return found, nil
}

// message has the rules of a kind of message.
type message struct {
	required []protoreflect.OneofDescriptor
	fields   []field
}

// field has the rules of a field that has some, or that holds messages.
type field struct {
	descriptor protoreflect.FieldDescriptor
	onlyIfSet  bool // not checked while it has no value, or the zero value
	texts      []textRule
	numbers    *numberRule
	items      *itemRule
	embedded   protoreflect.MessageDescriptor // nil if it holds no messages
}

// textRule is a rule about a text.
type textRule struct {
	id, message string
	kept        func(text string) bool
}

// numberRule is a rule about an int32.
type numberRule struct{ lowest, highest int64 }

// itemRule is a rule about a list.
type itemRule struct{ most uint64 }

func (c *Checker) check(compiled *message, m protoreflect.Message, path string, found *[]Violation) {
	for _, oneof := range compiled.required {
		if m.WhichOneof(oneof) == nil {
			*found = append(*found, Violation{path + string(oneof.Name()), "required", "exactly one field is required in oneof"})
		}
	}
	for i := range compiled.fields {
		f := &compiled.fields[i]
		if f.onlyIfSet && !m.Has(f.descriptor) {
			continue
		}
		c.checkField(f, m.Get(f.descriptor), path+string(f.descriptor.Name()), found)
	}
}

func (c *Checker) checkField(f *field, value protoreflect.Value, path string, found *[]Violation) {
	for _, rule := range f.texts {
		if !rule.kept(value.String()) {
			*found = append(*found, Violation{path, rule.id, rule.message})
		}
	}
	if n := f.numbers; n != nil && (value.Int() < n.lowest || value.Int() > n.highest) {
		text := fmt.Sprintf("must be greater than or equal to %d and less than or equal to %d", n.lowest, n.highest)
		*found = append(*found, Violation{path, "int32.gte_lte", text})
	}
	if n := f.items; n != nil && uint64(value.List().Len()) > n.most { //nolint:gosec // G115: a length is not negative
		text := fmt.Sprintf("must contain no more than %d item(s)", n.most)
		*found = append(*found, Violation{path, "repeated.max_items", text})
	}
	switch {
	case f.embedded == nil:
	case f.descriptor.IsList():
		for i := range value.List().Len() {
			at := path + "[" + strconv.Itoa(i) + "]."
			c.check(c.messages[f.embedded], value.List().Get(i).Message(), at, found)
		}
	default:
		c.check(c.messages[f.embedded], value.Message(), path+".", found)
	}
}

// compile reads the rules of a message, once.
func (c *Checker) compile(m protoreflect.MessageDescriptor) error {
	if _, done := c.messages[m]; done {
		return nil
	}
	compiled := &message{}
	c.messages[m] = compiled // now, because a message may hold one of its own kind
	if proto.HasExtension(m.Options(), validate.E_Message) {
		return unsupported(m, "rules of a whole message")
	}
	for i := range m.Oneofs().Len() {
		oneof := m.Oneofs().Get(i)
		rules, _ := proto.GetExtension(oneof.Options(), validate.E_Oneof).(*validate.OneofRules)
		if err := understood(oneof, rules.ProtoReflect(), "required"); err != nil {
			return err
		}
		if rules.GetRequired() {
			compiled.required = append(compiled.required, oneof)
		}
	}
	for i := range m.Fields().Len() {
		f, err := compileField(m.Fields().Get(i))
		if err != nil {
			return err
		}
		if f.embedded != nil {
			if err := c.compile(f.embedded); err != nil {
				return err
			}
		}
		if f.embedded != nil || f.texts != nil || f.numbers != nil || f.items != nil {
			compiled.fields = append(compiled.fields, f)
		}
	}
	return nil
}

func compileField(d protoreflect.FieldDescriptor) (field, error) {
	f := field{descriptor: d, onlyIfSet: d.HasPresence()}
	rules, _ := proto.GetExtension(d.Options(), validate.E_Field).(*validate.FieldRules)
	if err := understood(d, rules.ProtoReflect(), "string", "int32", "repeated", "ignore", "cel"); err != nil {
		return f, err
	}
	switch rules.GetIgnore() {
	case validate.Ignore_IGNORE_UNSPECIFIED:
	case validate.Ignore_IGNORE_IF_ZERO_VALUE:
		f.onlyIfSet = true
	default:
		return f, unsupported(d, "ignore = "+rules.GetIgnore().String())
	}
	if d.Message() != nil && !d.IsMap() {
		f.embedded = d.Message()
	}
	switch {
	case d.IsMap() && (d.MapValue().Message() != nil || rules != nil):
		return f, unsupported(d, "rules in a map")
	case (len(rules.GetCel()) > 0 || rules.HasString()) && (d.IsList() || d.Kind() != protoreflect.StringKind),
		rules.HasInt32() && (d.IsList() || d.Kind() != protoreflect.Int32Kind),
		rules.HasRepeated() && !d.IsList():
		return f, unsupported(d, "a rule for fields of another kind")
	}
	return f, f.compileRules(rules)
}

func (f *field) compileRules(rules *validate.FieldRules) error {
	for _, rule := range rules.GetCel() {
		if err := f.addExpression(rule, false); err != nil {
			return err
		}
	}
	if rules.HasString() {
		if err := f.addTextRules(rules.GetString()); err != nil {
			return err
		}
	}
	if rules.HasInt32() {
		n := rules.GetInt32()
		if err := understood(f.descriptor, n.ProtoReflect(), "gte", "lte"); err != nil {
			return err
		}
		if !n.HasGte() || !n.HasLte() || n.GetGte() > n.GetLte() {
			return unsupported(f.descriptor, "an int32 without both of gte and lte, or with none between them")
		}
		f.numbers = &numberRule{int64(n.GetGte()), int64(n.GetLte())}
	}
	if rules.HasRepeated() {
		if err := understood(f.descriptor, rules.GetRepeated().ProtoReflect(), "max_items"); err != nil {
			return err
		}
		if rules.GetRepeated().HasMaxItems() {
			f.items = &itemRule{rules.GetRepeated().GetMaxItems()}
		}
	}
	return nil
}

// addTextRules adds the standard rules in protovalidate's order, then the predefined one.
func (f *field) addTextRules(rules *validate.StringRules) error {
	if err := understood(f.descriptor, rules.ProtoReflect(), "min_len", "max_len", "max_bytes", "uuid"); err != nil {
		return err
	}
	if least := rules.GetMinLen(); rules.HasMinLen() {
		f.addLimit("min_len", "at least", "characters", least, func(s string) bool { return length(s) >= least })
	}
	if most := rules.GetMaxLen(); rules.HasMaxLen() {
		f.addLimit("max_len", "at most", "characters", most, func(s string) bool { return length(s) <= most })
	}
	if most := rules.GetMaxBytes(); rules.HasMaxBytes() {
		f.addLimit("max_bytes", "at most", "bytes", most, func(s string) bool { return uint64(len(s)) <= most })
	}
	if rules.GetUuid() {
		f.texts = append(f.texts,
			textRule{"string.uuid_empty", "value is empty, which is not a valid UUID", func(s string) bool { return s != "" }},
			textRule{"string.uuid", "must be a valid UUID", func(s string) bool { return s == "" || isUUID(s) }})
	}
	return f.addPredefined(rules)
}

func (f *field) addLimit(name, most, unit string, limit uint64, kept func(string) bool) {
	f.texts = append(f.texts, textRule{"string." + name, fmt.Sprintf("must be %s %d %s", most, limit, unit), kept})
}

// addPredefined adds the rule of rules.proto that the field names.
func (f *field) addPredefined(rules *validate.StringRules) error {
	var named []protoreflect.FieldDescriptor
	rules.ProtoReflect().Range(func(rule protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if rule.IsExtension() && (rule.Kind() != protoreflect.BoolKind || rule.IsList() || value.Bool()) {
			named = append(named, rule)
		}
		return true
	})
	switch {
	case len(named) == 0:
		return nil
	case len(named) > 1:
		return unsupported(f.descriptor, "several predefined rules, which protovalidate takes in any order")
	case named[0].Kind() != protoreflect.BoolKind || named[0].IsList():
		return unsupported(f.descriptor, "a predefined rule that is not a bool")
	}
	predefined, _ := proto.GetExtension(named[0].Options(), validate.E_Predefined).(*validate.PredefinedRules)
	if len(predefined.GetCel()) == 0 {
		return unsupported(f.descriptor, "a predefined rule without expressions")
	}
	for _, rule := range predefined.GetCel() {
		if err := f.addExpression(rule, true); err != nil {
			return err
		}
	}
	return nil
}

// addExpression adds a rule that is written in CEL, in a predefined rule or in the field itself.
func (f *field) addExpression(rule *validate.Rule, predefined bool) error {
	if rule.GetId() == "" || rule.GetMessage() == "" {
		return unsupported(f.descriptor, "an expression without id or message")
	}
	kept, err := compileExpression(rule.GetExpression(), predefined)
	if err != nil {
		return unsupported(f.descriptor, rule.GetId()+": "+err.Error())
	}
	f.texts = append(f.texts, textRule{rule.GetId(), rule.GetMessage(), kept})
	return nil
}

// understood returns an error if a message of rules has any field but those named and extensions, or fields that nobody
// here knows.
func understood(of protoreflect.Descriptor, rules protoreflect.Message, names ...protoreflect.Name) error {
	var unknown []string
	rules.Range(func(rule protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		known := rule.IsExtension() && rule.ContainingMessage().FullName() == "buf.validate.StringRules"
		for _, name := range names {
			known = known || rule.Name() == name && !rule.IsExtension()
		}
		if !known {
			unknown = append(unknown, string(rule.FullName()))
		}
		return true
	})
	if len(rules.GetUnknown()) > 0 {
		unknown = append(unknown, "a rule of an unknown number")
	}
	if len(unknown) > 0 {
		return unsupported(of, strings.Join(unknown, ", "))
	}
	return nil
}

func unsupported(of protoreflect.Descriptor, what string) error {
	return fmt.Errorf("%w: %s: %s", ErrUnsupported, of.FullName(), what)
}
