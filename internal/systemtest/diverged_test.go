//go:build unix

package systemtest

import (
	"bytes"
	"fmt"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"

	"raft3d/wal"
)

// rewrite replaces old by another text of the same length in the one value of a bucket that has it, as a bad memory would
// before the file is sealed.
func rewrite(t testing.TB, path, bucket, old, other string) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		cursor := b.Cursor()
		for key, value := cursor.First(); key != nil; key, value = cursor.Next() {
			if bytes.Count(value, []byte(old)) == 1 {
				return b.Put(bytes.Clone(key), bytes.Replace(value, []byte(old), []byte(other), 1))
			}
		}
		return fmt.Errorf("no %s has %s", bucket, old)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := wal.Seal(path); err != nil { // without that the node would not believe it in the first place
		t.Fatal(err)
	}
}

func TestANodeWhoseStateWasAlteredStopsAloneAndBuildsItAnew(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"leader", "follower"} {
		t.Run(role, func(t *testing.T) {
			c := newCluster(t)
			_, others := c.leader()
			bad := others[0]
			c.nodes[0].create("printers", `{"id":"p","company":"Prusa","model":"MK4"}`)
			c.nodes[0].create("filaments", `{"id":"s","type":"PLA","color":"black","total_weight_in_grams":1000}`)
			c.nodes[0].create("print_jobs", jobBody("a", "p", "s", 417))
			sameEverywhere(t, c.nodes...)

			bad.stop()
			rewrite(t, filepath.Join(bad.dir, "state.db"), "print_job", `"print_weight_in_grams":417`, `"print_weight_in_grams":419`)
			bad.start()
			bad.awaitReady()
			bad.awaitLog("state_kept=true")
			lead, rest := c.leader()
			good := []*node{}
			for _, n := range c.nodes {
				if n != bad {
					good = append(good, n)
				}
			}
			if role == "leader" {
				c.lead(bad)
			} else if lead == bad {
				c.lead(rest[0])
			}

			good[0].do(200, "POST", "/api/v1/print_jobs/a/status?status=Running", "")
			if status := bad.exit(); status != 1 {
				t.Errorf("it ended with status %d, want 1", status)
			}
			says(t, bad.log(), "the state of this node is not that of the majority", "move its data directory away")
			for i, n := range good {
				n.create("print_jobs", jobBody(fmt.Sprint("after", i), "p", "s", 10))
			}

			bad.start()
			bad.awaitReady()
			good[0].create("print_jobs", jobBody("last", "p", "s", 10))
			before := bad.metric("raft3d_state_comparisons_total")
			eventually(t, "it compares again", func() error {
				if now := bad.metric("raft3d_state_comparisons_total"); now <= before {
					return fmt.Errorf("%v comparisons", now)
				}
				return nil
			})
			sameEverywhere(t, c.nodes...)
			for _, n := range c.nodes {
				if n.metric("raft3d_state_diverged") != 0 || n.metric("raft3d_state_differing_peers") != 0 {
					t.Errorf("%s still finds a difference:\n%s", n.name, tail(n.log(), 5))
				}
			}
		})
	}
}
