package server_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/latchkey-auth/latchkey/server"
	"github.com/latchkey-auth/latchkey/server/page"
)

func pagesWith(t testing.TB, key string) page.Tokens {
	t.Helper()
	pages, err := page.New([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// wantPageRefused checks a refusal that has not passed an interceptor.
func wantPageRefused(t *testing.T, what string, err error) {
	t.Helper()
	code, unforeseen := server.StatusOf(err)
	if err == nil || unforeseen || code != codes.InvalidArgument.String() || !strings.HasPrefix(err.Error(), "page_token: ") {
		t.Errorf("%s: %v", what, err)
	}
	bad := server.DetailOf[*errdetails.BadRequest](err)
	if bad == nil || len(bad.GetFieldViolations()) != 1 || bad.GetFieldViolations()[0].GetField() != "page_token" {
		t.Errorf("%s: violations %v", what, bad)
	}
}

// Every sealed position opens exactly, to the nanosecond, for its own list, owner and key, and for no other.
func TestPageTokens(t *testing.T) {
	t.Parallel()
	pages := pagesWith(t, "a key of the pages")
	other := pagesWith(t, "another key")
	var seed [8 + 4 + 16]byte
	for range 1000 {
		_, _ = rand.Read(seed[:])
		// Up to 8,000 years on both sides, and any fraction of a second.
		seconds := int64(binary.BigEndian.Uint64(seed[:])) % (8000 * 365 * 24 * 3600)
		at := time.Unix(seconds, int64(binary.BigEndian.Uint32(seed[8:]))%1e9)
		id := uuid.UUID(seed[12:])
		owner := uuid.NewString()
		text := pages.Seal("List", owner, at, id)
		gotAt, gotID, err := pages.Open("List", owner, text)
		if err != nil || !gotAt.Equal(at) || gotID != id {
			t.Fatalf("%v %v came back as %v %v: %v", at, id, gotAt, gotID, err)
		}
		if len(text) > 256 {
			t.Fatalf("%d characters are more than the field takes", len(text))
		}
		_, _, err = pages.Open("List", uuid.NewString(), text)
		wantPageRefused(t, "another owner", err)
		_, _, err = pages.Open("List", "", text)
		wantPageRefused(t, "no owner", err)
		_, _, err = pages.Open("Other", owner, text)
		wantPageRefused(t, "another list", err)
		_, _, err = pages.Open("List"+owner, "", text)
		wantPageRefused(t, "the owner as a part of the list's name", err)
		_, _, err = other.Open("List", owner, text)
		wantPageRefused(t, "another key", err)
	}
}

// If any bit of a token changes, or any other text is sent, it does not open.
func TestPageTokensHaveOneSpelling(t *testing.T) {
	t.Parallel()
	pages := pagesWith(t, "a key of the pages")
	text := pages.Seal("List", "", time.Unix(1700000000, 123456000), uuid.New())
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(raw) * 8 {
		raw[i/8] ^= 1 << (i % 8)
		_, _, err := pages.Open("List", "", base64.RawURLEncoding.EncodeToString(raw))
		wantPageRefused(t, "a bit", err)
		raw[i/8] ^= 1 << (i % 8)
	}
	for name, other := range map[string]string{
		"empty": "", "shorter": text[:len(text)-1], "by a group": text[:len(text)-4], "longer": text + "AAAA", "a space": text + " ",
		"padded": text + "=", "a line break": text[:20] + "\n" + text[20:], "not base64": strings.Repeat("!", len(text)),
	} {
		_, _, err := pages.Open("List", "", other)
		wantPageRefused(t, name, err)
	}
}

func FuzzPageToken(f *testing.F) {
	pages := pagesWith(f, "a key of the pages")
	good := pages.Seal("List", "", time.Unix(1700000000, 0), uuid.Nil)
	for _, seed := range []string{good, good[:59], good + "=", good[:30] + "\n" + good[30:], "", "AAAA", strings.Repeat("A", 60), strings.Repeat("_", 256)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		at, id, err := pages.Open("List", "", text)
		if err != nil {
			wantPageRefused(t, text, err)
			return
		}
		if again := pages.Seal("List", "", at, id); again != text {
			t.Errorf("%q opens, and is written %q", text, again)
		}
	})
}
