package raftnode

import (
	"errors"
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

// breakFiles puts a device in the place of all open files of this process in dir whose names end so. mend(true) puts them
// back, mend(false) does not; mend is nil where there was none.
func breakFiles(dir, suffix, device string) (mend func(back bool) error, err error) {
	d, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		return nil, err
	}
	kept := map[int]int{}
	for _, link := range links {
		name, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(name, dir+string(filepath.Separator)) || !strings.HasSuffix(name, suffix) {
			continue // not ours, or closed meanwhile
		}
		fd, err := strconv.Atoi(filepath.Base(link))
		if err != nil {
			return nil, err
		}
		if kept[fd], err = syscall.Dup(fd); err != nil {
			return nil, err
		}
		if err := syscall.Dup3(int(d.Fd()), fd, syscall.O_CLOEXEC); err != nil {
			return nil, err
		}
	}
	if len(kept) == 0 {
		return nil, nil
	}
	return func(back bool) (err error) {
		for fd, was := range kept {
			if back {
				err = errors.Join(err, syscall.Dup3(was, fd, syscall.O_CLOEXEC))
			}
			err = errors.Join(err, syscall.Close(was))
		}
		return err
	}, nil
}
