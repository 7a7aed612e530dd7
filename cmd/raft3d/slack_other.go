//go:build !linux

package main

// coarseTimers does nothing here: only Linux lets a process say how late its sleeps may end.
func coarseTimers() error { return nil }
