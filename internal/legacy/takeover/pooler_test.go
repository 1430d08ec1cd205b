package takeover_test

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/latchkey-auth/latchkey/internal/legacy/takeover"
	"github.com/latchkey-auth/latchkey/internal/testenv"
)

// TestPooler: a pooler that passes everything on but reports a process id of its own, as pgbouncer does.
func TestPooler(t *testing.T) {
	t.Parallel()
	cfg, err := pgx.ParseConfig(testenv.Existing(t).DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	network, address := pgNetwork(cfg)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go pool(t, listener, network, address)
	port := listener.Addr().(*net.TCPAddr).Port //nolint:forcetypeassert // it listens on TCP
	cfg.Host, cfg.Port = "127.0.0.1", uint16(port)
	cfg.Fallbacks = nil
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // it was only read from
	report := check(t, conn, nil, takeover.Keys{})
	if !slices.ContainsFunc(report.Problems, func(f takeover.Finding) bool { return f.Code == "pooler" }) || len(report.Problems) != 1 {
		t.Errorf("%+v", report.Problems)
	}
}

func pgNetwork(cfg *pgx.ConnConfig) (network, address string) {
	if cfg.Host[0] == '/' {
		return "unix", cfg.Host + "/.s.PGSQL." + strconv.Itoa(int(cfg.Port))
	}
	return "tcp", net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port)))
}

// pool passes one connection on and changes the id in BackendKeyData: 'K', a length of 12, the process id, a secret.
func pool(t *testing.T, listener net.Listener, network, address string) {
	t.Helper()
	client, err := listener.Accept()
	if err != nil {
		return
	}
	server, err := (&net.Dialer{}).DialContext(t.Context(), network, address)
	if err != nil {
		_ = client.Close()
		return
	}
	go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
	buffer := make([]byte, 1<<16)
	for changed := false; ; {
		n, err := server.Read(buffer)
		if at := bytes.Index(buffer[:n], []byte{'K', 0, 0, 0, 12}); !changed && at >= 0 {
			buffer[at+8] ^= 1
			changed = true
		}
		if _, failed := client.Write(buffer[:n]); err != nil || failed != nil {
			_ = client.Close()
			return
		}
	}
}
