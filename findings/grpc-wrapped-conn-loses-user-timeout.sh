#!/usr/bin/env bash
# google.golang.org/grpc v1.85.0: a server with keepalive sets TCP_USER_TIMEOUT on what its listener accepts only where
# that is a *net.TCPConn. A listener that wraps its connections (to count, to limit, to read a PROXY header) loses the
# option without an error or a log line, even when the wrapper gives SyscallConn: data that a dead peer does not
# acknowledge then ends the connection by the kernel's retries, minutes later, and no more within the keepalive's timeout.
#
# Seen (Linux): plain listener 7000 ms, wrapped listener 0 ms.
# What helps: set the option in the listener, before the connection is wrapped.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'M'
module finding
go 1.26
require google.golang.org/grpc v1.85.0
require golang.org/x/sys v0.49.0
M
cat > main.go <<'M'
package main

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
)

// wrapped is a connection as a counting listener makes it. SyscallConn is passed on.
type wrapped struct{ *net.TCPConn }

type listener struct {
	net.Listener
	wrap     bool
	accepted chan *net.TCPConn
}

func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.accepted <- conn.(*net.TCPConn)
	if l.wrap {
		return wrapped{conn.(*net.TCPConn)}, nil
	}
	return conn, nil
}

func userTimeout(conn syscall.Conn) int {
	raw, err := conn.SyscallConn()
	if err != nil {
		panic(err)
	}
	var ms int
	if err := raw.Control(func(fd uintptr) { ms, err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT) }); err != nil {
		panic(err)
	}
	return ms
}

func main() {
	for _, wrap := range []bool{false, true} {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		l := &listener{inner, wrap, make(chan *net.TCPConn, 1)}
		server := grpc.NewServer(grpc.KeepaliveParams(keepalive.ServerParameters{Time: 20 * time.Second, Timeout: 7 * time.Second}))
		grpc_health_v1.RegisterHealthServer(server, health.NewServer())
		go server.Serve(l)
		client, err := grpc.NewClient(inner.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			panic(err)
		}
		if _, err := grpc_health_v1.NewHealthClient(client).Check(context.Background(), &grpc_health_v1.HealthCheckRequest{}); err != nil {
			panic(err)
		}
		fmt.Printf("wrapped=%v user timeout %d ms\n", wrap, userTimeout(<-l.accepted))
		client.Close()
		server.Stop()
	}
}
M
export GOFLAGS=-mod=mod
go mod tidy >/dev/null 2>&1
seen=$(go run .)
echo "$seen"
want=$'wrapped=false user timeout 7000 ms\nwrapped=true user timeout 0 ms'
[ "$seen" = "$want" ] || { echo "this has changed; it was:"; echo "$want"; exit 1; }
