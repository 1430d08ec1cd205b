//go:build race

package main

// raceDetector is true if the race detector is on, which takes several times the memory of the program.
const raceDetector = true
