package rules

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// kind is the type of a part of an expression. There is no other in the part of CEL that is understood here.
type kind int

const (
	truth kind = iota + 1
	number
	text
)

// node is a part of an expression that computes a value from the text of a field. The function of its kind is set.
type node struct {
	kind    kind
	truth   func(this string) bool
	number  func(this string) int64
	text    func(this string) string
	literal *string // the text, if it is written in the expression
}

// compileExpression compiles an expression of CEL about a text: `this` is the text. In a predefined rule `rule` is true;
// elsewhere there is none. It understands !, && and ||, comparisons, this.size(), contains, startsWith, endsWith and
// matches of a literal, and parentheses. Its meaning is CEL's, where nothing of this can fail.
func compileExpression(source string, predefined bool) (kept func(this string) bool, err error) {
	tokens, err := tokenize(source)
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens, predefined: predefined}
	n, err := p.either()
	switch {
	case err != nil:
		return nil, err
	case p.next().kind != end:
		return nil, fmt.Errorf("not understood: %q", p.next().text)
	case n.kind != truth:
		return nil, errors.New("its value is not true or false")
	}
	return n.truth, nil
}

// parser reads tokens by recursive descent: a method for each level of CEL's grammar.
type parser struct {
	tokens     []token
	at         int
	depth      int
	predefined bool
}

// maxDepth bounds the parentheses and negations within each other. The contract has 2.
const maxDepth = 50

// next returns the token that is read next. There is one always: the last is end.
func (p *parser) next() token { return p.tokens[p.at] }

// take reads an operator or a parenthesis if it is the next token.
func (p *parser) take(operator string) bool {
	if p.next().kind == symbol && p.next().text == operator {
		p.at++
		return true
	}
	return false
}

// either reads a || b || …
func (p *parser) either() (node, error) {
	return p.chain("||", p.both, func(a, b func(string) bool) func(string) bool {
		return func(this string) bool { return a(this) || b(this) }
	})
}

// both reads a && b && …
func (p *parser) both() (node, error) {
	return p.chain("&&", p.comparison, func(a, b func(string) bool) func(string) bool {
		return func(this string) bool { return a(this) && b(this) }
	})
}

func (p *parser) chain(operator string, operand func() (node, error), join func(a, b func(string) bool) func(string) bool) (node, error) {
	left, err := operand()
	for err == nil && p.take(operator) {
		var right node
		right, err = operand()
		if err == nil && (left.kind != truth || right.kind != truth) {
			err = fmt.Errorf("%s needs true or false on both sides", operator)
		}
		if err == nil {
			left.truth = join(left.truth, right.truth)
		}
	}
	return left, err
}

// comparison reads one operand, or two with a comparison between them.
func (p *parser) comparison() (node, error) {
	left, err := p.negation()
	if err != nil || p.next().kind != symbol {
		return left, err
	}
	operator := p.next().text
	switch operator {
	case "==", "!=", "<", "<=", ">", ">=":
		p.at++
	default:
		return left, nil
	}
	right, err := p.negation()
	if err != nil {
		return node{}, err
	}
	return compare(operator, left, right)
}

func compare(operator string, left, right node) (node, error) {
	result := node{kind: truth}
	switch {
	case left.kind == number && right.kind == number:
		a, b := left.number, right.number
		result.truth = map[string]func(string) bool{
			"==": func(this string) bool { return a(this) == b(this) },
			"!=": func(this string) bool { return a(this) != b(this) },
			"<":  func(this string) bool { return a(this) < b(this) },
			"<=": func(this string) bool { return a(this) <= b(this) },
			">":  func(this string) bool { return a(this) > b(this) },
			">=": func(this string) bool { return a(this) >= b(this) },
		}[operator]
	case left.kind == text && right.kind == text && operator == "==":
		result.truth = func(this string) bool { return left.text(this) == right.text(this) }
	case left.kind == text && right.kind == text && operator == "!=":
		result.truth = func(this string) bool { return left.text(this) != right.text(this) }
	default:
		return node{}, fmt.Errorf("%s is not understood between these values", operator)
	}
	return result, nil
}

// negation reads !a, or a value.
func (p *parser) negation() (node, error) {
	if p.depth++; p.depth > maxDepth {
		return node{}, errors.New("it is too deep")
	}
	defer func() { p.depth-- }()
	if !p.take("!") {
		return p.value()
	}
	n, err := p.negation()
	if err == nil && n.kind != truth {
		err = errors.New("! needs true or false")
	}
	if err != nil {
		return node{}, err
	}
	was := n.truth
	return node{kind: truth, truth: func(this string) bool { return !was(this) }}, nil
}

// value reads a literal, a name or parentheses, and the methods that are called on it.
func (p *parser) value() (node, error) {
	n, err := p.primary()
	for err == nil && p.take(".") {
		n, err = p.method(n)
	}
	return n, err
}

func (p *parser) primary() (node, error) {
	if p.take("(") {
		n, err := p.either()
		if err == nil && !p.take(")") {
			err = errors.New("a parenthesis is not closed")
		}
		return n, err
	}
	t := p.next()
	if t.kind != end {
		p.at++
	}
	switch {
	case t.kind == literal:
		return node{kind: text, text: func(string) string { return t.text }, literal: &t.text}, nil
	case t.kind == digits:
		n, err := strconv.ParseInt(t.text, 10, 64)
		return node{kind: number, number: func(string) int64 { return n }}, err
	case t.kind == name && t.text == "this":
		return node{kind: text, text: func(this string) string { return this }}, nil
	case t.kind == name && (t.text == "true" || t.text == "rule" && p.predefined):
		return node{kind: truth, truth: func(string) bool { return true }}, nil
	case t.kind == name && t.text == "false":
		return node{kind: truth, truth: func(string) bool { return false }}, nil
	}
	return node{}, fmt.Errorf("not understood: %q", t.text)
}

// method reads name(), or name(literal).
func (p *parser) method(of node) (node, error) {
	called := p.next()
	if called.kind != name || of.kind != text {
		return node{}, fmt.Errorf("not understood after a point: %q", called.text)
	}
	p.at++
	if !p.take("(") {
		return node{}, fmt.Errorf("%s is not called", called.text)
	}
	if called.text == "size" && p.take(")") {
		return node{kind: number, number: func(this string) int64 { return int64(utf8.RuneCountInString(of.text(this))) }}, nil
	}
	argument, err := p.either()
	switch {
	case err != nil:
		return node{}, err
	case argument.literal == nil:
		return node{}, fmt.Errorf("%s needs a text that is written in the expression", called.text)
	case !p.take(")"):
		return node{}, errors.New("a parenthesis is not closed")
	}
	return about(called.text, of.text, *argument.literal)
}

// about returns a method that says something about a text.
func about(method string, of func(string) string, argument string) (node, error) {
	var holds func(string) bool
	switch method {
	case "contains":
		holds = func(s string) bool { return strings.Contains(s, argument) }
	case "startsWith":
		holds = func(s string) bool { return strings.HasPrefix(s, argument) }
	case "endsWith":
		holds = func(s string) bool { return strings.HasSuffix(s, argument) }
	case "matches":
		pattern, err := regexp.Compile(argument)
		if err != nil {
			return node{}, err
		}
		holds = pattern.MatchString
	default:
		return node{}, fmt.Errorf("the method %s is not understood", method)
	}
	return node{kind: truth, truth: func(this string) bool { return holds(of(this)) }}, nil
}
