package totp_test

import (
	"encoding/xml"
	"errors"
	"io"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/totp"
)

// The seed of RFC 6238, appendix B, and of RFC 4226, appendix D.
func rfcSeed() []byte { return []byte("12345678901234567890") }

// The table has eight digits, of which six are the last ones: both are the number modulo a power of ten.
func TestVectorsOfRFC6238(t *testing.T) {
	t.Parallel()
	for unix, want := range map[int64]string{
		59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924", 2000000000: "69279037",
		20000000000: "65353130",
	} {
		now := time.Unix(unix, 0)
		if got := totp.Code(rfcSeed(), totp.Step(now)); got != want[2:] {
			t.Errorf("%d: %s, want %s", unix, got, want[2:])
		}
		if step, ok := totp.Check(rfcSeed(), want[2:], now); !ok || step != unix/30 {
			t.Errorf("%d: step %d, %v", unix, step, ok)
		}
	}
}

func TestVectorsOfRFC4226(t *testing.T) {
	t.Parallel()
	for step, want := range []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"} {
		if got := totp.Code(rfcSeed(), int64(step)); got != want {
			t.Errorf("%d: %s, want %s", step, got, want)
		}
	}
}

// One step before and after is accepted and no other, and the answer says which one it was.
func TestWindow(t *testing.T) {
	t.Parallel()
	seed := totp.NewSeed()
	start := time.Unix(1_800_000_000, 0) // the start of a step
	for _, within := range []time.Duration{0, totp.Period - time.Nanosecond} {
		now := start.Add(within)
		present := totp.Step(now)
		for away := int64(-3); away <= 3; away++ {
			code := totp.Code(seed, present+away)
			step, ok := totp.Check(seed, code, now)
			want := away >= -1 && away <= 1
			if ok != want || ok && step < present+away { // later only if two steps have the same code
				t.Errorf("%+d: step %d, %v", away, step-present, ok)
			}
		}
	}
}

// Two steps may have the same code, once in a million. Then the later one is used up.
func TestSameCodeTwice(t *testing.T) {
	t.Parallel()
	seed := rfcSeed()
	for step := int64(1); ; step++ {
		if totp.Code(seed, step) != totp.Code(seed, step+1) && totp.Code(seed, step) != totp.Code(seed, step+2) {
			continue
		}
		other := step + 1
		if totp.Code(seed, step) != totp.Code(seed, other) {
			other++
		}
		got, ok := totp.Check(seed, totp.Code(seed, step), time.Unix((step+1)*30, 0))
		if !ok || got != other {
			t.Errorf("steps %d and %d: got %d, %v", step, other, got, ok)
		}
		return
	}
}

func TestCheckReadsAsPeopleType(t *testing.T) {
	t.Parallel()
	now := time.Unix(59, 0)
	for text, want := range map[string]bool{
		"287082": true, " 287 082 ": true, "287-082": true, "287\u00a0082": true, "2 8 7 0 8 2": true,
		"": false, "28708": false, "2870820": false, "0287082": false, "+287082": false, "28708a": false, "２８７０８２": false,
		strings.Repeat(" ", 30) + "287082": false,
	} {
		if _, ok := totp.Check(rfcSeed(), text, now); ok != want {
			t.Errorf("%q: %v", text, ok)
		}
	}
}

// A seed that is cut short or empty, as a column with a default might be, has no good code.
func TestSeedOfAnotherLength(t *testing.T) {
	t.Parallel()
	now := time.Unix(59, 0)
	for _, seed := range [][]byte{nil, {}, make([]byte, 19), make([]byte, 21)} {
		if _, ok := totp.Check(seed, totp.Code(seed, totp.Step(now)), now); ok {
			t.Errorf("%d bytes pass", len(seed))
		}
	}
	if a, b := totp.NewSeed(), totp.NewSeed(); len(a) != totp.SeedBytes || string(a) == string(b) {
		t.Error("seeds are not random")
	}
}

// Every name comes back from the URI as it was, but for colons.
func TestURI(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Example", "AT&T", "A+B = C", "50 % off?", "Бюро #1", "a/b", "x:y", "=&;,"} {
		text := totp.URI(name, name+"@example.com", rfcSeed())
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		bare := strings.ReplaceAll(name, ":", "")
		query := uri.Query()
		if uri.Scheme != "otpauth" || uri.Host != "totp" || uri.Path != "/"+bare+":"+bare+"@example.com" || query.Get("issuer") != bare ||
			query.Get("secret") != "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" || query.Get("algorithm") != "SHA1" || query.Get("digits") != "6" ||
			query.Get("period") != "30" || len(query) != 5 {
			t.Errorf("%q: %s", name, text)
		}
		if strings.ContainsAny(text, "+ ") || strings.Count(text, "&") != 4 || strings.Count(text, ":") != 2 {
			t.Errorf("an app would read it in another way: %s", text)
		}
	}
}

// The image is well-formed XML of one kind, without scripts and links.
func TestQR(t *testing.T) {
	t.Parallel()
	image, err := totp.QR(totp.URI("Example", strings.Repeat("a", 255), rfcSeed()))
	if err != nil {
		t.Fatal(err)
	}
	decoder := xml.NewDecoder(strings.NewReader(image))
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in %.200s", err, image)
		}
		if start, ok := token.(xml.StartElement); ok && start.Name.Local != "svg" && start.Name.Local != "path" && start.Name.Local != "rect" {
			t.Errorf("element %s", start.Name.Local)
		}
	}
	if _, err := totp.QR(strings.Repeat("a", 5000)); err == nil {
		t.Error("5,000 characters fit")
	}
}
