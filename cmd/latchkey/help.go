package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"
)

const devHelp = `Runs the whole service on this machine, for development: PostgreSQL and Redis of its own, mails caught at /dev/mailbox, keys that it
makes. Its data stays in LATCHKEY_DEV_DIR (unset: a folder of yours); to start anew, stop it and delete that folder.
Every setting has its usual effect, and none is needed. The most used are:
  LATCHKEY_GRPC_ADDR  127.0.0.1:50051     LATCHKEY_HTTP_ADDR  127.0.0.1:8080     LATCHKEY_OPS_ADDR  127.0.0.1:9464

Prints "ready grpc=H:P http=H:P ops=H:P" on standard output when it serves; logs go to standard error. Ctrl-C ends it all.
Exit codes: 0 done, 1 failed, 2 usage or settings.`

const serveHelp = `Runs the service. It needs LATCHKEY_DATABASE_URL, LATCHKEY_REDIS_URL, LATCHKEY_SECRET_KEY, LATCHKEY_ISSUER and LATCHKEY_SMTP_URL
(without account pages also LATCHKEY_RESET_URL), says at once what is missing or wrong, and takes no arguments: "latchkey config" lists every setting with its
form. A secret can be put in a file: LATCHKEY_SECRET_KEY_FILE instead of LATCHKEY_SECRET_KEY.

Prints "ready grpc=H:P http=H:P ops=H:P" on standard output when it serves; logs go to standard error. SIGTERM stops it in order.
Exit codes: 0 done, 1 failed, 2 usage or settings.`

const healthcheckHelp = `Asks the service at LATCHKEY_GRPC_ADDR on this machine for grpc.health.v1, within 3 seconds, over TLS if LATCHKEY_TLS_CERT_FILE is
set. For a container's health check.
Exit codes: 0 it serves, 1 it does not, 2 usage or settings.`

const configHelp = `Prints every setting with its value, its form and its purpose; secrets are hidden. Warns about those that are too weak.
Exit codes: 0 done, 1 failed, 2 settings that cannot be used.`

const versionHelp = `Prints the version, as latchkey --version does.`

// commands returns the command table. Dispatch, help and completion read nothing else.
func commands() []command {
	return slices.Concat([]command{
		{name: "dev", about: "run everything on this machine, PostgreSQL and Redis included, and catch mails", more: devHelp, run: dev},
		{name: "serve", about: "run the service; stores and secrets come from the environment", more: serveHelp, run: serve},
		migrateGroup(),
		keysGroup(),
		usersGroup(),
		adminGroup(),
		mailGroup(),
	}, olderCommands(), []command{
		{name: "healthcheck", about: "ask the service on this machine whether it serves; exit 0 or 1", more: healthcheckHelp, run: healthcheck},
		{name: "config", about: "print the settings in force, secrets hidden", more: configHelp, run: printConfig},
		completionGroup(),
		{name: "version", about: "print the version", more: versionHelp, run: printVersion},
	})
}

func findCommand(name string) (command, error) {
	for _, c := range commands() {
		if c.name == name {
			return c, nil
		}
	}
	return command{}, &usageError{fmt.Sprintf("latchkey: there is no command %q\n\n%s", name, usage())}
}

func usage() string {
	var b strings.Builder
	b.WriteString("usage: latchkey COMMAND\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "\n  %-12s %s", c.name, c.about)
	}
	b.WriteString("\n\nEverything is set by environment variables: `latchkey config` lists them. `latchkey COMMAND --help` says more.")
	return b.String()
}

// help returns the help of a command, or of a group with all its commands.
func (c command) help() string {
	if c.group == nil {
		return "usage: " + c.line("") + "\n\n" + c.more
	}
	var b strings.Builder
	b.WriteString("usage: ")
	for i, sub := range c.group {
		if i > 0 {
			b.WriteString("\n       ")
		}
		b.WriteString(sub.line(c.name))
	}
	b.WriteString("\n")
	for _, sub := range c.group {
		b.WriteString("\n  " + sub.name + "\n")
		b.WriteString(indent("        ", sub.about, sub.more, sub.flagLines(func(name string) bool { return !slices.Contains(c.common, name) })))
	}
	if len(c.common) > 0 {
		b.WriteString("\n  all of them\n")
		b.WriteString(indent("        ", c.group[0].flagLines(func(name string) bool { return slices.Contains(c.common, name) })))
	}
	return b.String() + "\n" + c.more
}

// helpFor returns the help of the command of the group that the words name, or of the whole group if they
// name none. There may be flags and their values among the words.
func (c command) helpFor(words []string) string {
	for i := range words {
		if sub, _, found := c.find(words[i:]); found {
			return c.subHelp(sub)
		}
	}
	return c.help()
}

func (c command) subHelp(sub command) string {
	var b strings.Builder
	b.WriteString("usage: " + sub.line(c.name) + "\n\n")
	b.WriteString(indent("", sub.about, sub.more))
	if flags := sub.flagLines(func(string) bool { return true }); flags != "" {
		b.WriteString("\n" + indent("  ", flags))
	}
	b.WriteString("\n" + c.more)
	if len(c.group) == 1 {
		return b.String()
	}
	b.WriteString("\n\nThe other commands of latchkey " + c.name + ":")
	for _, other := range c.group {
		if other.name != sub.name {
			b.WriteString("\n  " + other.line(c.name))
		}
	}
	return b.String()
}

// line returns the command as its usage line shows it.
func (c command) line(group string) string {
	return strings.Join(strings.Fields("latchkey "+group+" "+c.name+" "+c.usage), " ")
}

// flagLines describes the flags for which show returns true.
func (c command) flagLines(show func(name string) bool) string {
	set, _ := c.flagSet()
	var names, texts []string
	width := 0
	set.VisitAll(func(f *flag.Flag) {
		if !show(f.Name) {
			return
		}
		value, text := flag.UnquoteUsage(f)
		names, texts = append(names, strings.TrimSpace("--"+f.Name+" "+value)), append(texts, text)
		width = max(width, len(names[len(names)-1]))
	})
	var b strings.Builder
	for i, name := range names {
		text := strings.ReplaceAll(texts[i], "\n", "\n"+strings.Repeat(" ", width+2))
		fmt.Fprintf(&b, "%-*s  %s\n", width, name, text)
	}
	return b.String()
}

// indent puts a margin before each line of the texts that are not empty.
func indent(margin string, texts ...string) string {
	var b strings.Builder
	for _, text := range texts {
		for line := range strings.Lines(text) {
			b.WriteString(margin + strings.TrimSuffix(line, "\n") + "\n")
		}
	}
	return b.String()
}

// isHelp reports whether an argument asks for help.
func isHelp(arg string) bool {
	return arg == "help" || isHelpFlag(arg)
}

func isHelpFlag(arg string) bool {
	return slices.Contains([]string{"-h", "-help", "--h", "--help"}, arg)
}

// wantsHelp reports whether the arguments of a command ask for its usage: by a flag before "--", or by the
// word "help" after the words of the command. After a flag that word can be its value or a file.
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
