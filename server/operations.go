package server

import (
	"net/http"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/latchkey-auth/latchkey/internal/overhttp"
)

// adminService is the service of the page for operators.
const adminService = "latchkey.v1.AdminService"

// MountOperators serves AdminService on the mux of the operations listener: only methods without side effects, unless
// changes is true.
func (s *Server) MountOperators(mux *http.ServeMux, changes bool) {
	s.services.Mount(mux, overhttp.Config{
		Unary: s.aroundUnary, Stream: s.aroundStream, MaxMessage: maxMessage,
		Around: func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "no-store")
				w.Header().Set("X-Content-Type-Options", "nosniff")
				next.ServeHTTP(w, r)
			})
		},
		Serves: func(service, method string) bool {
			return service == adminService && (changes || onlyReads(protoreflect.FullName(service+"."+method)))
		},
	})
}

// onlyReads reports whether the contract says of a method that it has no side effects.
func onlyReads(method protoreflect.FullName) bool {
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(method)
	if err != nil {
		return false
	}
	options, ok := found.Options().(*descriptorpb.MethodOptions)
	return ok && options.GetIdempotencyLevel() == descriptorpb.MethodOptions_NO_SIDE_EFFECTS
}

// IsOperator reports whether a request shows the key of an operator, as the calls of AdminService do.
func (s *Server) IsOperator(r *http.Request) bool {
	return knownKey(credentialIn(r.Header.Values("Authorization")), s.cfg.Keys.Admin)
}
