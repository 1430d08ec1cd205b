package strict

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// If the strict reader accepts data, encoding/json accepts it too and reads the same. The strict reader refuses more
// and never invents anything.
func FuzzParseObject(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"a":1}`, `{"a":1,"a":2}`, `{"a":{"b":[1,"x",null,true]}}`, `{"a":1}x`, `[]`, `null`, `{"a":01}`,
		`{"\u0061":1,"a":2}`, `{"\ud800":1}`, "{\"\xff\":1}", `{"a":` + nested(20) + `}`, `{,}`, `{"a":1,}`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		object, err := ParseObject(data)
		if err != nil {
			if !errors.Is(err, ErrObject) || object != nil {
				t.Fatalf("%v, %v", object, err)
			}
			return
		}
		decoder := json.NewDecoder(bytes.NewReader(data))
		decoder.UseNumber()
		var want map[string]any
		if err := decoder.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if got, want := marshal(t, object), marshal(t, want); got != want {
			t.Fatalf("read %s, want %s", got, want)
		}
	})
}

func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

func marshal(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
