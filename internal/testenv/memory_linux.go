package testenv

import "syscall"

// memoryDir returns a folder whose files are in memory, or "" if there is too little room: a container has 64 MiB by
// default, a server with a few databases takes 100.
func memoryDir() string {
	const dir, needed = "/dev/shm", 1 << 30
	var stat syscall.Statfs_t
	if err := syscall.Statfs(dir, &stat); err != nil || stat.Bsize <= 0 {
		return ""
	}
	if stat.Bavail < needed/uint64(stat.Bsize) {
		return ""
	}
	return dir
}
