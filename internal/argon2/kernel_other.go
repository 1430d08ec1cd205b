//go:build !amd64 || !gc || purego

package argon2

// kernels returns none: there is assembly for amd64 only.
func kernels() []kernel { return nil }
