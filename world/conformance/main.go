// Command conformance is the server under test of Connect's conformance suite: the suite's service behind
// internal/overhttp, as the HTTP listener of Latchkey has its services. The suite starts it once for each kind of
// server, tells what it needs on stdin, and learns the port from stdout.
package main

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/latchkey-auth/latchkey/internal/overhttp"
	pb "github.com/latchkey-auth/latchkey/world/conformance/pb/connectrpc/conformance/v1"
)

func main() {
	if err := run(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "conformance:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, out io.Writer) error {
	asked := &pb.ServerCompatRequest{}
	if err := read(in, asked); err != nil {
		return fmt.Errorf("read what the suite needs: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it ends with the process
	if err != nil {
		return err
	}
	services := &overhttp.Services{ServiceRegistrar: grpc.NewServer()}
	pb.RegisterConformanceServiceServer(services, service{})
	mux := http.NewServeMux()
	limit := int(asked.GetMessageReceiveLimit())
	if limit == 0 {
		limit = 4 << 20
	}
	services.Mount(mux, overhttp.Config{
		Unary: func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			return handler(ctx, req)
		},
		Stream: func(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, stream)
		},
		MaxMessage: limit, Around: func(next http.Handler) http.Handler { return next },
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	port := l.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it listens on TCP
	if err := write(out, &pb.ServerCompatResponse{Host: "127.0.0.1", Port: uint32(port)}); err != nil {
		return err
	}
	return server.Serve(l)
}

// read and write have a message after its length, in four bytes, big-endian.
func read(in io.Reader, m proto.Message) error {
	var length [4]byte
	if _, err := io.ReadFull(in, length[:]); err != nil {
		return err
	}
	text := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(in, text); err != nil {
		return err
	}
	return proto.Unmarshal(text, m)
}

func write(out io.Writer, m proto.Message) error {
	text, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	_, err = out.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...))
	return err
}

// service answers as each request says.
type service struct {
	pb.UnimplementedConformanceServiceServer
}

// Unary implements the suite's service.
func (service) Unary(ctx context.Context, req *pb.UnaryRequest) (*pb.UnaryResponse, error) {
	payload, err := answer(ctx, req, req.GetResponseDefinition())
	return &pb.UnaryResponse{Payload: payload}, err
}

// IdempotentUnary implements the suite's service.
func (service) IdempotentUnary(ctx context.Context, req *pb.IdempotentUnaryRequest) (*pb.IdempotentUnaryResponse, error) {
	payload, err := answer(ctx, req, req.GetResponseDefinition())
	return &pb.IdempotentUnaryResponse{Payload: payload}, err
}

func answer(ctx context.Context, req proto.Message, want *pb.UnaryResponseDefinition) (*pb.ConformancePayload, error) {
	seen, err := seenBy(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := grpc.SetHeader(ctx, metadataOf(want.GetResponseHeaders())); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, metadataOf(want.GetResponseTrailers())); err != nil {
		return nil, err
	}
	if err := pause(ctx, want.GetResponseDelayMs()); err != nil {
		return nil, err
	}
	if want.GetError() != nil {
		return nil, failure(want.GetError(), seen)
	}
	return &pb.ConformancePayload{Data: want.GetResponseData(), RequestInfo: seen}, nil
}

// ServerStream implements the suite's service.
func (service) ServerStream(req *pb.ServerStreamRequest, stream grpc.ServerStreamingServer[pb.ServerStreamResponse]) error {
	want := req.GetResponseDefinition()
	seen, err := seenBy(stream.Context(), req)
	if err != nil {
		return err
	}
	if err := stream.SetHeader(metadataOf(want.GetResponseHeaders())); err != nil {
		return err
	}
	stream.SetTrailer(metadataOf(want.GetResponseTrailers()))
	for _, data := range want.GetResponseData() {
		if err := pause(stream.Context(), want.GetResponseDelayMs()); err != nil {
			return err
		}
		if err := stream.Send(&pb.ServerStreamResponse{Payload: &pb.ConformancePayload{Data: data, RequestInfo: seen}}); err != nil {
			return err
		}
		seen = nil // the first message alone has it
	}
	if want.GetError() != nil {
		return failure(want.GetError(), seen)
	}
	return nil
}

func pause(ctx context.Context, millis uint32) error {
	select {
	case <-time.After(time.Duration(millis) * time.Millisecond):
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// seenBy returns what the server has seen of a call, which the suite compares with what it has sent.
func seenBy(ctx context.Context, req proto.Message) (*pb.ConformancePayload_RequestInfo, error) {
	packed, err := anypb.New(req)
	if err != nil {
		return nil, err
	}
	seen := &pb.ConformancePayload_RequestInfo{Requests: []*anypb.Any{packed}}
	if deadline, ok := ctx.Deadline(); ok {
		seen.TimeoutMs = proto.Int64(time.Until(deadline).Milliseconds())
	}
	sent, _ := metadata.FromIncomingContext(ctx)
	for name, values := range sent {
		if strings.HasSuffix(name, "-bin") {
			for i := range values {
				values[i] = base64.RawStdEncoding.EncodeToString([]byte(values[i]))
			}
		}
		seen.RequestHeaders = append(seen.RequestHeaders, &pb.Header{Name: name, Value: values})
	}
	return seen, nil
}

// metadataOf returns headers in gRPC's form.
func metadataOf(headers []*pb.Header) metadata.MD {
	all := metadata.MD{}
	for _, h := range headers {
		for _, value := range h.GetValue() {
			if strings.HasSuffix(strings.ToLower(h.GetName()), "-bin") {
				if raw, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "=")); err == nil {
					value = string(raw)
				}
			}
			all.Append(h.GetName(), value)
		}
	}
	return all
}

// failure returns the error that a request asks for, with what was seen of the call unless a message had it.
func failure(want *pb.Error, seen *pb.ConformancePayload_RequestInfo) error {
	st := &spb.Status{Code: int32(want.GetCode()), Message: want.GetMessage(), Details: want.GetDetails()}
	if seen != nil {
		packed, err := anypb.New(seen)
		if err != nil {
			return err
		}
		st.Details = append(st.Details, packed)
	}
	return status.ErrorProto(st)
}
