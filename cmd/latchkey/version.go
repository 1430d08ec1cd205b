package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// version is set by the linker when a release is built.
var version = ""

func printVersion(_ context.Context, args, _ []string, stdout io.Writer) error {
	if err := noArguments("version", args); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stdout, "latchkey %s %s %s/%s\n", versionText(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}

func versionText() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
