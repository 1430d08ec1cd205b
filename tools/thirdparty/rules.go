package main

import (
	"errors"
	"fmt"
	"strings"
)

// These are the rules of validate.proto as protoprint writes them: a message with a list of messages. protobufjs 7, and
// so @grpc/proto-loader, cannot read such a list ("illegal value '{'").
const (
	listOpens = "(predefined) = {"
	ruleName  = "(predefined).cel = "
)

// flattenRules writes each `(predefined) = { cel: [ {…}, {…} ] }` as `(predefined).cel = {…}, (predefined).cel = {…}`,
// which means the same and which every parser reads. Anything else inside is an error.
func flattenRules(text string) (string, error) {
	var out strings.Builder
	for {
		before, rest, found := strings.Cut(text, listOpens)
		out.WriteString(before)
		if !found {
			return out.String(), nil
		}
		indent := before[strings.LastIndexByte(before, '\n')+1:]
		if strings.TrimSpace(indent) != "" {
			indent = ""
		}
		rules, after, err := ruleList(rest)
		if err != nil {
			return "", fmt.Errorf("%s at %.60q", err, rest) //nolint:errorlint // the text is all there is to it
		}
		for i, rule := range rules {
			if i > 0 {
				out.WriteString(",\n" + indent)
			}
			out.WriteString(ruleName + rule)
		}
		text = after
	}
}

// ruleList reads `cel: [ {…}, … ] }`.
func ruleList(text string) (rules []string, after string, err error) {
	rest, ok := cutToken(text, "cel:")
	if !ok {
		return nil, "", errors.New("a predefined rule without cel")
	}
	rest, list := cutToken(rest, "[")
	for {
		rule, left, err := message(rest)
		if err != nil {
			return nil, "", err
		}
		rules = append(rules, rule)
		rest = left
		if left, ok = cutToken(rest, ","); !list || !ok {
			break
		}
		rest = left
	}
	for _, closing := range []string{"]", "}"} {
		if closing == "]" && !list {
			continue
		}
		if rest, ok = cutToken(rest, closing); !ok {
			return nil, "", fmt.Errorf("%s expected", closing)
		}
	}
	return rules, rest, nil
}

// message reads `{ field: "text", … }`, whose fields hold no messages, and writes it with one line for each field.
func message(text string) (written, after string, err error) {
	rest, ok := cutToken(text, "{")
	if !ok {
		return "", "", errors.New("{ expected")
	}
	var fields []string
	for {
		if left, ok := cutToken(rest, "}"); ok {
			return "{ " + strings.Join(fields, ", ") + " }", left, nil
		}
		name, value, found := strings.Cut(rest, ":")
		value = strings.TrimLeft(value, " \n")
		if !found || value == "" || value[0] != '"' {
			return "", "", errors.New("a field with a text expected")
		}
		end := 1
		for end < len(value) && value[end] != '"' {
			if value[end] == '\\' {
				end++
			}
			end++
		}
		if end >= len(value) {
			return "", "", errors.New("a text that does not end")
		}
		fields = append(fields, strings.TrimSpace(name)+": "+value[:end+1])
		rest = value[end+1:]
		if left, ok := cutToken(rest, ","); ok {
			rest = left
		}
	}
}

func cutToken(text, token string) (rest string, found bool) {
	trimmed := strings.TrimLeft(text, " \n")
	if rest, found = strings.CutPrefix(trimmed, token); found {
		return rest, true
	}
	return text, false
}
