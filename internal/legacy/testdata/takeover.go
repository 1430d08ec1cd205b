// The stand-in for cmd/latchkey/takeover*.go when the tree of the older backends is deleted: the names that main.go and
// help.go have.
package main

import (
	"context"
	"errors"
	"io"
)

const takeoverUsage = "usage: latchkey takeover"

type decisionsError struct{}

func (*decisionsError) Error() string { return "" }

func runTakeover(context.Context, []string, []string, io.Writer) error {
	return errors.New("deleted")
}

func takeoverGroup() command { return command{} }
