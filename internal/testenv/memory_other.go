//go:build !linux

package testenv

// memoryDir is "": only Linux has a place for files in memory that is always there.
func memoryDir() string { return "" }
