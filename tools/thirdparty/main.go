// Command thirdparty writes the proto sources of our dependencies. It regenerates them from the descriptors that their
// official Go packages embed. So buf lints and generates without a schema registry, and the rules always match the
// runtime that go.mod pins. Usage, from tools/: go run ./thirdparty ../third_party/proto
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/bufbuild/protocompile"
	"github.com/jhump/protoreflect/v2/protoprint"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// source is one file to write, with the copyright that its licence requires us to keep.
type source struct {
	file      protoreflect.FileDescriptor
	copyright string
}

// notice follows the copyright. All sources have the same licence.
const notice = `//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
//      http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.
//
// Regenerated from the descriptor in the official Go package by tools/thirdparty: the definitions are
// unchanged, the comments, which a compiled descriptor does not carry, are left out.
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "thirdparty:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: thirdparty DIRECTORY, got %d arguments", len(args))
	}
	sources := []source{
		{validate.File_buf_validate_validate_proto, "Copyright 2023-2026 Buf Technologies, Inc."},
		// Our errors have these messages as details: clients decode them with this file.
		{spb.File_google_rpc_status_proto, "Copyright 2026 Google LLC"},
		{errdetails.File_google_rpc_error_details_proto, "Copyright 2026 Google LLC"},
	}
	root, err := os.OpenRoot(args[0])
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // a directory that was only opened has nothing to lose
	for _, s := range sources {
		if err := write(root, s); err != nil {
			return fmt.Errorf("writing %s: %w", s.file.Path(), err)
		}
	}
	return nil
}

func write(root *os.Root, s source) error {
	printer := protoprint.Printer{}
	text, err := printer.PrintProtoToString(s.file)
	if err != nil {
		return err
	}
	if text, err = flattenRules(text); err != nil {
		return err
	}
	if err := same(s.file, text); err != nil {
		return err
	}
	// The paths of proto files use slashes on every system, and os.Root accepts slashes.
	if err := root.MkdirAll(path.Dir(s.file.Path()), 0o755); err != nil {
		return err
	}
	return root.WriteFile(s.file.Path(), []byte("// "+s.copyright+"\n"+notice+"\n"+text), 0o644)
}

// same returns an error if the text does not define the same as the file.
func same(file protoreflect.FileDescriptor, text string) error {
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{
		Accessor: protocompile.SourceAccessorFromMap(map[string]string{file.Path(): text}),
	})}
	compiled, err := compiler.Compile(context.Background(), file.Path())
	if err != nil {
		return err
	}
	want, err := plain(file)
	if err != nil {
		return err
	}
	got, err := plain(compiled[0])
	if err != nil {
		return err
	}
	if !proto.Equal(want, got) {
		return errors.New("what was printed defines something else")
	}
	return nil
}

// plain returns the definition of a file with its options as this program knows them.
func plain(file protoreflect.FileDescriptor) (*descriptorpb.FileDescriptorProto, error) {
	raw, err := proto.Marshal(protodesc.ToFileDescriptorProto(file))
	if err != nil {
		return nil, err
	}
	definition := &descriptorpb.FileDescriptorProto{}
	return definition, proto.Unmarshal(raw, definition)
}
