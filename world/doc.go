// Package world checks Latchkey with software that others wrote: clients, verifiers, proxies, stores and mail servers,
// in pinned versions that the tests install by themselves (npm, Debian, Go modules). Its tests have the build tag
// "world" and run with `task test:world`. Each one records package, version and case, and the run prints that list at
// its end.
package world
