package server_test

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/latchkey-auth/latchkey/internal/testenv"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	client := grpc_health_v1.NewHealthClient(s.Conn)
	for _, service := range []string{"", "latchkey.v1.AuthService", "latchkey.v1.AdminService", "latchkey.v1.SessionService", "latchkey.v1.AccountService"} {
		answer, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: service})
		if err != nil || answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
			t.Errorf("%q: %v, %v", service, answer, err)
		}
	}
	if _, err := client.Check(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "no.such"}); status.Code(err) != codes.NotFound {
		t.Errorf("unknown service: %v", err)
	}
	if code, body := get(t, s.HTTP+"/readyz"); code != 200 || body != `{"ready":true,"stopping":false,"postgres":"ok","redis":"ok"}`+"\n" {
		t.Errorf("readyz: %d %s", code, body)
	}
}

// Watchers of health get NOT_SERVING while calls are still accepted. Running calls are finished, new ones are not
// accepted.
func TestShutdown(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	tokens := account(t, s)
	watch, err := grpc_health_v1.NewHealthClient(s.Conn).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{Service: "latchkey.v1.AuthService"})
	if err != nil {
		t.Fatal(err)
	}
	if answer, err := watch.Recv(); err != nil || answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		t.Fatalf("%v, %v", answer, err)
	}
	// A logout that waits for the head row's lock.
	tx, err := s.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "SELECT seq FROM ledger_head FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	underWay := make(chan error, 1)
	go func() { underWay <- tryLogout(t.Context(), s, tokens.GetRefreshToken()) }()
	testenv.Eventually(t, patience, "the logout waits", func() bool {
		return count(t, s, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") > 0
	})
	stopped := make(chan struct{})
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		s.Server.Shutdown(ctx, 2*time.Second, nil)
		close(stopped)
	}()
	if answer, err := watch.Recv(); err != nil || answer.GetStatus() != grpc_health_v1.HealthCheckResponse_NOT_SERVING {
		t.Fatalf("%v, %v", answer, err)
	}
	wantValid(t, s, tokens.GetAccessToken(), 0) // load balancers need a moment to notice
	if code, _ := get(t, s.HTTP+"/readyz"); code != 503 {
		t.Errorf("readyz: %d", code)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-underWay; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	// A watch that its client keeps open does not use up the time to drain.
	select {
	case <-stopped:
	case <-time.After(patience / 2):
		t.Fatal("the stop waits for the watch")
	}
	_, err = watch.Recv()
	wantRefused(t, err, codes.Unavailable, "STREAM_ENDED")
	after := testenv.Dial(t, s.Addr)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := grpc_health_v1.NewHealthClient(after).Check(ctx, &grpc_health_v1.HealthCheckRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("after the stop: %v", err)
	}
}

func TestReflection(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t, testenv.Options{})
	stream, err := reflectionpb.NewServerReflectionClient(s.Conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	err = stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, service := range answer.GetListServicesResponse().GetService() {
		names[service.GetName()] = true
	}
	for _, want := range []string{"latchkey.v1.AuthService", "latchkey.v1.AdminService", "grpc.health.v1.Health"} {
		if !names[want] {
			t.Errorf("%s is not listed: %v", want, names)
		}
	}
}
