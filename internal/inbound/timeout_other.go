//go:build !linux

package inbound

import (
	"net"
	"time"
)

func setUserTimeout(*net.TCPConn, time.Duration) {}
