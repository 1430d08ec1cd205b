#!/bin/sh
# Generates the Go code of the suite's own proto files into pb/ (its module has it in a folder that only itself may
# import).
set -eu
cd "$(dirname "$0")"
suite=$(go list -m -f '{{.Dir}}' connectrpc.com/conformance)
rm -rf pb
go tool -modfile=../../tools/go.mod buf generate "$suite/proto" --template '{"version":"v2",
"managed":{"enabled":true,"override":[{"file_option":"go_package_prefix","value":"github.com/latchkey-auth/latchkey/world/conformance/pb"}]},
"plugins":[{"local":["go","tool","-modfile=../../go.mod","protoc-gen-go"],"out":"pb","opt":"paths=source_relative"},
{"local":["go","tool","-modfile=../../go.mod","protoc-gen-go-grpc"],"out":"pb","opt":"paths=source_relative"}]}'
