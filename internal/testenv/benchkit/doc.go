// Package benchkit has the parts that programs which measure Latchkey share: a released binary as a child process, a
// closed loop of calls, readings of /proc, and tables.
package benchkit
