#!/usr/bin/env bash
# Go module github.com/sudorandom/protoc-gen-connect-openapi 0.25.7 with its option with-google-error-detail: the schema of
# a decoded detail of a Connect error is a oneOf whose first choice is an object with any members, and whose others are
# google.rpc's messages. A real google.rpc.ErrorInfo matches two choices, so a validator (jsonschema/v6 6.0.2, draft
# 2020-12, as OpenAPI 3.1 says) refuses every error that carries a detail. The schema of a message with a oneof puts
# additionalProperties: false beside allOf, which sees none of the members that allOf has: it refuses every such message.
#
# What helps: anyOf in the place of that oneOf, and no additionalProperties (or unevaluatedProperties: false).
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
go mod init finding >/dev/null 2>&1
go get github.com/sudorandom/protoc-gen-connect-openapi@v0.25.7 github.com/santhosh-tekuri/jsonschema/v6@v6.0.2 \
  github.com/bufbuild/protocompile@v0.14.1 >/dev/null 2>&1
cat > main.go <<'G'
package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/sudorandom/protoc-gen-connect-openapi/converter"
	"google.golang.org/protobuf/reflect/protoregistry"
)

const schema = `syntax = "proto3"; package finding;
service Doors { rpc Open(OpenRequest) returns (OpenResponse); }
message OpenRequest {}
message OpenResponse { oneof result { string key = 1; string question = 2; } string name = 3; }`

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	compiler := protocompile.Compiler{Resolver: &protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{"doors.proto": schema})}}
	compiled, err := compiler.Compile(context.Background(), "doors.proto")
	must(err)
	files := &protoregistry.Files{}
	must(files.RegisterFile(compiled[0]))
	document, err := converter.GenerateSingle(converter.WithFiles(files), converter.WithFormat("json"), converter.WithGoogleErrorDetail(true))
	must(err)
	raw, err := jsonschema.UnmarshalJSON(bytes.NewReader(document))
	must(err)
	schemas := jsonschema.NewCompiler()
	must(schemas.AddResource("doors.json", raw))
	for _, test := range []struct{ schema, instance string }{
		{"connect.error", `{"code":"not_found","message":"no such door"}`},
		{"connect.error", `{"code":"not_found","message":"no such door","details":[{"type":"google.rpc.ErrorInfo","value":"CgdOT19ET09S","debug":{"reason":"NO_DOOR"}}]}`},
		{"finding.OpenRequest", `{}`},
		{"finding.OpenResponse", `{"key":"k"}`},
	} {
		one, err := schemas.Compile("doors.json#/components/schemas/" + test.schema)
		must(err)
		instance, err := jsonschema.UnmarshalJSON(strings.NewReader(test.instance))
		must(err)
		if err := one.Validate(instance); err != nil {
			text := strings.Split(err.Error(), "\n")
			fmt.Printf("%s refuses %s\n", test.schema, strings.TrimSpace(text[len(text)-1]))
			continue
		}
		fmt.Printf("%s accepts\n", test.schema)
	}
}
G
go mod tidy >/dev/null 2>&1
seen=$(go run .)
echo "$seen"
expected="connect.error accepts
connect.error refuses - at '/details/0/debug': 'oneOf' failed, subschemas 0, 1 matched
finding.OpenRequest accepts
finding.OpenResponse refuses - at '': additional properties 'key' not allowed"
[ "$seen" = "$expected" ] || { echo "changed: expected" >&2; echo "$expected" >&2; exit 1; }
