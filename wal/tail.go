package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	etcdwal "go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Torn or damaged? The log is written unit by unit, a unit being what one fsync covers: entries and then one hard state
// that carries the unit's number, or one snapshot record. A unit is written only when the one before it is on the disk,
// into space that holds nothing but zeros. So a power cut may leave any of the *last* unit's sectors unwritten, and
// nothing else. Where the records break off, this file asks whether what follows can be that. If so, the unit was never
// answered for, and is cut off. If not, something that was on the disk is gone, and only an operator can decide.
//
// It is damage when
//   - a later unit has begun: then the broken one was synced. The numbers tell, even where a hard state is lost;
//   - the broken record misses no sector: then its bits have changed. The same if its length is wrong;
//   - a record's head is blank, but the rest of its sector is not: sectors are written whole;
//   - something stands farther from the break than a unit can be long.
//
// Not to be told apart from a torn write is a loss of sectors in the last unit of all, nor a loss of all that came after
// some unit. The note of how far the log reached tells (reached.go), where a power cut has not taken it back. Open and Close
// each write a unit, so that after a clean end the one before it is covered as well.

const (
	sectorBytes = 512 // what a disk writes whole; the smallest in use
	headBytes   = 8   // of a record: its length, and the number of bytes that pad it to a multiple of 8

	// maxProbeBytes bounds the records that the search for later units looks at: hard states, a few dozen bytes, and
	// snapshot records, which name each member.
	maxProbeBytes = 4096

	dataField = protowire.Number(3) // of walpb.Record
	maxDataAt = 24                  // more than there can be in front of the data: type, checksum, length
)

// writtenPart reads the space bytes behind offset, without the zeros that they end with.
func writtenPart(f io.ReaderAt, offset, space int64) ([]byte, error) {
	buf := make([]byte, 64<<10)
	length := int64(0)
	for at := int64(0); at < space; at += int64(len(buf)) {
		chunk := buf[:min(int64(len(buf)), space-at)]
		if _, err := f.ReadAt(chunk, offset+at); err != nil {
			return nil, err
		}
		if n := len(bytes.TrimRight(chunk, "\x00")); n > 0 {
			length = at + int64(n)
		}
	}
	out := make([]byte, length)
	if length == 0 {
		return nil, nil
	}
	_, err := f.ReadAt(out, offset)
	return out, err
}

func blank(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// judgeTail judges rest, which follows the last whole record of the log, at offset in the last segment, and is followed
// by nothing but zeros up to space bytes, where the file ends. unit is the last whole unit. It returns why no crash can
// have left this; nil: one can.
func judgeTail(rest []byte, space, offset int64, unit uint64) error {
	written := int64(len(rest))
	if written <= headBytes {
		return nil // nothing, or a part of a head with nothing behind it
	}
	head := binary.LittleEndian.Uint64(rest)
	limit := int64(maxUnitBytes + maxProbeBytes)
	recordEnd := int64(0) // of the broken record, where its head tells
	if head == 0 {
		if !blank(rest[:min(written, sectorBytes-offset%sectorBytes)]) {
			return errors.New("the head of a record is blank, but its sector is not")
		}
	} else {
		size, padding, ok := parseHead(head)
		if !ok {
			return errors.New("the head of a record is malformed")
		}
		recordEnd = headBytes + size + padding
		if !lengthHolds(rest, offset, size) {
			return errors.New("the length of a record is wrong")
		}
		if recordEnd <= space && !missesSector(rest, offset, recordEnd) {
			return errors.New("a record does not match its checksum")
		}
		limit = max(limit, recordEnd+maxProbeBytes)
	}
	if written > limit {
		return fmt.Errorf("byte %d is written, farther from the break than one write reaches", offset+written-1)
	}
	return laterUnit(rest, offset, recordEnd, unit)
}

// lengthHolds checks the size in a record's head, which no checksum covers, against the length of the data inside it,
// where that is there to be seen.
func lengthHolds(rest []byte, offset, size int64) bool {
	seen := rest[headBytes:]
	if end := sectorBytes - offset%sectorBytes; end < int64(len(rest)) && blank(rest[end:min(end+sectorBytes, int64(len(rest)))]) {
		seen = rest[headBytes:end]
	}
	at := 0
	for at < len(seen) {
		number, kind, n := protowire.ConsumeTag(seen[at:])
		if n < 0 {
			break
		}
		at += n
		if kind == protowire.BytesType {
			length, n := protowire.ConsumeVarint(seen[at:])
			if n < 0 {
				break
			}
			return number == dataField && length == uint64(size-int64(at+n)) // it comes last
		}
		if n = protowire.ConsumeFieldValue(number, kind, seen[at:]); n < 0 {
			break
		}
		at += n
	}
	return len(seen) < maxDataAt
}

// missesSector says whether the record at the front of rest, up to end, lacks a sector. The first one is there, since
// the record's head is.
func missesSector(rest []byte, offset, end int64) bool {
	for at := sectorBytes - offset%sectorBytes; at < end; at += sectorBytes {
		if at >= int64(len(rest)) || blank(rest[at:min(at+sectorBytes, end, int64(len(rest)))]) {
			return true
		}
	}
	return false
}

// laterUnit looks behind a break for proof that its unit was synced: a record that was written after it.
func laterUnit(rest []byte, offset, recordEnd int64, unit uint64) error {
	for at := headBytes; at < len(rest); at += headBytes {
		rec, end := probe(rest[at:])
		if rec == nil {
			continue
		}
		where := offset + int64(at)
		if int64(at) < recordEnd {
			return fmt.Errorf("the length of a record is wrong: another one, at byte %d, is within it", where)
		}
		if rec.GetType() == etcdwal.SnapshotType {
			return fmt.Errorf("a snapshot was recorded later, at byte %d", where)
		}
		_, found, _ := decodeHardState(rec.GetData())
		if found != unit+1 {
			return fmt.Errorf("unit %d is broken, but unit %d stands at byte %d", unit+1, found, where)
		}
		if at+end < len(rest) {
			return fmt.Errorf("unit %d is broken, but more was written behind it, after byte %d", found, where)
		}
	}
	return nil
}

// probe returns the hard state or snapshot record that b begins with, and its length; nil: none.
func probe(b []byte) (*walpb.Record, int) {
	if len(b) < headBytes {
		return nil, 0
	}
	size, padding, ok := parseHead(binary.LittleEndian.Uint64(b))
	if !ok || size > maxProbeBytes || headBytes+size > int64(len(b)) { // the padding may be among the zeros cut off
		return nil, 0
	}
	rec := &walpb.Record{}
	if proto.Unmarshal(b[headBytes:headBytes+size], rec) != nil || rec.Crc == nil {
		return nil, 0
	}
	switch rec.GetType() {
	case etcdwal.StateType:
		if _, _, err := decodeHardState(rec.GetData()); err != nil {
			return nil, 0
		}
	case etcdwal.SnapshotType:
		s := &walpb.Snapshot{}
		if proto.Unmarshal(rec.GetData(), s) != nil || s.Index == nil || s.Term == nil || s.ConfState == nil ||
			len(s.ProtoReflect().GetUnknown()) > 0 {
			return nil, 0
		}
	default:
		return nil, 0
	}
	return rec, int(headBytes + size + padding)
}

// parseHead splits the head of a record as etcd's encoder makes it: the lower 56 bits are its size; bit 63 says that
// it is padded, bits 56 to 58 by how much.
func parseHead(head uint64) (size, padding int64, ok bool) {
	size = int64(head & (1<<56 - 1))
	padding = (8 - size%8) % 8
	top := head >> 56
	if padding > 0 {
		top ^= 0x80
	}
	return size, padding, size > 0 && top == uint64(padding)
}
