package kvstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"raft3d/farm"
)

// The layout of the file. Keys come in order of creation wherever they can, which is what makes bbolt cheap.
//
//	meta           head      the head
//	               raft      raftnode's own record
//	               format    the version of this layout
//	printer        creation revision (8 bytes, big endian) -> the object as it is sent
//	printer_ids    id -> creation revision
//	job_index      see indexKey -> nothing
//	job_tallies    see tallyKey -> the tally
//	events         revision -> the event, see event
//	keys           Idempotency-Key -> sequence (8 bytes, big endian)
//	answers        sequence -> what is kept under the key, a Kept
//
// and the two buckets of printers for filament and print_job.
const format = 3

// formats are those that can be read and gone on with: the first flush makes them the newest. 2 has whole events.
var formats = []string{"2", strconv.Itoa(format)}

var (
	metaBucket    = []byte("meta")
	indexBucket   = []byte("job_index")
	talliesBucket = []byte("job_tallies")
	eventsBucket  = []byte("events")
	keysBucket    = []byte("keys")
	answersBucket = []byte("answers")

	headKey   = []byte("head")
	raftKey   = []byte("raft")
	formatKey = []byte("format")
)

// kinds is how many there are, and place is that of one of them in farm.Kinds.
const kinds = 3

func place(k farm.Kind) int {
	i := slices.Index(farm.Kinds, k)
	if i < 0 {
		panic(fmt.Sprintf("there is no kind %q", k))
	}
	return i
}

func objectBucket(k farm.Kind) []byte { return []byte(k) }
func idBucket(k farm.Kind) []byte     { return []byte(k + "_ids") }

func revisionKey(revision uint64) []byte { return binary.BigEndian.AppendUint64(nil, revision) }

// head is what there is to know of a state without looking at its objects. It is stored as these fields one after
// the other, big endian.
type head struct {
	Applied  uint64 // index of the last entry that was applied
	Revision uint64 // number of the last change
	Time     farm.Time
	Hash     [32]byte // see batch.hash

	Printers, Filaments uint64
	Jobs                [4]uint64 // by status, in the order of farm.Statuses
	Remaining, Reserved farm.Grams

	Events, OldestEvent     uint64 // how many are kept, and the revision of the first
	KeysDropped, KeysStored uint64 // sequences KeysDropped+1 to KeysDropped+KeysStored are there
}

func (h *head) encode() []byte {
	b, err := binary.Append(nil, binary.BigEndian, h)
	if err != nil {
		panic(fmt.Sprintf("encode head %+v: %v", h, err))
	}
	return b
}

func (h *head) decode(b []byte) error {
	if n, err := binary.Decode(b, binary.BigEndian, h); err != nil || n != len(b) {
		return fmt.Errorf("the head is damaged: %d bytes", len(b))
	}
	return nil
}

func readHead(tx *bbolt.Tx) (head, error) {
	var h head
	return h, h.decode(tx.Bucket(metaBucket).Get(headKey))
}

// readState reads what a Store must know of its file, and refuses a file that is of another format or incomplete.
func readState(db *bbolt.DB) (h head, meta []byte, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket(metaBucket)
		if bucket == nil {
			return fmt.Errorf("it has no meta bucket")
		}
		if found := string(bucket.Get(formatKey)); !slices.Contains(formats, found) {
			return fmt.Errorf("its format is %q, this program reads %s", found, strings.Join(formats, " and "))
		}
		for _, name := range dataBuckets() {
			if tx.Bucket(name) == nil {
				return fmt.Errorf("it has no bucket %s", name)
			}
		}
		meta = bytes.Clone(bucket.Get(raftKey))
		h, err = readHead(tx)
		return err
	})
	if err != nil {
		return head{}, nil, fmt.Errorf("read state %s: %w", db.Path(), err)
	}
	return h, meta, nil
}

func dataBuckets() [][]byte {
	names := [][]byte{indexBucket, talliesBucket, eventsBucket, keysBucket, answersBucket}
	for _, k := range farm.Kinds {
		names = append(names, objectBucket(k), idBucket(k))
	}
	return names
}

const (
	lockTimeout = time.Second // a file that another process holds for longer is an error

	// pageSize is fixed, so that a snapshot is the same file on machines with other pages. Of objects of 450 bytes a page of
	// 4 KiB has room for eight and an eighth of itself to spare. A file keeps the pages that it was made with.
	pageSize = 16 << 10

	// mmapSize32 is the address space set aside for the file on 32 bits, where there is none to spare; 64 bits take
	// mmapFactor64 times that. It costs no memory. A file that outgrows it has a writer wait for all readers once.
	mmapSize32   = 128 << 20
	mmapFactor64 = 128
)

// openFile opens or makes a bbolt file. Its free pages are not stored but found when it is opened, which reads the
// file: stored, they cost nothing while they are few, and as much as all else once a long read has kept pages from
// being used again.
func openFile(path string) (*bbolt.DB, error) {
	mmapSize := mmapSize32
	if strconv.IntSize == 64 && runtime.GOOS != "windows" { // which would make the file that long
		mmapSize *= mmapFactor64
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout:         lockTimeout,
		NoSync:          true,
		NoGrowSync:      true,
		NoFreelistSync:  true,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: mmapSize,
		PageSize:        pageSize,
		NoStatistics:    true,
	})
	if err != nil {
		return nil, fmt.Errorf("open state %s: %w", path, err)
	}
	return db, nil
}

// makeLayout puts an empty state into a new file.
func makeLayout(db *bbolt.DB) error {
	return db.Update(func(tx *bbolt.Tx) error {
		for _, name := range dataBuckets() {
			if _, err := tx.CreateBucket(name); err != nil {
				return fmt.Errorf("make bucket %s: %w", name, err)
			}
		}
		bucket, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return fmt.Errorf("make bucket %s: %w", metaBucket, err)
		}
		if err := bucket.Put(formatKey, []byte(strconv.Itoa(format))); err != nil {
			return err
		}
		return bucket.Put(headKey, new(head).encode())
	})
}
