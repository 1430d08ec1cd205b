//go:build unix

package devstack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// account is the user that a server runs as. The zero account is the user of this process.
type account struct {
	name     string
	uid, gid int
	drop     bool // the process is root and the server must not be
}

// privateDirMode returns the mode of a directory that holds a server's data directory. The servers of a root
// process run as another user, who must be able to pass through it.
func privateDirMode() fs.FileMode {
	if os.Geteuid() == 0 {
		return 0o711
	}
	return 0o700
}

// accountFor decides which user the server of dir runs as. A root process uses the owner of dir, or of the
// nearest existing directory above it, so that a later run by that user finds its own files. If that owner is
// root, the servers run as postgres, or as nobody if there is no postgres.
func accountFor(dir string) (account, error) {
	if os.Geteuid() != 0 {
		return account{}, nil
	}
	if owner, ok := ownerOfNearest(dir); ok && owner != 0 {
		// initdb refuses a user that the system does not know.
		if known, err := user.LookupId(strconv.Itoa(owner)); err == nil {
			return newAccount(known)
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		if known, err := user.Lookup(name); err == nil && known.Uid != "0" {
			return newAccount(known)
		}
	}
	return account{}, errors.New("PostgreSQL refuses to run as root and there is no user postgres or nobody to run it as: " +
		"run as an ordinary user")
}

func newAccount(known *user.User) (account, error) {
	uid, err := strconv.Atoi(known.Uid)
	if err != nil {
		return account{}, fmt.Errorf("user %s: %w", known.Username, err)
	}
	gid, err := strconv.Atoi(known.Gid)
	if err != nil {
		return account{}, fmt.Errorf("user %s: %w", known.Username, err)
	}
	return account{name: known.Username, uid: uid, gid: gid, drop: true}, nil
}

func ownerOfNearest(dir string) (int, bool) {
	for {
		if info, err := os.Stat(dir); err == nil {
			return ownerOf(info)
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return 0, false
		}
		dir = parent
	}
}

func ownerOf(info fs.FileInfo) (int, bool) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(stat.Uid), true
}

// own makes the account the owner of a file that this process made.
func (a account) own(path string) error {
	if !a.drop {
		return nil
	}
	if err := os.Lchown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("give %s to user %s: %w", path, a.name, err)
	}
	return nil
}

// OwnAsFolder gives a file that a root process has opened to the owner of its folder, so that a later run by
// that user can use it. It leaves a file with several names (hard links) as it is, because the others may be
// elsewhere. Without root it does nothing.
func OwnAsFolder(file *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	folder, err := os.Stat(filepath.Dir(file.Name()))
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	owner, ok := folder.Sys().(*syscall.Stat_t)
	if own, known := info.Sys().(*syscall.Stat_t); !ok || !known || own.Nlink != 1 {
		return nil
	}
	return file.Chown(int(owner.Uid), int(owner.Gid))
}

// mayOwn reports whether a directory belongs to this process or to the account. Only such directories may be swept.
func (a account) mayOwn(info fs.FileInfo) bool {
	owner, ok := ownerOf(info)
	return ok && (owner == os.Geteuid() || a.drop && owner == a.uid)
}

// unreachable returns the first directory on the path to dir, dir included, that the account cannot enter
// according to its mode, or "" if it can enter all. Parts that do not exist yet do not count.
func (a account) unreachable(dir string) string {
	if !a.drop {
		return ""
	}
	if parent := filepath.Dir(dir); parent != dir {
		if blocked := a.unreachable(parent); blocked != "" {
			return blocked
		}
	}
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		return ""
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	bit := fs.FileMode(0o001)
	switch {
	case int(stat.Uid) == a.uid:
		bit = 0o100
	case int(stat.Gid) == a.gid:
		bit = 0o010
	}
	if info.Mode().Perm()&bit != 0 {
		return ""
	}
	return dir
}

// explain adds advice to an error that was caused by a missing permission.
func (a account) explain(err error, path string) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	if !a.drop {
		if _, missing := os.Lstat(path); missing != nil {
			return fmt.Errorf("%w (%s may belong to another user, such as root, or be read-only: choose another directory)", err, filepath.Dir(path))
		}
		return fmt.Errorf("%w (%s may have been made by another user, such as root: remove it or choose another directory)",
			err, path)
	}
	if blocked := a.unreachable(path); blocked != "" {
		return fmt.Errorf("%w: started by root, the server runs as user %s, who cannot enter %s: "+
			"choose a directory outside it or run `chmod o+x %s`", err, a.name, blocked, blocked)
	}
	return fmt.Errorf("%w: started by root, the server runs as user %s, who cannot use %s", err, a.name, path)
}

// CheckDir returns an error if the servers of this process could not use a data directory at dir, which need
// not exist. Only a root process gets an error: its servers run as another user, who cannot enter /root, for
// example. It looks at mode bits, not at access control lists.
func CheckDir(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("resolve %s: %w", dir, err)
	}
	acct, err := accountFor(dir)
	if err != nil {
		return err
	}
	if acct.unreachable(dir) != "" {
		return acct.explain(fs.ErrPermission, dir)
	}
	return nil
}

// credential returns nil if nothing has to change. Naming one group makes Go drop root's supplementary groups.
func (a account) credential() *syscall.Credential {
	if !a.drop {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid), Groups: []uint32{uint32(a.gid)}} //nolint:gosec // parsed from the system's own user table
}
