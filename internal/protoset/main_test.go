package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"

	authpb "github.com/latchkey-auth/latchkey/gen/pb/auth"
	latchkeyv1 "github.com/latchkey-auth/latchkey/gen/pb/latchkey/v1"
)

// linked returns the files of the contract with which this program was built.
func linked() []protoreflect.FileDescriptor {
	return []protoreflect.FileDescriptor{
		authpb.File_auth_auth_proto, latchkeyv1.File_latchkey_v1_auth_service_proto, latchkeyv1.File_latchkey_v1_admin_service_proto,
		latchkeyv1.File_latchkey_v1_revocation_service_proto, latchkeyv1.File_latchkey_v1_session_service_proto,
	}
}

// The file that clients download matches the code, is complete, and has the messages that errors are decoded with.
func TestCommittedSet(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../gen/descriptors/" + name)
	if err != nil {
		t.Fatal(err)
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal(raw, set); err != nil {
		t.Fatal(err)
	}
	files, err := protodesc.NewFiles(set) // every import is there
	if err != nil {
		t.Fatal(err)
	}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if !strings.HasPrefix(file.Path(), "latchkey/") && !strings.HasPrefix(file.Path(), "auth/") {
			return true
		}
		found, err := files.FindFileByPath(file.Path())
		if err != nil {
			t.Error(err)
			return true
		}
		committed := protodesc.ToFileDescriptorProto(found)
		committed.SourceCodeInfo = nil // the comments, which programs do not have
		if !proto.Equal(protodesc.ToFileDescriptorProto(file), committed) {
			t.Errorf("%s is another one in gen/descriptors/%s: run task generate", file.Path(), name)
		}
		if file.Services().Len() > 0 && found.SourceLocations().ByDescriptor(found.Services().Get(0)).LeadingComments == "" {
			t.Errorf("%s has no comments", file.Path())
		}
		return true
	})
	for _, want := range []protoreflect.FullName{"google.rpc.Status", "google.rpc.ErrorInfo", "google.rpc.RetryInfo", "grpc.health.v1.Health", "latchkey.v1.policy"} {
		if _, err := files.FindDescriptorByName(want); err != nil {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// Readers of a set expect each file after its imports, and each file once.
func TestEachImportComesFirst(t *testing.T) {
	t.Parallel()
	request := &pluginpb.CodeGeneratorRequest{}
	have := map[string]bool{}
	var add func(file protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if have[file.Path()] {
			return
		}
		have[file.Path()] = true
		for i := range file.Imports().Len() {
			add(file.Imports().Get(i).FileDescriptor)
		}
		request.ProtoFile = append(request.ProtoFile, protodesc.ToFileDescriptorProto(file))
	}
	for _, file := range linked() {
		add(file)
	}
	raw, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(bytes.NewReader(raw), &out); err != nil {
		t.Fatal(err)
	}
	answer := &pluginpb.CodeGeneratorResponse{}
	if err := proto.Unmarshal(out.Bytes(), answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.GetFile()) != 1 || answer.GetFile()[0].GetName() != name {
		t.Fatalf("wrote %d files", len(answer.GetFile()))
	}
	set := &descriptorpb.FileDescriptorSet{}
	if err := proto.Unmarshal([]byte(answer.GetFile()[0].GetContent()), set); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, file := range set.GetFile() {
		if seen[file.GetName()] {
			t.Errorf("%s is there twice", file.GetName())
		}
		for _, imported := range file.GetDependency() {
			if !seen[imported] {
				t.Errorf("%s comes before %s, which it imports", file.GetName(), imported)
			}
		}
		seen[file.GetName()] = true
	}
	if err := run(strings.NewReader("\xff"), &out); err == nil {
		t.Error("took what is no request")
	}
}
