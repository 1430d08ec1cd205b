package server

import "testing"

// `latchkey dev` lets the pages of this machine call, and no page whose name only looks like it.
func TestLocalOrigins(t *testing.T) {
	t.Parallel()
	for origin, want := range map[string]bool{
		"http://localhost:5173": true, "https://localhost": true, "http://127.0.0.1:3000": true, "http://[::1]:3000": true, "http://app.localhost:8080": true,
		"http://localhost.evil.example": false, "http://127.0.0.1.evil.example": false, "http://evil.example#localhost": false,
		"http://localhost@evil.example": false, "capacitor://localhost": false, "null": false, "": false, "http://192.168.1.7:3000": false,
	} {
		if got := isLocal(origin); got != want {
			t.Errorf("%q: %v", origin, got)
		}
	}
}
