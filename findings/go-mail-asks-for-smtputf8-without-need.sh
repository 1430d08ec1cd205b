#!/usr/bin/env bash
# github.com/wneessen/go-mail v0.8.1: where a server offers SMTPUTF8, every MAIL command asks for it, also for a mail
# whose addresses and headers are all ASCII. RFC 6531, section 3.4, has the client ask where the mail needs it: the next
# relay that does not offer SMTPUTF8 must bounce what was asked for with it, though it could have passed this mail on.
#
# Seen: MAIL FROM:<ida@example.com> BODY=8BITMIME SMTPUTF8
# What helps: give MAIL, RCPT and DATA by hand through the package's smtp.Client.
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

// serve answers one client, and says what its MAIL command was.
func serve(l net.Listener, seen chan<- string) {
	conn, err := l.Accept()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "220 relay.example ESMTP\r\n")
	lines := bufio.NewScanner(conn)
	data := false
	for lines.Scan() {
		line := lines.Text()
		switch verb := strings.ToUpper(strings.Fields(line + " -")[0]); {
		case data && line == ".":
			data = false
			fmt.Fprint(conn, "250 2.0.0 taken\r\n")
		case data:
		case verb == "EHLO":
			fmt.Fprint(conn, "250-relay.example\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n")
		case verb == "MAIL":
			seen <- line
			fmt.Fprint(conn, "250 2.1.0 ok\r\n")
		case verb == "DATA":
			data = true
			fmt.Fprint(conn, "354 go on\r\n")
		case verb == "QUIT":
			fmt.Fprint(conn, "221 2.0.0 bye\r\n")
			return
		default:
			fmt.Fprint(conn, "250 2.0.0 ok\r\n")
		}
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	seen := make(chan string, 1)
	go serve(l, seen)
	client, err := mail.NewClient("127.0.0.1", mail.WithPort(l.Addr().(*net.TCPAddr).Port), mail.WithTLSPolicy(mail.NoTLS), mail.WithHELO("client.example"))
	check(err)
	m := mail.NewMsg()
	check(m.From("ida@example.com"))
	check(m.To("bob@example.com"))
	m.Subject("plain")
	m.SetBodyString(mail.TypeTextPlain, "ASCII only")
	check(client.DialAndSend(m))
	fmt.Println(<-seen)
}
M
export GOFLAGS=-mod=mod
go mod tidy >/dev/null 2>&1
seen=$(go run .)
echo "$seen"
want='MAIL FROM:<ida@example.com> BODY=8BITMIME SMTPUTF8'
[ "$seen" = "$want" ] || { echo "this has changed; it was: $want"; exit 1; }
