// Package panics turns panics into errors, so that a fault in one call does not end the process.
package panics

import (
	"fmt"
	"runtime/debug"
)

// Error is a panic that was caught. Its text has the stack, so it is for the log only.
type Error struct {
	value any
	stack []byte
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// Catch sets err to an *Error if the function that defers it panics: `defer panics.Catch(&err)`.
func Catch(err *error) {
	if value := recover(); value != nil {
		*err = &Error{value, debug.Stack()}
	}
}

// Run runs work and returns its panic as an error, or nil.
func Run(work func()) (err error) {
	defer Catch(&err)
	work()
	return nil
}
