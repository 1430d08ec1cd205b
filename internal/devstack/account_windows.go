package devstack

import (
	"io/fs"
	"os"
)

// account is the user that a server runs as. On Windows that is always the user of this process.
type account struct{}

func privateDirMode() fs.FileMode { return 0o700 }

func accountFor(string) (account, error) { return account{}, nil }

func (account) own(string) error { return nil }

func (account) mayOwn(fs.FileInfo) bool { return true }

func (account) unreachable(string) string { return "" }

func (account) explain(err error, _ string) error { return err }

// OwnAsFolder does nothing on Windows.
func OwnAsFolder(*os.File) error { return nil }

// CheckDir returns an error if the servers of this process could not use a data directory at dir. On Windows
// it returns none.
func CheckDir(string) error { return nil }
