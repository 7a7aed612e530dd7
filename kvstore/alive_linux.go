package kvstore

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// bootID is a number that the kernel draws when it starts; empty: it does not say.
var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
})

// aliveMark tells the file at path, as it is now, from every other one and every other time. It always has the same
// length. nil: this kernel cannot tell mounts apart for good (Linux before 6.8), or the file is not there.
func aliveMark(path string) []byte {
	const wants = unix.STATX_INO | unix.STATX_SIZE | unix.STATX_CTIME | unix.STATX_MNT_ID_UNIQUE
	var st unix.Statx_t
	if bootID() == "" || unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_SYNC_AS_STAT, wants, &st) != nil || st.Mask&wants != wants {
		return nil
	}
	return fmt.Appendf(nil, "raft3d-alive 1 boot=%.64s mount=%016x device=%08x:%08x inode=%016x size=%016x changed=%016x.%08x\n",
		bootID(), st.Mnt_id, st.Dev_major, st.Dev_minor, st.Ino, st.Size, uint64(st.Ctime.Sec), st.Ctime.Nsec)
}
