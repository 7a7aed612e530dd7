package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by a release build: go build -ldflags "-X main.version=v1.2.3".
var version string

// build says which program this is.
type build struct {
	version string // of the release; "devel" where none was built in
	commit  string // of the source; empty where the toolchain did not know it
}

func (b build) String() string {
	s := "raft3d " + b.version
	if b.commit != "" {
		s += " (" + b.commit + ")"
	}
	return fmt.Sprintf("%s %s %s/%s", s, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

func thisBuild() build {
	b := build{version: version}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	dirty := false
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.commit = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			dirty = s.Value == "true"
		}
	}
	if dirty && b.commit != "" {
		b.commit += "+changes"
	}
	if b.version == "" {
		b.version = info.Main.Version
	}
	if b.version == "" || b.version == "(devel)" {
		b.version = "devel"
	}
	return b
}
