package main

import (
	"slices"
	"strings"
)

const devUsage = `usage: latchkey dev

Runs the whole service on this machine, for development: PostgreSQL and Redis of its own, mails caught at /dev/mailbox, keys made
and kept in LATCHKEY_DEV_DIR (unset: a folder of yours). Every setting is honoured; none is needed. Those most used:
  LATCHKEY_GRPC_ADDR  127.0.0.1:50051     LATCHKEY_HTTP_ADDR  127.0.0.1:8080     LATCHKEY_OPS_ADDR  127.0.0.1:9464

Prints "ready grpc=H:P http=H:P ops=H:P" on standard output when it serves; logs go to standard error. Ctrl-C ends it all.
Exit codes: 0 done, 1 failed, 2 usage or settings.`

const serveUsage = `usage: latchkey serve

Runs the service. It needs LATCHKEY_DATABASE_URL, LATCHKEY_REDIS_URL, LATCHKEY_SECRET_KEY, LATCHKEY_ISSUER, LATCHKEY_SMTP_URL and
LATCHKEY_RESET_URL, says at once what is missing or wrong, and takes no arguments: "latchkey config" lists every setting with its
form. A secret can be put in a file: LATCHKEY_SECRET_KEY_FILE instead of LATCHKEY_SECRET_KEY.

Prints "ready grpc=H:P http=H:P ops=H:P" on standard output when it serves; logs go to standard error. SIGTERM stops it in order.
Exit codes: 0 done, 1 failed, 2 usage or settings.`

const healthcheckUsage = `usage: latchkey healthcheck

Asks the service at LATCHKEY_GRPC_ADDR on this machine for grpc.health.v1, within 3 seconds, over TLS where LATCHKEY_TLS_CERT_FILE is
set. For a container's health check.
Exit codes: 0 it serves, 1 it does not, 2 usage or settings.`

const configUsage = `usage: latchkey config

Prints every setting with its value, its form and what it is for; secrets are hidden. Warns about those that are too weak.
Exit codes: 0 done, 1 failed, 2 settings that cannot be used.`

const versionUsage = `usage: latchkey version

Prints the version, as latchkey --version does.`

// isHelp says whether an argument asks for help wherever it stands.
func isHelp(arg string) bool {
	return arg == "help" || isHelpFlag(arg)
}

func isHelpFlag(arg string) bool {
	return slices.Contains([]string{"-h", "-help", "--h", "--help"}, arg)
}

// wantsHelp says whether the arguments of a command ask for its usage: by a flag, before
// "--", or by the word "help" behind the words of the command. Behind a flag that word
// can be its value or a file.
func wantsHelp(args []string) bool {
	for i, arg := range args {
		if arg == "--" {
			return false
		}
		if isHelpFlag(arg) {
			return true
		}
		if arg == "help" && !slices.ContainsFunc(args[:i], func(before string) bool { return strings.HasPrefix(before, "-") }) {
			return true
		}
	}
	return false
}
