#!/usr/bin/env bash
# github.com/wneessen/go-mail v0.8.1: Client.Send sends RSET after each mail, also after the last one, and returns the
# error of RSET as an error of the mail. A server that takes the mail (250 after the content) and then answers 421, as
# servers with a limit of mails for each connection do, has taken over the responsibility for it (RFC 5321, 6.1). A caller
# that tries again, as the error tells it to, sends a second mail.
#
# Seen: taken=1 delivered=true error=true
# What helps: Msg.IsDelivered says true, so ask it before a second try; or give the commands through the package's
# smtp.Client and take the answer to the content as the last word.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
cat > go.mod <<'M'
module finding
go 1.26
require github.com/wneessen/go-mail v0.8.1
M
cat > main.go <<'M'
package main

import (
	"bufio"
	"fmt"
	"net"
	"strings"

	"github.com/wneessen/go-mail"
)

// serve takes one mail on one connection and ends the service after it. It returns how many mails it took.
func serve(l net.Listener, taken chan<- int) {
	conn, err := l.Accept()
	check(err)
	defer conn.Close()
	fmt.Fprint(conn, "220 relay.example ESMTP\r\n")
	lines := bufio.NewScanner(conn)
	data, n := false, 0
	for lines.Scan() {
		line := lines.Text()
		verb := strings.ToUpper(strings.Fields(line + " -")[0])
		switch {
		case data && line == ".":
			data = false
			n++
			fmt.Fprint(conn, "250 2.0.0 taken\r\n")
		case data:
		case n > 0 && verb != "QUIT":
			fmt.Fprint(conn, "421 4.7.0 one mail for each connection, closing\r\n")
			taken <- n
			return
		case verb == "EHLO":
			fmt.Fprint(conn, "250-relay.example\r\n250 8BITMIME\r\n")
		case verb == "DATA":
			data = true
			fmt.Fprint(conn, "354 go on\r\n")
		case verb == "QUIT":
			fmt.Fprint(conn, "221 2.0.0 bye\r\n")
			taken <- n
			return
		default:
			fmt.Fprint(conn, "250 2.0.0 ok\r\n")
		}
	}
	taken <- n
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	taken := make(chan int, 1)
	go serve(l, taken)
	client, err := mail.NewClient("127.0.0.1", mail.WithPort(l.Addr().(*net.TCPAddr).Port), mail.WithTLSPolicy(mail.NoTLS), mail.WithHELO("client.example"))
	check(err)
	m := mail.NewMsg()
	check(m.From("ida@example.com"))
	check(m.To("bob@example.com"))
	m.Subject("plain")
	m.SetBodyString(mail.TypeTextPlain, "one mail")
	err = client.DialAndSend(m)
	fmt.Printf("taken=%d delivered=%t error=%t\n", <-taken, m.IsDelivered(), err != nil)
}
M
export GOFLAGS=-mod=mod
go mod tidy >/dev/null 2>&1
seen=$(go run .)
echo "$seen"
want='taken=1 delivered=true error=true'
[ "$seen" = "$want" ] || { echo "this has changed; it was: $want"; exit 1; }
