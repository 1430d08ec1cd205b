// Package world checks Latchkey against software that others wrote: their clients, verifiers, proxies, stores and mail
// servers, in pinned versions that the tests install by themselves (npm, Debian, Go modules). Its tests have the build
// tag "world" and run as `task test:world`; each one records package, version and case, and the run ends with that list.
package world
