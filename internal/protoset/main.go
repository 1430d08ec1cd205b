// Command protoset is a plugin of buf (and protoc) that writes latchkey.binpb. That is one
// google.protobuf.FileDescriptorSet with every service and message of the contract, their imports and comments, the
// health service, and google/rpc/status.proto and google/rpc/error_details.proto, with which refusals are decoded.
//
// It is for clients that cannot read the proto files. protoc before version 22, as in Debian 12 and Ubuntu 24.04,
// refuses the field option debug_redact in a proto file, but accepts it in a descriptor as an unknown option.
package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

const name = "latchkey.binpb"

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "protoset:", err)
		os.Exit(1)
	}
}

func run(stdin io.Reader, stdout io.Writer) error {
	raw, err := io.ReadAll(stdin)
	if err != nil {
		return err
	}
	request := &pluginpb.CodeGeneratorRequest{}
	if err := proto.Unmarshal(raw, request); err != nil {
		return err
	}
	set := descriptors(request.GetProtoFile(), spb.File_google_rpc_status_proto, errdetails.File_google_rpc_error_details_proto, healthpb.File_grpc_health_v1_health_proto)
	content, err := proto.MarshalOptions{Deterministic: true}.Marshal(set)
	if err != nil {
		return err
	}
	features := uint64(pluginpb.CodeGeneratorResponse_FEATURE_PROTO3_OPTIONAL)
	answer, err := proto.Marshal(&pluginpb.CodeGeneratorResponse{
		SupportedFeatures: &features,
		File:              []*pluginpb.CodeGeneratorResponse_File{{Name: new(name), Content: new(string(content))}},
	})
	if err != nil {
		return err
	}
	_, err = stdout.Write(answer)
	return err
}

// descriptors returns a set of files, each after its imports.
func descriptors(files []*descriptorpb.FileDescriptorProto, more ...protoreflect.FileDescriptor) *descriptorpb.FileDescriptorSet {
	set := &descriptorpb.FileDescriptorSet{}
	have := map[string]bool{}
	for _, file := range files {
		if strings.HasPrefix(file.GetName(), "google/") || strings.HasPrefix(file.GetName(), "buf/") {
			file.SourceCodeInfo = nil // half of the size, and not our comments
		}
		set.File = append(set.File, file)
		have[file.GetName()] = true
	}
	var add func(protoreflect.FileDescriptor)
	add = func(file protoreflect.FileDescriptor) {
		if have[file.Path()] {
			return
		}
		have[file.Path()] = true
		imports := file.Imports()
		for i := range imports.Len() {
			add(imports.Get(i).FileDescriptor)
		}
		set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
	}
	for _, file := range more {
		add(file)
	}
	return set
}
