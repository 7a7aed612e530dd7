//go:build unix

package damage

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
)

const sector = 512 // bytes

// harms are the ways to damage a file. Each changes files, and returns false where it would change nothing. at is
// somewhere in the written part of the file, of which much may be space.
var harms = []struct {
	name string
	do   func(rng *rand.Rand, p *past, files map[string][]byte, name string, at int) bool
}{
	{"flip a bit", func(rng *rand.Rand, _ *past, files map[string][]byte, name string, at int) bool {
		if at >= len(files[name]) {
			return false
		}
		b := bytes.Clone(files[name])
		b[at] ^= 1 << rng.IntN(8)
		files[name] = b
		return true
	}},
	{"garble 8 bytes", func(rng *rand.Rand, _ *past, files map[string][]byte, name string, at int) bool {
		b := bytes.Clone(files[name])
		for i := at; i < min(len(b), at+8); i++ {
			b[i] = byte(rng.IntN(256))
		}
		return replace(files, name, b)
	}},
	{"zero a range", func(rng *rand.Rand, _ *past, files map[string][]byte, name string, at int) bool {
		b := bytes.Clone(files[name])
		clear(b[min(at, len(b)):min(len(b), at+1+rng.IntN(600))])
		return replace(files, name, b)
	}},
	{"zero sectors", func(rng *rand.Rand, _ *past, files map[string][]byte, name string, at int) bool {
		b := bytes.Clone(files[name])
		at -= at % sector
		clear(b[min(at, len(b)):min(len(b), at+sector*(1+rng.IntN(4)))])
		return replace(files, name, b)
	}},
	{"zero the rest", func(_ *rand.Rand, _ *past, files map[string][]byte, name string, at int) bool {
		b := bytes.Clone(files[name])
		clear(b[min(at, len(b)):])
		return replace(files, name, b)
	}},
	{"truncate", func(_ *rand.Rand, _ *past, files map[string][]byte, name string, at int) bool {
		return replace(files, name, files[name][:min(at, len(files[name]))])
	}},
	{"extend", func(rng *rand.Rand, _ *past, files map[string][]byte, name string, _ int) bool {
		more := bytes.Repeat([]byte{byte(rng.IntN(256))}, 1+rng.IntN(600))
		return replace(files, name, slices.Concat(files[name], more))
	}},
	{"swap two blocks", func(rng *rand.Rand, _ *past, files map[string][]byte, name string, at int) bool {
		b := bytes.Clone(files[name])
		blocks := (len(bytes.TrimRight(b, "\x00")) + sector - 1) / sector
		if blocks < 2 || len(b) < blocks*sector {
			return false
		}
		one, other := b[at/sector*sector:][:sector], b[rng.IntN(blocks)*sector:][:sector]
		for i := range one {
			one[i], other[i] = other[i], one[i]
		}
		return replace(files, name, b)
	}},
	{"swap two files", func(rng *rand.Rand, _ *past, files map[string][]byte, name string, _ int) bool {
		other := pick(rng, files)
		was := files[name]
		if !replace(files, name, files[other]) {
			return false
		}
		files[other] = was
		return true
	}},
	{"delete", func(_ *rand.Rand, _ *past, files map[string][]byte, name string, _ int) bool {
		delete(files, name)
		return true
	}},
	{"duplicate", func(rng *rand.Rand, _ *past, files map[string][]byte, name string, _ int) bool {
		to := name + []string{".bak", ".tmp", "~"}[rng.IntN(3)]
		var a, b uint64
		if n, _ := fmt.Sscanf(filepath.Base(name), "%016x-%016x", &a, &b); n == 2 && rng.IntN(2) == 0 {
			to = filepath.Join(filepath.Dir(name), fmt.Sprintf("%016x-%016x%s", a+1+uint64(rng.IntN(2)), b+uint64(rng.IntN(2)), filepath.Ext(name)))
		}
		return replace(files, to, files[name])
	}},
	{"older copy", func(rng *rand.Rand, p *past, files map[string][]byte, name string, _ int) bool {
		b, ok := p.older[rng.IntN(len(p.older))][name]
		return ok && replace(files, name, b)
	}},
}

func replace(files map[string][]byte, name string, b []byte) bool {
	if was, ok := files[name]; ok && bytes.Equal(was, b) {
		return false
	}
	files[name] = b
	return true
}

func pick(rng *rand.Rand, files map[string][]byte) string {
	names := slices.Sorted(maps.Keys(files))
	if rng.IntN(2) == 0 { // there is most to lose in the log
		names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, "wal/") })
	}
	return names[rng.IntN(len(names))]
}

// harm damages one file of a copy of the directory, or two, and says which and how.
func harm(rng *rand.Rand, p *past) (files map[string][]byte, name, kind string) {
	for {
		files, name = maps.Clone(p.files), pick(rng, p.files)
		written := max(1, len(bytes.TrimRight(files[name], "\x00")))
		at := rng.IntN(written)
		if rng.IntN(3) == 0 { // at the end, where a crash may do something like it
			at = max(0, written-1-rng.IntN(4*sector))
		}
		h := harms[rng.IntN(len(harms))]
		if h.do(rng, p, files, name, at) {
			return files, name, h.name
		}
	}
}

// place is what kind of file that is.
func (p *past) place(name string) string {
	dir := filepath.Dir(name)
	if dir == "." {
		return name
	}
	newest := true
	for other := range p.files {
		if filepath.Dir(other) == dir && other > name {
			newest = false
		}
	}
	if newest {
		return dir + ", newest"
	}
	return dir + ", older"
}

// says reports whether a message tells an operator where, and what to do.
func says(err error, dir string) bool {
	for _, advice := range []string{"join again", "keep it aside", "run the one that wrote it", "restore a backup"} {
		if strings.Contains(err.Error(), advice) {
			return strings.Contains(err.Error(), dir)
		}
	}
	return false
}
