package breached_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/latchkey-auth/latchkey/internal/breached"
)

func digits(password string) string {
	return fmt.Sprintf("%X", sha1.Sum([]byte(password)))
}

// lines returns the lines of n passwords, ordered, without line breaks. Counts have one to seven digits.
func lines(n int) []string {
	made := make([]string, n)
	for i := range made {
		count := 1
		for range i % 7 {
			count *= 10
		}
		made[i] = fmt.Sprintf("%s:%d", digits(fmt.Sprint("password ", i)), count)
	}
	slices.Sort(made)
	return made
}

func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t testing.TB, path string) *breached.Set {
	t.Helper()
	set, err := breached.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = set.Close() })
	return set
}

func contains(t testing.TB, set *breached.Set, password string) bool {
	t.Helper()
	found, err := set.Contains(password)
	if err != nil {
		t.Fatalf("%q: %v", password, err)
	}
	return found
}

// TestContains finds each password of files of many sizes, and no other.
func TestContains(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 80, 90, 100, 1000, 20000} {
		for _, end := range []string{"\n", "\r\n"} {
			set := open(t, file(t, strings.Join(lines(n), end)+end))
			for i := range n {
				if !contains(t, set, fmt.Sprint("password ", i)) {
					t.Fatalf("%d lines: password %d is not found", n, i)
				}
				if contains(t, set, fmt.Sprint("another ", i)) {
					t.Fatalf("%d lines: another %d is found", n, i)
				}
			}
		}
	}
}

// TestPaddingIsNoPassword: the service fills answers up with lines whose count is 0.
func TestPaddingIsNoPassword(t *testing.T) {
	t.Parallel()
	if contains(t, open(t, file(t, digits("secret")+":0\r\n")), "secret") {
		t.Error("a count of 0 is found")
	}
}

// TestFolder reads a folder as the downloader writes it: without a line break at the end of a file.
func TestFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(prefix string, lines ...string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, prefix+".txt"), []byte(strings.Join(lines, "\r\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	low, high := strings.Repeat("0", 35)+":1", strings.Repeat("F", 35)+":2"
	for i := range 16 {
		write(strings.Repeat(fmt.Sprintf("%X", i), 5), low, high)
	}
	secret := digits("secret")
	write(secret[:5], low, secret[5:]+":3")
	set := open(t, dir)
	if !contains(t, set, "secret") {
		t.Error("not found")
	}
	write(secret[:5], low, high)
	if contains(t, set, "secret") {
		t.Error("found")
	}
	for name, text := range map[string]string{
		"missing": "", "NTLM": strings.Repeat("0", 27) + ":1\r\n", "not ordered": high + "\n" + low,
	} {
		write(secret[:5], text)
		if name == "missing" {
			if err := os.Remove(filepath.Join(dir, secret[:5]+".txt")); err != nil {
				t.Fatal(err)
			}
		}
		if found, err := set.Contains("secret"); err == nil || found || strings.Contains(err.Error(), secret[:5]) {
			t.Errorf("%s: %v, %v", name, found, err)
		}
	}
	write("CCCCC", high, low)
	if _, err := breached.Open(dir); !errors.Is(err, breached.ErrForm) || !strings.Contains(err.Error(), "CCCCC.txt") {
		t.Errorf("got %v", err)
	}
}

// TestOpenRefuses checks that a file which would silently find nothing is refused, and why.
func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	good := lines(20000)
	whole := strings.Join(good, "\n") + "\n"
	byCount := slices.Clone(good)
	slices.SortFunc(byCount, func(a, b string) int { return strings.Compare(a[41:], b[41:]) })
	swapped := slices.Clone(good)
	slices.Reverse(swapped)
	ntlm := strings.Repeat("A", 32) + ":1\n"
	for name, test := range map[string]struct{ text, why string }{
		"empty":          {"", "empty"},
		"NTLM":           {ntlm, "NTLM"},
		"by count":       {strings.Join(byCount, "\n") + "\n", "not ordered"},
		"reversed":       {strings.Join(swapped, "\n") + "\n", "not ordered"},
		"cut in a line":  {whole[:len(whole)/2+7], "cut off"},
		"cut at a line":  {strings.Join(good[:19800], "\n") + "\n", "cut off"},
		"without start":  {strings.Join(good[200:], "\n") + "\n", "cut off"},
		"lower case":     {strings.ToLower(good[0]) + "\n", "upper-case"},
		"without counts": {good[0][:40] + "\n", "HASH:COUNT"},
		"HTML":           {"<!DOCTYPE html><title>502 Bad Gateway</title>\n", "HASH:COUNT"},
		"spaces":         {good[0][:40] + ": 1\n", "HASH:COUNT"},
		"long line":      {good[0] + strings.Repeat("0", 100) + "\n", ""},
	} {
		_, err := breached.Open(file(t, test.text))
		if !errors.Is(err, breached.ErrForm) || !strings.Contains(err.Error(), test.why) {
			t.Errorf("%s: %v, want %q", name, err, test.why)
		}
	}
	if _, err := breached.Open(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := breached.Open(t.TempDir()); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "00000.txt") {
		t.Errorf("an empty folder: %v", err)
	}
	if _, err := breached.Open(os.DevNull); !errors.Is(err, breached.ErrForm) {
		t.Errorf("a device: %v", err)
	}
}

// TestCutOffWhileRunning: a mapped file would end the process with SIGBUS here.
func TestCutOffWhileRunning(t *testing.T) {
	t.Parallel()
	path := file(t, strings.Join(lines(1000), "\n")+"\n")
	set := open(t, path)
	if err := os.Truncate(path, 100); err != nil {
		t.Fatal(err)
	}
	if found, err := set.Contains("password 1"); found || !errors.Is(err, breached.ErrChanged) {
		t.Errorf("got %v, %v", found, err)
	}
}

// TestReplacedWhileRunning: the Set goes on with the file that it has opened.
func TestReplacedWhileRunning(t *testing.T) {
	t.Parallel()
	path := file(t, strings.Join(lines(1000), "\n")+"\n")
	set := open(t, path)
	if err := os.Rename(file(t, ""), path); err != nil {
		t.Fatal(err)
	}
	if !contains(t, set, "password 1") || contains(t, set, "another") {
		t.Error("the list is not the one that was opened")
	}
}

// TestDamageIsFound: a part of the file that is not ordered, and that Open's samples missed, must not pass as "not found".
func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	all := lines(20000)
	for i := 5000; i < 15000; i++ {
		all[i] = all[i][:20] + "-" + all[i][21:]
	}
	path := file(t, strings.Join(lines(20000), "\n")+"\n")
	set := open(t, path)
	if err := os.WriteFile(path, []byte(strings.Join(all, "\n")+"\n"), 0o600); err != nil { // the same size
		t.Fatal(err)
	}
	refused := 0
	for i := range 1000 {
		if _, err := set.Contains(fmt.Sprint("password ", i)); errors.Is(err, breached.ErrForm) {
			refused++
		}
	}
	if refused != 1000 { // each search begins in the middle
		t.Errorf("%d of 1000 searches noticed", refused)
	}
}

// FuzzParseLine compares with the form as a pattern.
func FuzzParseLine(f *testing.F) {
	form := regexp.MustCompile(`^([0-9A-F]{40}):([0-9]{1,19})\r?$`)
	for _, seed := range append(lines(3), "", ":", strings.Repeat("A", 40)+":0", strings.Repeat("A", 40)+":1\r", strings.Repeat("A", 32)+":1", strings.Repeat("a", 40)+":1") {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		digits, positive, err := breached.ParseLine(line)
		if bytes.IndexByte(line, '\n') >= 0 {
			if err == nil {
				t.Fatalf("%q is a line", line)
			}
			return
		}
		want := form.FindSubmatch(line)
		if (err == nil) != (want != nil) {
			t.Fatalf("%q: %v, want %q", line, err, want)
		}
		if want != nil && (!bytes.Equal(digits, want[1]) || positive != (len(bytes.Trim(want[2], "0")) > 0)) {
			t.Fatalf("%q: %q %v", line, digits, positive)
		}
		if err != nil && len(line) > 8 && strings.Contains(err.Error(), string(line)) {
			t.Fatalf("the error shows the line: %v", err)
		}
	})
}

// BenchmarkContains looks up in a made-up file of 1 GB: 23 million ordered hashes.
func BenchmarkContains(b *testing.B) {
	const n = 23_000_000
	const step = uint64(1<<63) / n * 2
	path := filepath.Join(b.TempDir(), "list.txt")
	out, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	var text bytes.Buffer
	for i := range uint64(n) {
		var hash [20]byte
		binary.BigEndian.PutUint64(hash[:], i*step)
		fmt.Fprintf(&text, "%X:%d\r\n", hash, i%1000+1)
		if text.Len() > 1<<20 || i == n-1 {
			if _, err := text.WriteTo(out); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := out.Close(); err != nil {
		b.Fatal(err)
	}
	set := open(b, path)
	i := 0
	for b.Loop() {
		i++
		if contains(b, set, fmt.Sprint("password ", i)) {
			b.Fatal("found")
		}
	}
}
