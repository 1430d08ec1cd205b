package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// dropCached drops a file from the kernel's cache, after what is dirty of it was written.
func dropCached(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), unix.Fadvise(int(file.Fd()), 0, 0, unix.FADV_DONTNEED), file.Close())
}
