// The stand-in for cmd/latchkey/takeover*.go when the tree of the older backends is deleted: it adds no command.
package main

func olderCommands() []command { return nil }
