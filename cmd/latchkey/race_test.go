//go:build race

package main

// raceDetector takes several times the memory of what it watches.
const raceDetector = true
