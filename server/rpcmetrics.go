package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// allCodes is how many status codes gRPC has: 0 (OK) to 16 (Unauthenticated).
const allCodes = int(codes.Unauthenticated) + 1

// rpcMetrics counts the calls, with the names and labels of the interceptor of go-grpc-middleware, which dashboards
// know. That interceptor looks every counter up by its labels, six times for each call, which took 7% of the processor
// time of a validation. Here each method finds its counters once, when the server starts.
type rpcMetrics struct {
	vectors []prometheus.Collector
	methods map[string]*methodMetrics // by the full name
}

// methodMetrics are the counters of one method.
type methodMetrics struct {
	started, received, sent prometheus.Counter
	handled                 [allCodes]prometheus.Counter
	seconds                 prometheus.Observer
}

// newRPCMetrics makes the counters of all methods, each at zero: a counter that appears with its first error hides that
// error from rate().
func newRPCMetrics(services map[string]grpc.ServiceInfo) *rpcMetrics {
	labels := []string{"grpc_type", "grpc_service", "grpc_method"}
	vector := func(name, help string, more ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, slices.Concat(labels, more))
	}
	started := vector("grpc_server_started_total", "Calls that began.")
	handled := vector("grpc_server_handled_total", "Calls that ended, by their code.", "grpc_code")
	received := vector("grpc_server_msg_received_total", "Messages that clients sent.")
	sent := vector("grpc_server_msg_sent_total", "Messages that were sent to clients.")
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "grpc_server_handling_seconds", Help: "Time until calls ended.",
		// From a validation (tens of microseconds) to a queued hash (seconds).
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 15},
	}, labels)
	all := &rpcMetrics{
		vectors: []prometheus.Collector{started, handled, received, sent, seconds},
		methods: map[string]*methodMetrics{},
	}
	for service, info := range services {
		for _, method := range info.Methods {
			of := []string{kindOf(method), service, method.Name}
			m := &methodMetrics{
				started: started.WithLabelValues(of...), received: received.WithLabelValues(of...),
				sent: sent.WithLabelValues(of...), seconds: seconds.WithLabelValues(of...),
			}
			for code := range m.handled {
				m.handled[code] = handled.WithLabelValues(append(slices.Clip(of), codes.Code(code).String())...)
			}
			all.methods["/"+service+"/"+method.Name] = m
		}
	}
	return all
}

// kindOf returns the value of the label grpc_type.
func kindOf(m grpc.MethodInfo) string {
	switch {
	case m.IsClientStream && m.IsServerStream:
		return "bidi_stream"
	case m.IsClientStream:
		return "client_stream"
	case m.IsServerStream:
		return "server_stream"
	}
	return "unary"
}

// measured counts one call. It returns an error for a method that was not there when the server started.
func (s *Server) measured(ctx context.Context, c *rpc) error {
	m := s.rpcMetrics.methods[c.method]
	if m == nil {
		return fmt.Errorf("no metrics for %s", c.method)
	}
	began := time.Now() //nolint:forbidigo // a duration, which a clock that is set would make wrong
	m.started.Inc()
	if c.stream != nil {
		c.stream = &countedStream{c.stream, m}
	} else {
		m.received.Inc()
	}
	err := c.next(ctx)
	if c.stream == nil {
		m.sent.Inc()
	}
	code := int(status.Code(err))
	if code >= allCodes { // a proxy may make its own codes; a handler of ours does not
		code = int(codes.Unknown)
	}
	m.handled[code].Inc()
	m.seconds.Observe(time.Since(began).Seconds())
	return err
}

// countedStream counts the messages of a stream.
type countedStream struct {
	grpc.ServerStream
	metrics *methodMetrics
}

// SendMsg implements grpc.ServerStream.
func (c *countedStream) SendMsg(m any) error {
	err := c.ServerStream.SendMsg(m)
	if err == nil {
		c.metrics.sent.Inc()
	}
	return err
}

// RecvMsg implements grpc.ServerStream.
func (c *countedStream) RecvMsg(m any) error {
	err := c.ServerStream.RecvMsg(m)
	if err == nil {
		c.metrics.received.Inc()
	}
	return err
}
