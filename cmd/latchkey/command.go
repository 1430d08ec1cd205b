package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// command is an entry of the command table: a command, or a group of commands. Exactly one of run, flags and
// group is set.
type command struct {
	name   string // in a group it can be two words: "user get"
	usage  string // the text after the name in the usage line
	about  string // one line for lists and completion
	more   string // further lines of the help
	group  []command
	common []string // of a group: flags that each of its commands takes, described once

	noun string // of a group: "command ", if its errors say "there is no command X", or nothing

	// run runs a command without flags: it gets every argument as it is. The identifier of a signing key can
	// begin with "-", and `keys revoke` must take it.
	run runner
	// flags defines the flags of a command and returns its runner, which is called after they are set.
	flags func(*flag.FlagSet) runner
}

// runner runs a command. words are its arguments that are not flags.
type runner func(ctx context.Context, words, environ []string, stdout io.Writer) error

// flagSet returns the flags of the command and its runner.
func (c command) flagSet() (*flag.FlagSet, runner) {
	set := flag.NewFlagSet(c.name, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	if c.flags == nil {
		return set, c.run
	}
	return set, c.flags(set)
}

// exec runs a command of the table. args are the arguments after its name.
func (c command) exec(ctx context.Context, args, environ []string, stdout io.Writer) error {
	if c.group == nil {
		set, do := c.flagSet()
		words := args
		if c.flags != nil {
			var err error
			if words, err = wordsBeside(set, args); err != nil {
				return c.wrongUsage(err.Error())
			}
		}
		return do(ctx, words, environ, stdout)
	}
	if sub, rest, found := c.find(args); found && sub.run != nil {
		return sub.run(ctx, rest, environ, stdout)
	}
	words, given, err := c.split(args)
	if err != nil {
		return c.wrongUsage(err.Error())
	}
	if len(words) == 0 {
		return &usageError{c.help()}
	}
	sub, rest, found := c.find(words)
	if !found {
		return c.wrongUsage(fmt.Sprintf("there is no %s%q", c.noun, strings.Join(words, " ")))
	}
	set, do := sub.flagSet()
	for _, f := range given {
		if set.Lookup(f.name) == nil {
			return &usageError{fmt.Sprintf("latchkey %s %s takes no --%s", c.name, sub.name, f.name)}
		}
		if err := set.Set(f.name, f.value); err != nil {
			return &usageError{fmt.Sprintf("latchkey %s %s: invalid value %q for --%s: %v", c.name, sub.name, f.value, f.name, err)}
		}
	}
	return do(ctx, rest, environ, stdout)
}

func (c command) wrongUsage(text string) error {
	return &usageError{fmt.Sprintf("latchkey %s: %s\n\n%s", c.name, text, c.help())}
}

// find returns the command of the group whose name the words begin with, and the words after it.
func (c command) find(words []string) (command, []string, bool) {
	for _, sub := range c.group {
		name := strings.Fields(sub.name)
		if len(words) >= len(name) && slices.Equal(words[:len(name)], name) {
			return sub, words[len(name):], true
		}
	}
	return command{}, nil, false
}

// givenFlag is a flag of a command line, with its value as text.
type givenFlag struct{ name, value string }

// split separates the words of a command line from its flags. A flag can come before the name of the command,
// so split knows the flags of the whole group and which of them take a value.
func (c command) split(args []string) (words []string, given []givenFlag, err error) {
	all := flag.NewFlagSet(c.name, flag.ContinueOnError)
	all.SetOutput(io.Discard)
	for _, sub := range c.group {
		set, _ := sub.flagSet()
		set.VisitAll(func(f *flag.Flag) {
			record := func(value string) error {
				given = append(given, givenFlag{f.Name, value})
				return nil
			}
			switch {
			case all.Lookup(f.Name) != nil:
			case isSwitch(f):
				all.BoolFunc(f.Name, "", record)
			default:
				all.Func(f.Name, "", record)
			}
		})
	}
	words, err = wordsBeside(all, args)
	return words, given, err
}

// isSwitch reports whether a flag needs no value.
func isSwitch(f *flag.Flag) bool {
	value, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && value.IsBoolFlag()
}

// wordsBeside sets flags that come before, between and after other words, and returns those words.
func wordsBeside(flags *flag.FlagSet, args []string) ([]string, error) {
	var words []string
	for rest := args; len(rest) > 0; {
		if err := flags.Parse(rest); err != nil {
			return nil, err
		}
		taken := len(rest) - flags.NArg()
		if taken > 0 && rest[taken-1] == "--" { // nothing after it is a flag
			return append(words, flags.Args()...), nil
		}
		if rest = flags.Args(); len(rest) > 0 {
			words, rest = append(words, rest[0]), rest[1:]
		}
	}
	return words, nil
}
