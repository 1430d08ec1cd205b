//go:build !linux

package devstack

// runsIn cannot tell here in what directory a process works, so any process counts: refusing a start is safer
// than two servers on the same data.
func runsIn(int, string) bool { return true }
