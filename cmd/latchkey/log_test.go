package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// TestLogFormat: each value of LATCHKEY_LOG_FORMAT, on a terminal and in a file.
func TestLogFormat(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		format         string
		terminal       bool
		json, coloured bool
	}{
		{"text", false, false, false},
		{"text", true, false, true},
		{"auto", false, true, false},
		{"auto", true, false, true},
		{"json", false, true, false},
		{"json", true, true, false},
	} {
		var out bytes.Buffer
		slog.New(logHandler(&out, test.format, slog.LevelInfo, test.terminal)).Warn("text", "key", "value")
		line := out.String()
		if json, coloured := strings.HasPrefix(line, "{"), strings.Contains(line, "\x1b"); json != test.json || coloured != test.coloured {
			t.Errorf("%s, terminal %v: %q", test.format, test.terminal, line)
		}
	}
}

// TestTextLogInPipe: a whole command writes no colours to a stderr that is not a terminal.
func TestTextLogInPipe(t *testing.T) {
	t.Parallel()
	p := start(t, []string{
		"LATCHKEY_LOG_FORMAT=text", "LATCHKEY_TYPO=1", "LATCHKEY_DATABASE_URL=postgres://latchkey@127.0.0.1:1/latchkey",
	}, "keys", "list")
	p.exit(t)
	if text := p.text(&p.stderr); !strings.Contains(text, "LATCHKEY_TYPO") || strings.ContainsAny(text, "\x1b{") {
		t.Errorf("%q", text)
	}
}
