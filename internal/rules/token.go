package rules

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

type tokenKind int

const (
	end     tokenKind = iota
	symbol            // an operator, a point or a parenthesis
	name              // letters
	digits            // a number without sign
	literal           // a text; token.text is its value
)

type token struct {
	kind tokenKind
	text string
}

const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"

// tokenize splits an expression into tokens, with end as the last. It returns an error for all that is not understood.
func tokenize(source string) ([]token, error) {
	var tokens []token
	for {
		source = strings.TrimLeft(source, " \t\n")
		if source == "" {
			return append(tokens, token{kind: end}), nil
		}
		t, length, err := first(source)
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
		source = source[length:]
	}
}

// first reads the token that source begins with, and returns how many bytes it has.
func first(source string) (t token, length int, err error) {
	raw := strings.TrimPrefix(source, "r")
	if raw != "" && (raw[0] == '\'' || raw[0] == '"') {
		return quoted(source, raw)
	}
	for _, operator := range []string{"||", "&&", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "."} {
		if strings.HasPrefix(source, operator) {
			return token{symbol, operator}, len(operator), nil
		}
	}
	if n := span(source, "0123456789"); n > 0 {
		if rest := source[n:]; rest != "" && strings.ContainsRune(letters+".", rune(rest[0])) {
			return t, 0, fmt.Errorf("a number is not understood: %q", source[:n+1])
		}
		return token{digits, source[:n]}, n, nil
	}
	if n := span(source, letters); n > 0 {
		return token{name, source[:n]}, n, nil
	}
	return t, 0, fmt.Errorf("not understood: %q", source[:1])
}

// span returns how many bytes of source, from its beginning, are in chars.
func span(source, chars string) int {
	return len(source) - len(strings.TrimLeft(source, chars))
}

// quoted reads a text in quotes. With an r before it, nothing in it is escaped. body is source without the r.
func quoted(source, body string) (t token, length int, err error) {
	quote := body[:1]
	if strings.HasPrefix(body, quote+quote+quote) {
		return t, 0, errors.New("three quotes are not understood")
	}
	prefix := len(source) - len(body)
	var value strings.Builder
	for at := 1; at < len(body); {
		switch {
		case body[at] == quote[0]:
			return token{literal, value.String()}, prefix + at + 1, nil
		case body[at] == '\n' || body[at] == '\r':
			return t, 0, errors.New("a line ends within a text")
		case body[at] == '\\' && prefix == 0:
			r, n, err := escape(body[at:])
			if err != nil {
				return t, 0, err
			}
			value.WriteRune(r)
			at += n
		default:
			value.WriteByte(body[at])
			at++
		}
	}
	return t, 0, errors.New("a quote is not closed")
}

// escape reads an escaped character, and returns how many bytes it has.
func escape(source string) (r rune, length int, err error) {
	if len(source) >= 2 {
		switch source[1] {
		case '\\', '\'', '"':
			return rune(source[1]), 2, nil
		case 'u':
			if len(source) >= 6 {
				n, err := strconv.ParseUint(source[2:6], 16, 32)
				if err == nil && (n < 0xD800 || n > 0xDFFF) {
					return rune(n), 6, nil //nolint:gosec // G115: four hexadecimal digits
				}
			}
		}
	}
	return 0, 0, errors.New("an escaped character is not understood")
}
