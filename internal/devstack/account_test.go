//go:build unix

package devstack

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAccountOfRoot(t *testing.T) {
	t.Parallel()
	dir := publicTempDir(t)
	if os.Geteuid() != 0 {
		acct, err := accountFor(dir)
		if err != nil || acct.drop {
			t.Errorf("an ordinary user's servers run as %v, %v", acct, err)
		}
		if err := CheckDir(filepath.Join(dir, "data")); err != nil {
			t.Error(err)
		}
		return
	}
	acct, err := accountFor(filepath.Join(dir, "not", "there"))
	if err != nil || !acct.drop || acct.uid == 0 {
		t.Fatalf("root's servers run as %v, %v", acct, err)
	}
	if groups := acct.credential().Groups; len(groups) != 1 || groups[0] == 0 {
		t.Errorf("with groups %v", groups)
	}
	const nobody = 65534
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if acct, err := accountFor(filepath.Join(dir, "not", "there")); err != nil || acct.uid != nobody {
		t.Errorf("below a directory of user %d they run as %v, %v", nobody, acct, err)
	}
	// A user that the system does not know cannot run initdb.
	if err := os.Chown(dir, 54321, 54321); err != nil {
		t.Fatal(err)
	}
	if got, err := accountFor(dir); err != nil || got != acct {
		t.Errorf("below a directory of an unknown user they run as %v, %v", got, err)
	}
}

// TestFilesOfRoot: files that root made in somebody's folder do not keep the owner out.
func TestFilesOfRoot(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		return // others make only files of their own
	}
	const nobody = 65534
	dir := publicTempDir(t)
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	release, err := LockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer release() //nolint:errcheck // the directory goes
	if owner, _ := ownerOfNearest(filepath.Join(dir, "lock")); owner != nobody {
		t.Errorf("the lock belongs to %d", owner)
	}
	precious, name := filepath.Join(publicTempDir(t), "precious"), filepath.Join(dir, "name")
	if err := errors.Join(os.WriteFile(precious, nil, 0o600), os.Link(precious, name)); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close() //nolint:errcheck // only read
	if err := OwnAsFolder(file); err != nil {
		t.Error(err)
	}
	if owner, _ := ownerOfNearest(precious); owner != 0 {
		t.Errorf("root's file belongs to %d through a link", owner)
	}
}

// TestUnreachableDirectory uses a data directory in a place such as /root.
func TestUnreachableDirectory(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(publicTempDir(t), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(closed, "deep", "data")
	if os.Geteuid() != 0 {
		if err := CheckDir(data); err != nil {
			t.Errorf("one's own directory: %v", err)
		}
		if err := CheckDir("/root/data"); err != nil {
			t.Errorf("only root's servers change users: %v", err)
		}
		return
	}
	_, started := StartPostgres(t.Context(), PostgresConfig{DataDir: data})
	for _, err := range []error{CheckDir(data), started} {
		if err == nil || !strings.Contains(err.Error(), "chmod o+x "+closed) {
			t.Errorf("the way out is missing in: %v", err)
		}
	}
	if err := os.Chmod(closed, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := CheckDir(data); err != nil {
		t.Errorf("after the way out: %v", err)
	}
}
