package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/latchkey-auth/latchkey/internal/config"
	"github.com/latchkey-auth/latchkey/internal/hosts"
)

// adminTarget is the service that an operator calls, and how this program verifies it: nobody else may get the key.
type adminTarget struct {
	addr, ca, serverName string
	plaintext            bool
}

func (t *adminTarget) flags(flags *flag.FlagSet) {
	flags.StringVar(&t.addr, "addr", "", "call the service at `HOST:PORT`")
	flags.StringVar(&t.ca, "ca", "", "verify the service with the authorities in a PEM `FILE`")
	flags.StringVar(&t.serverName, "server-name", "", "the `NAME` that the service's certificate must have")
	flags.BoolVar(&t.plaintext, "plaintext", false, "call without TLS: the key is sent without encryption")
}

func (t *adminTarget) check() error {
	if t.plaintext && (t.ca != "" || t.serverName != "") {
		return &usageError{"--plaintext verifies nobody: it cannot be combined with --ca or --server-name"}
	}
	if t.addr == "" {
		return nil
	}
	if _, port, err := net.SplitHostPort(t.addr); err != nil || port == "" {
		return &usageError{"--addr must be host:port"}
	}
	return nil
}

// dial does not connect. The first call does, and sends the key only after it has verified the peer.
func (t *adminTarget) dial(cfg *config.Config) (*grpc.ClientConn, error) {
	addr := t.addr
	if addr == "" {
		addr = cfg.GRPCAddr
	}
	addr = localAddr(addr)
	verify, err := t.tls(cfg, addr)
	if err != nil {
		return nil, err
	}
	transport := insecure.NewCredentials()
	if verify != nil {
		transport = credentials.NewTLS(verify)
	}
	return grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(transport),
		grpc.WithPerRPCCredentials(bearerKey{cfg.AdminKey, verify != nil}))
}

// tls returns how to verify the peer. Nil means plaintext: only to this machine, or with --plaintext.
func (t *adminTarget) tls(cfg *config.Config, addr string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	verify := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.serverName}
	switch {
	case t.plaintext:
		return nil, nil //nolint:nilnil // no TLS is an answer, not an error
	case t.ca != "":
		roots, err := readCertificates(t.ca)
		if err != nil {
			return nil, &usageError{fmt.Sprintf("--ca %s cannot be used: %v", t.ca, err)}
		}
		verify.RootCAs = x509.NewCertPool()
		for _, root := range roots {
			verify.RootCAs.AddCert(root)
		}
	case hosts.IsLoopback(host) && cfg.TLSCertFile != "":
		if err := pin(verify, cfg.TLSCertFile, host); err != nil {
			return nil, err
		}
	case hosts.IsLoopback(host) && t.serverName == "":
		return nil, nil //nolint:nilnil // see above
	}
	return verify, nil
}

// pin trusts the service's own certificate and no other: a program that has taken the port on this machine
// does not have its private key. The certificate is for the public host, not for the loopback address, so pin
// expects a name that is in the certificate.
func pin(verify *tls.Config, certFile, host string) error {
	chain, err := readCertificates(certFile)
	if err != nil {
		return config.Reject("LATCHKEY_TLS_CERT_FILE", "cannot be used ("+err.Error()+")")
	}
	own := chain[0]
	verify.RootCAs = x509.NewCertPool()
	verify.RootCAs.AddCert(own)
	switch {
	case verify.ServerName != "" || own.VerifyHostname(host) == nil:
	case len(own.DNSNames) > 0:
		verify.ServerName = strings.Replace(own.DNSNames[0], "*", "any", 1)
	case len(own.IPAddresses) > 0:
		verify.ServerName = own.IPAddresses[0].String()
	default:
		return config.Reject("LATCHKEY_TLS_CERT_FILE", "names no host")
	}
	return nil
}

// readCertificates reads the certificates of a PEM file. A file without any is an error.
func readCertificates(path string) (list []*x509.Certificate, err error) {
	rest, err := os.ReadFile(path) //nolint:gosec // G304: the operator names the file
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		one, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	if len(list) == 0 {
		return nil, errors.New("there is no certificate in it")
	}
	return list, nil
}

// bearerKey sends the key with each call. If secure is set, gRPC itself refuses to send it over a connection
// without TLS.
type bearerKey struct {
	key    config.Key
	secure bool
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (b bearerKey) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b.key)}, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (b bearerKey) RequireTransportSecurity() bool { return b.secure }

// call makes one call. It turns an error into a line for people: code, reason, message, and the trace id with
// which operators find the call in the log.
func call[Req, Resp any](ctx context.Context, method func(context.Context, Req, ...grpc.CallOption) (Resp, error), req Req) (Resp, error) {
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	resp, err := method(ctx, req)
	if err == nil {
		return resp, nil
	}
	st := status.Convert(err)
	var reason, trace string
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *errdetails.ErrorInfo:
			reason = " " + d.GetReason()
		case *errdetails.RequestInfo:
			trace = " (trace id " + d.GetRequestId() + ")"
		}
	}
	name := code.Code(st.Code()).String() //nolint:gosec // G115: 17 codes
	return resp, fmt.Errorf("%s%s: %s%s", name, printable(reason), printable(st.Message()), printable(trace))
}
