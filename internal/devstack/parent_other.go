//go:build !linux

package devstack

// DieWithParent makes this process receive SIGTERM when its parent dies, if the parent is the go tool. Only
// Linux can do that; here it does nothing.
func DieWithParent() error { return nil }
