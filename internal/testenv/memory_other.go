//go:build !linux

package testenv

// memoryDir returns "": only Linux always has a place for files in memory.
func memoryDir() string { return "" }
