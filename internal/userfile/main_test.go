package userfile

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/latchkey-auth/latchkey/internal/password"
)

func now() time.Time { return time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC) }

func firebaseConfig(t testing.TB) *password.FirebaseScrypt {
	t.Helper()
	// The example parameters of github.com/firebase/scrypt.
	config, err := ParseFirebaseConfig([]byte(`hash_config {
  algorithm: SCRYPT,
  base64_signer_key: jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==,
  base64_salt_separator: Bw==,
  rounds: 8,
  mem_cost: 14,
}`))
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// readAll reads a file in a format. Without a format it detects one.
func readAll(t testing.TB, in io.Reader, format Format) (*Reader, []Record, error) {
	t.Helper()
	r, err := NewReader(in, Options{Format: format, Firebase: firebaseConfig(t), Now: now})
	if err != nil {
		return nil, nil, err
	}
	var list []Record
	for {
		record, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r, list, nil
		}
		if err != nil {
			return r, list, err
		}
		list = append(list, record)
	}
}

// read is readAll for a text without a fatal error.
func read(t testing.TB, text string, format Format) []Record {
	t.Helper()
	_, list, err := readAll(t, strings.NewReader(text), format)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return list
}

// wantRecords compares users, and checks that the errors contain their texts, by number.
func wantRecords(t *testing.T, got []Record, wanted ...any) {
	t.Helper()
	if len(got) != len(wanted) {
		t.Fatalf("%d records, want %d: %+v", len(got), len(wanted), got)
	}
	for i, w := range wanted {
		switch w := w.(type) {
		case User:
			if got[i].Err != nil || got[i].User != w {
				t.Errorf("record %d:\n%+v, %v\nwant\n%+v", i+1, got[i].User, got[i].Err, w)
			}
		case string:
			if got[i].Err == nil || !strings.Contains(got[i].Err.Error(), w) {
				t.Errorf("record %d: %v, want an error with %q", i+1, got[i].Err, w)
			}
		}
	}
}
