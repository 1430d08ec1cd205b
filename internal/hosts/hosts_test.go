package hosts

import "testing"

func TestIsLoopback(t *testing.T) {
	t.Parallel()
	for host, want := range map[string][2]bool{ // the results of IsLoopback and IsLoopbackInBrowsers
		"localhost": {true, true}, "LocalHost": {true, true}, "localhost.": {true, true},
		"127.0.0.1": {true, true}, "127.1.2.3": {true, true}, "::1": {true, true}, "::ffff:127.0.0.1": {true, true},
		"app.localhost": {false, true}, "App.Localhost.": {false, true}, "localhost.example.com": {},
		"": {}, ".": {}, "128.0.0.1": {}, "0.0.0.0": {}, "::": {}, "[::1]": {}, "127.0.0.1:80": {}, "127.1": {},
		"2130706433": {}, "0177.0.0.1": {}, "127.0.0.1.example.com": {}, "notlocalhost": {}, "10.0.0.1": {}, "fe80::1": {},
	} {
		if got := [2]bool{IsLoopback(host), IsLoopbackInBrowsers(host)}; got != want {
			t.Errorf("%q: %v, want %v", host, got, want)
		}
	}
}
