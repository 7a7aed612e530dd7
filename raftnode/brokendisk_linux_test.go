package raftnode

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// The devices that stand in for a disk: the kernel refuses to write to the one, and to sync the other.
const (
	fullDisk    = "/dev/full"
	badSyncDisk = "/dev/null"
)

// breakFiles puts a device in the place of all open files of this process in dir whose names end so, and reports
// whether there was one.
func breakFiles(dir, suffix, device string) (broken bool, err error) {
	d, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer d.Close()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		return false, err
	}
	for _, link := range links {
		name, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(name, dir+string(filepath.Separator)) || !strings.HasSuffix(name, suffix) {
			continue // not ours, or closed meanwhile
		}
		fd, err := strconv.Atoi(filepath.Base(link))
		if err != nil {
			return false, err
		}
		if err := syscall.Dup3(int(d.Fd()), fd, syscall.O_CLOEXEC); err != nil {
			return false, err
		}
		broken = true
	}
	return broken, nil
}
