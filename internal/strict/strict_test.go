package strict

import (
	"errors"
	"testing"
)

func TestSegment(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"": "", "YQ": "a", "-_8": "\xfb\xff"} {
		if got, err := Segment(text); err != nil || string(got) != want {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"YQ==", "Y", "YR", "Y Q", "Y\nQ", "Y\r\nQ", "YQ\n", "+/8", "é"} {
		if got, err := Segment(text); !errors.Is(err, ErrSegment) || got != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestObjectUUID(t *testing.T) {
	t.Parallel()
	object, err := ParseObject([]byte(`{"good":"0197c2a4-1111-7abc-8def-0123456789ab","upper":"0197C2A4-1111-7abc-8def-0123456789ab",
		"urn":"urn:uuid:0197c2a4-1111-7abc-8def-0123456789ab","nil":"00000000-0000-0000-0000-000000000000","number":1}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"good", "upper", "urn", "nil", "number", "absent"} {
		if _, ok := object.UUID(name); ok != (name == "good") {
			t.Errorf("%s: %v", name, ok)
		}
	}
}

func TestParseObjectRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		``, `null`, `[]`, `"a"`, `1`, `{"a":1}{}`, `{"a":1} x`, `{"a":1,}`, `{"a":1,"a":1}`, `{"a":1,"\u0061":2}`,
		`{"a":{"b":1,"b":2}}`, `{"a":[{"b":1,"b":2}]}`, "{\"\xff\":1}", `{"a":` + nested(16) + `}`,
	} {
		if object, err := ParseObject([]byte(text)); !errors.Is(err, ErrObject) || object != nil {
			t.Errorf("%s: %v, %v", text, object, err)
		}
	}
	object, err := ParseObject([]byte(` {"a":1,"A":2,"b":` + nested(15) + `} `))
	if first, ok := object.Integer("a"); err != nil || !ok || first != 1 || len(object) != 3 {
		t.Errorf("%v, %v", object, err)
	}
}
