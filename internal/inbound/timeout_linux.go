package inbound

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// setUserTimeout limits how long the kernel waits for a peer to acknowledge data. If it fails, gRPC's keepalive still
// finds dead peers.
func setUserTimeout(c *net.TCPConn, timeout time.Duration) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(timeout.Milliseconds()))
	})
}
