package raftnode

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"

	"raft3d/farm"
	"raft3d/farm/farmtest"
	"raft3d/kvstore"
)

// farmResult is what a state with a farm makes of a command: where it stands in the history, and what became of it.
type farmResult struct {
	position int
	outcome  any // a farm.Result or a *farm.Error
}

func positionOf(value any) int {
	if r, ok := value.(farmResult); ok {
		return r.position
	}
	return value.(int)
}

// withFarm gives a state the production store beside its list of commands.
func (s *listState) withFarm(c *cluster) *listState {
	s.farmDir = c.testDir()
	s.openFarm(c, false)
	c.t.Cleanup(func() { s.farm.Close() })
	return s
}

func (s *listState) openFarm(c *cluster, keep bool) {
	var err error
	if s.farm, err = kvstore.Open(s.farmDir, kvstore.Options{History: 20, Keys: 30, Keep: keep}); err != nil {
		c.fatalf("%v", err)
	}
}

// reopenFarm closes the store and opens it again, as a node does that ends in good order and starts again. It must be
// what it was.
func (s *listState) reopenFarm(c *cluster) {
	if s.farm == nil {
		return
	}
	index, hash := s.farm.Hash()
	_, meta := s.farm.Applied()
	if err := s.farm.Close(); err != nil {
		c.fatalf("%v", err)
	}
	s.openFarm(c, true)
	newIndex, newHash := s.farm.Hash()
	_, newMeta := s.farm.Applied()
	if newIndex != index || newHash != hash || !bytes.Equal(newMeta, meta) {
		c.fatalf("a store that was closed at index %d, hash %x, opens at index %d, hash %x", index, hash, newIndex, newHash)
	}
	c.count("store kept over a restart")
}

func (s *listState) applyFarm(index uint64, cmds [][]byte, meta []byte, results []any) error {
	outcomes, err := s.farm.Apply(index, cmds, meta)
	if err != nil {
		return err
	}
	for i := range results {
		results[i] = farmResult{results[i].(int), outcomes[i]}
	}
	return nil
}

// snapshotFarm puts the store's snapshot behind the list's.
func (s *listState) snapshotFarm(list []byte, fn func(uint64, []byte, io.WriterTo) error) error {
	return s.farm.Snapshot(func(index uint64, meta []byte, state io.WriterTo) error {
		var b bytes.Buffer
		b.Write(binary.BigEndian.AppendUint64(nil, uint64(len(list))))
		b.Write(list)
		if _, err := state.WriteTo(&b); err != nil {
			return err
		}
		return fn(index, meta, &b)
	})
}

// restoreFarm reads what snapshotFarm wrote, and leaves the list.
func (s *listState) restoreFarm(r io.Reader) (io.Reader, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if len(b) < 8 || uint64(len(b)-8) < binary.BigEndian.Uint64(b) {
		return nil, errors.New("no list in front of the farm")
	}
	n := 8 + binary.BigEndian.Uint64(b)
	return bytes.NewReader(b[8:n]), s.farm.Restore(bytes.NewReader(b[n:]))
}

// customers are those who use the farm of a schedule: they create, run and cancel jobs, and some send a creation under
// a key again, through whichever node, whether or not they were answered.
type customers struct {
	rng    *rand.Rand
	calls  int
	jobs   int
	keyed  []farm.CreateJob   // by number of the key
	labels map[string]string  // what is said of a command in the trace
	made   map[string]farm.ID // by key: the job that a customer was told of

	oracle  *farmtest.Farm // the farm as the history makes it
	decided map[string]bool
	behind  int      // commands of the history that the oracle has
	events  []string // that its changes make
}

func newCustomers(rng *rand.Rand) *customers {
	return &customers{rng: rng, labels: map[string]string{}, made: map[string]farm.ID{}, oracle: farmtest.New(), decided: map[string]bool{}}
}

func (u *customers) pick(prefix string, n int) farm.ID {
	return farm.ID(fmt.Sprint(prefix, 1+u.rng.IntN(max(1, n))))
}

// next is one more command.
func (u *customers) next() string {
	u.calls++
	switch {
	case u.calls <= 2:
		return u.encode(farm.CreatePrinter{Text: farm.Text{ID: farm.ID(fmt.Sprint("p", u.calls))}, Company: "Prusa", Model: "MK4"}, "")
	case u.calls <= 4:
		return u.encode(farm.CreateFilament{Text: farm.Text{ID: farm.ID(fmt.Sprint("f", u.calls-2))}, Type: "PLA", Color: "red", Total: 1000 * farm.Gram}, "")
	}
	weight := farm.Grams(1+u.rng.IntN(300)) * farm.Gram
	switch u.rng.IntN(8) {
	case 0, 1:
		u.jobs++
		return u.encode(farm.CreateJob{Text: farm.Text{ID: farm.ID(fmt.Sprint("j", u.jobs))}, PrinterID: u.pick("p", 2), FilamentID: u.pick("f", 2), Filepath: "a.gcode", Weight: weight}, "")
	case 2, 3:
		if len(u.keyed) == 0 || u.rng.IntN(3) == 0 {
			name := fmt.Sprint("key", len(u.keyed))
			u.keyed = append(u.keyed, farm.CreateJob{Text: farm.Text{Name: name}, PrinterID: u.pick("p", 2), FilamentID: u.pick("f", 2), Filepath: "a.gcode", Weight: weight / 10})
		}
		c := u.keyed[len(u.keyed)-1-u.rng.IntN(min(3, len(u.keyed)))]
		return u.encode(c, c.Name)
	case 4:
		remaining := farm.Grams(u.rng.IntN(1001)) * farm.Gram
		return u.encode(farm.PatchFilament{Patch: farm.Patch{ID: u.pick("f", 2)}, Remaining: &remaining}, "")
	}
	return u.encode(farm.SetJobStatus{ID: u.pick("j", u.jobs), Status: farm.Statuses[u.rng.IntN(len(farm.Statuses))]}, "")
}

func (u *customers) encode(c farm.Command, key string) string {
	s := farm.Stamp{
		At:    farmtest.Start + farm.Time(u.calls*100+u.rng.IntN(5000)),
		Actor: "customer", NewID: farm.ID(fmt.Sprint("new", u.calls)), Key: key,
	}
	copy(s.Fingerprint[:], key)
	b, err := kvstore.Encode(c, s)
	if err != nil {
		panic(err)
	}
	u.labels[string(b)] = fmt.Sprintf("c%d", u.calls)
	return string(b)
}

// told notes what a customer is told, and says where that cannot be.
func (u *customers) told(cmd string, outcome any) error {
	_, stamp, refusal := kvstore.Decode([]byte(cmd))
	if refusal != nil {
		return refusal
	}
	result, ok := outcome.(farm.Result)
	if !ok || stamp.Key == "" {
		return nil
	}
	if first, again := u.made[stamp.Key]; again && first != result.ID {
		return fmt.Errorf("%s made the job %q for one customer and %q for another", stamp.Key, first, result.ID)
	}
	u.made[stamp.Key] = result.ID
	return nil
}

// follow has the oracle decide what is new in the history, and says what is wrong with the farm then.
func (u *customers) follow(history []string) error {
	for ; u.behind < len(history); u.behind++ {
		c, stamp, refusal := kvstore.Decode([]byte(history[u.behind]))
		if refusal != nil {
			return refusal
		}
		if stamp.Key != "" {
			if u.decided[stamp.Key] {
				continue
			}
			u.decided[stamp.Key] = true
		}
		changes, _ := u.oracle.Do(c, stamp) // a refusal is one of the outcomes
		for i, change := range changes {
			revision := u.oracle.Revision - uint64(len(changes)-1-i)
			status := farm.JobStatus("")
			if change.JobAfter != nil {
				status = change.JobAfter.Status
			}
			u.events = append(u.events, eventLine(revision, change.Kind, change.ID, revision, status))
		}
		if err := u.oracle.Wrong(); err != nil {
			return err
		}
	}
	return nil
}

// eventLine is what is compared of an event: the object is to be as that change left it, its revision included.
func eventLine(revision uint64, kind farm.Kind, id farm.ID, of uint64, status farm.JobStatus) string {
	return fmt.Sprintln(revision, kind, id, "of", of, status)
}

// history is what the store has of it, as eventLine tells it.
func history(v farm.View) (events []string, err error) {
	err = v.Events(farm.EventQuery{Since: v.Oldest() - 1}, func(revision uint64, event []byte) error {
		var e struct {
			Revision uint64
			Kind     farm.Kind
			ID       farm.ID
			Object   struct {
				Revision uint64
				Status   farm.JobStatus
			}
		}
		if err := json.Unmarshal(event, &e); err != nil {
			return err
		}
		if e.Revision != revision {
			return fmt.Errorf("at revision %d is %s", revision, event)
		}
		events = append(events, eventLine(revision, e.Kind, e.ID, e.Object.Revision, e.Object.Status))
		return nil
	})
	return events, err
}

// compare holds a store against the oracle.
func (u *customers) compare(s *kvstore.Store) error {
	return kvstore.NewDB(s, nil).View(context.Background(), farm.ReadOptions{Stale: true}, func(v farm.View) error {
		made := u.events[min(v.Oldest()-1, uint64(len(u.events))):]
		if events, err := history(v); err != nil || !slices.Equal(events, made) {
			return fmt.Errorf("the history is\n%sthe rules make it\n%s%v", strings.Join(events, ""), strings.Join(made, ""), err)
		}
		jobs := map[farm.ID]farm.Job{}
		for _, j := range u.oracle.JobList() {
			jobs[j.ID] = j
		}
		err := v.List(farm.Query{Kind: farm.KindJob}, func(_ uint64, object []byte) error {
			var got farm.Job
			if err := json.Unmarshal(object, &got); err != nil {
				return err
			}
			want, ok := jobs[got.ID]
			if !ok || got.Status != want.Status || got.Weight != want.Weight || got.PrinterID != want.PrinterID || got.Name != want.Name {
				return fmt.Errorf("the store has the job %s, the rules make it %+v", object, want)
			}
			delete(jobs, got.ID)
			return nil
		})
		if err != nil || len(jobs) > 0 {
			return errors.Join(err, fmt.Errorf("the store lacks the jobs %v", jobs))
		}
		return v.List(farm.Query{Kind: farm.KindFilament}, func(_ uint64, object []byte) error {
			var got farm.Filament
			if err := json.Unmarshal(object, &got); err != nil {
				return err
			}
			if want := u.oracle.Filaments[got.ID]; got.Remaining != want.Remaining || got.Reserved != want.Reserved {
				return fmt.Errorf("the store has the spool %s, the rules make it %+v", object, want)
			}
			return nil
		})
	})
}
