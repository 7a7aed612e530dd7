package kvstore

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"raft3d/farm"
)

// What was answered to commands with a key is kept in the order in which they came: a key leads to a sequence, the
// sequence to the answer, so that the bulk is written and dropped at the ends of a bucket, and only 50 bytes a key land
// anywhere. Nothing of this is touched by a command without a key.

const (
	// keyLife is how long a key stands for its answer, in time of the log.
	keyLife = farm.Time(24 * time.Hour / time.Millisecond)

	// droppedPerKey bounds what one new key may push out. More than one, so that what has expired goes in time.
	droppedPerKey = 2
)

var (
	errKeyForm = &farm.Error{
		Kind: farm.Malformed, Field: "Idempotency-Key",
		Detail: fmt.Sprintf("must have 1 to %d printable ASCII characters", farm.MaxKeyLength),
	}
	errKeyTaken = &farm.Error{Kind: farm.Invalid, Field: "Idempotency-Key", Detail: "was used for another request already"}
)

// keepable reports whether a refusal is one of the farm, as others would be given it too, and not one of form.
func keepable(e *farm.Error) bool {
	switch e.Kind {
	case farm.Invalid, farm.NotFound, farm.Conflict, farm.PreconditionFailed:
		return true
	}
	return false
}

// replay finds what was answered under the key of s, if that is known.
func (b *batch) replay(c farm.Command, s farm.Stamp) (result any, known bool) {
	k := b.kept(b.sequence(s.Key))
	if k == nil || expired(k, s.At) {
		return nil, false
	}
	_, recording := c.(farm.RecordAnswer)
	_, recorded := k.Answer.(*Kept_Recorded)
	if !bytes.Equal(k.Fingerprint, s.Fingerprint[:]) || recording != recorded {
		return errKeyTaken, true
	}
	switch a := k.Answer.(type) {
	case *Kept_Result:
		return farm.Result{Object: a.Result.Object, ID: farm.ID(a.Result.Id), Revision: a.Result.Revision, Replayed: true}, true
	case *Kept_Refusal:
		return decodeRefusal(a.Refusal), true
	}
	return farm.Result{Revision: b.head.Revision, Replayed: true}, true
}

func expired(k *Kept, now farm.Time) bool { return now-farm.Time(k.AtMs) >= keyLife }

// keep puts what was answered to c under the key of s.
func (b *batch) keep(c farm.Command, s farm.Stamp, result any) {
	k := &Kept{Key: s.Key, AtMs: int64(s.At), Fingerprint: s.Fingerprint[:]}
	switch r := result.(type) {
	case farm.Result:
		if c, ok := c.(farm.RecordAnswer); ok {
			k.Answer = &Kept_Recorded{encodeAnswer(c.Answer)}
		} else {
			k.Answer = &Kept_Result{&Result{Object: r.Object, Id: string(r.ID), Revision: r.Revision}}
		}
	case *farm.Error:
		if !keepable(r) {
			return
		}
		k.Answer = &Kept_Refusal{encodeRefusal(r)}
	default:
		return // a read failed; b.err says how
	}
	h := &b.head
	h.Time = s.At // of which a key remembers a part, as an object does
	h.KeysStored++
	sequence := h.KeysDropped + h.KeysStored
	b.keys[s.Key] = sequence
	b.answers[sequence] = k
	b.hashKey(k)
	b.dropKeys(s.At)
}

// dropKeys drops the oldest keys while they have expired or are too many, a few at a time.
func (b *batch) dropKeys(now farm.Time) {
	h := &b.head
	for range droppedPerKey {
		oldest := b.kept(h.KeysDropped + 1)
		if oldest == nil || h.KeysStored <= b.limits.keys && !expired(oldest, now) {
			return
		}
		h.KeysDropped++
		h.KeysStored--
		b.answers[h.KeysDropped] = nil
		if b.sequence(oldest.Key) == h.KeysDropped { // else it expired and was used again since
			b.keys[oldest.Key] = 0
		}
	}
}

// hashKey takes a new key into the running hash, as a change of revision 0. What it stands for followed from the
// changes, or came in the command.
func (b *batch) hashKey(k *Kept) {
	data := append(b.scratch[:0], b.head.Hash[:]...)
	data = binary.BigEndian.AppendUint64(data, 0)
	data = appendSized(data, k.Key)
	data = appendSized(data, k.Fingerprint)
	data = binary.BigEndian.AppendUint64(data, uint64(k.AtMs))
	b.head.Hash = sha256.Sum256(data)
	b.sums.add(b.head.mark(), b.head.Hash)
	b.scratch = data
}

// sequence is where the key leads; 0: nowhere.
func (b *batch) sequence(key string) uint64 {
	if sequence, ok := b.keys[key]; ok {
		return sequence
	}
	return readSequence(b.bucket(keysBucket).Get([]byte(key)))
}

func readSequence(stored []byte) uint64 {
	if len(stored) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(stored)
}

// kept is what the sequence stands for; nil: nothing.
func (b *batch) kept(sequence uint64) *Kept {
	if k, ok := b.answers[sequence]; ok {
		return k
	}
	k, err := readKept(b.bucket(answersBucket).Get(revisionKey(sequence)))
	if err != nil {
		b.err = fmt.Errorf("answer %d: %w", sequence, err)
	}
	return k
}

// readKept returns nil where nothing is stored.
func readKept(stored []byte) (*Kept, error) {
	if stored == nil {
		return nil, nil
	}
	k := new(Kept)
	if err := proto.Unmarshal(stored, k); err != nil {
		return nil, fmt.Errorf("what is kept is damaged: %w", err)
	}
	return k, nil
}

func (b *batch) flushKeys() error {
	bucket := b.tx.Bucket(keysBucket)
	for _, key := range slices.Sorted(maps.Keys(b.keys)) {
		var value []byte
		if sequence := b.keys[key]; sequence != 0 {
			value = revisionKey(sequence)
		}
		if err := put(bucket, []byte(key), value); err != nil {
			return err
		}
	}
	bucket = b.tx.Bucket(answersBucket)
	bucket.FillPercent = 1 // keys only rise, and no answer grows
	for _, sequence := range slices.Sorted(maps.Keys(b.answers)) {
		var value []byte
		if k := b.answers[sequence]; k != nil {
			var err error
			if value, err = (proto.MarshalOptions{Deterministic: true}).Marshal(k); err != nil {
				return fmt.Errorf("keep answer %d: %w", sequence, err)
			}
		}
		if err := put(bucket, revisionKey(sequence), value); err != nil {
			return err
		}
	}
	return nil
}

func encodeRefusal(e *farm.Error) *Refusal {
	r := &Refusal{Kind: int32(e.Kind), Field: e.Field, Detail: e.Detail, AvailableMg: as[int64](e.Available)}
	if e.Allowed != nil {
		r.Allowed = &Statuses{}
		for _, s := range e.Allowed {
			r.Allowed.Status = append(r.Allowed.Status, string(s))
		}
	}
	for _, m := range e.More {
		r.More = append(r.More, &Fault{Field: m.Field, Detail: m.Detail})
	}
	return r
}

func decodeRefusal(r *Refusal) *farm.Error {
	e := &farm.Error{
		Kind: farm.ErrorKind(r.GetKind()), Field: r.GetField(), Detail: r.GetDetail(), Available: as[farm.Grams](r.AvailableMg), Replayed: true,
	}
	if r.Allowed != nil {
		e.Allowed = []farm.JobStatus{}
		for _, s := range r.Allowed.Status {
			e.Allowed = append(e.Allowed, farm.JobStatus(s))
		}
	}
	for _, m := range r.More {
		e.More = append(e.More, farm.FieldError{Field: m.Field, Detail: m.Detail})
	}
	return e
}

func (v view) Answered(key string) (fingerprint [32]byte, a farm.Answer, ok bool) {
	if !farm.ValidKey(key) {
		return fingerprint, a, false
	}
	sequence := readSequence(v.tx.Bucket(keysBucket).Get([]byte(key)))
	k, err := readKept(v.tx.Bucket(answersBucket).Get(revisionKey(sequence)))
	if err != nil || k == nil || expired(k, v.head.Time) {
		return fingerprint, a, false
	}
	copy(fingerprint[:], k.Fingerprint)
	return fingerprint, decodeAnswer(k.GetRecorded()), true
}
