//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"

	"raft3d/client"
	"raft3d/internal/torture/history"
)

const spoolWeight = 1000 * client.Gram

// farm is one spool with a printer and jobs of its own: small enough for all that is done to it to be judged.
type farm struct {
	number         int // in its cycle
	name           string
	printer, spool string // ids

	mu    sync.Mutex
	jobs  []job // guarded by mu: those that were acknowledged
	made  int   // guarded by mu: jobs that were asked for
	notes int   // guarded by mu: notes that were asked for
}

// job is one that a client knows the id of.
type job struct {
	number int
	id     string
	grams  client.Grams
}

func newFarm(number int, name string) *farm {
	return &farm{number: number, name: name, printer: "p" + name, spool: "s" + name}
}

// action is one call, before it is made.
type action struct {
	op      history.Op
	request client.Request
	job     job
}

// draw decides what a client does next.
func (f *farm) draw(rng *rand.Rand) action {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := history.Op{Farm: f.number}
	dice := rng.IntN(100)
	var j job
	if len(f.jobs) > 0 {
		newest := f.jobs[max(0, len(f.jobs)-8):]
		j = newest[rng.IntN(len(newest))]
	} else if dice >= 25 && dice < 50 || dice >= 82 && dice < 90 {
		dice = 0
	}
	o.Number, o.JobID, o.Milligrams = j.number, j.id, int64(j.grams)
	move := func(status string) action { return action{op: o, request: client.MoveJob(j.id, status, nil)} }
	read := func(path string) action {
		a := action{op: o, request: client.Request{Method: "GET", Path: path}}
		return a
	}
	switch {
	case dice < 25:
		o.Kind, o.Number, o.JobID = history.Create, f.made, ""
		f.made++
		grams := client.Grams(5+rng.IntN(300)) * client.Gram
		o.Milligrams, o.Token = int64(grams), fmt.Sprintf("%s-%d", f.name, o.Number)
		return action{o, client.Request{Method: "POST", Path: client.JobsPath, Body: client.NewJob{NewText: client.NewText{Name: o.Token},
			PrinterID: f.printer, FilamentID: f.spool, Filepath: "a.gcode", Weight: grams}}, job{number: o.Number, grams: grams}}
	case dice < 33:
		o.Kind = history.Start
		return move("Running")
	case dice < 38:
		o.Kind = history.Finish
		return move("Done")
	case dice < 50:
		o.Kind = history.Cancel
		return move("Canceled")
	case dice < 70:
		f.notes++
		o.Kind, o.Number, o.JobID, o.Token = history.Note, f.notes, "", fmt.Sprintf("%s-%d", f.name, f.notes)
		return action{op: o, request: client.Request{Method: "PATCH", Path: client.PrintersPath + "/" + f.printer,
			Body: client.PrinterPatch{TextPatch: client.TextPatch{Notes: &o.Token}}}}
	case dice < 82:
		o.Kind = history.Spool
		return read(client.FilamentsPath + "/" + f.spool)
	case dice < 90:
		o.Kind = history.Job
		return read(client.JobsPath + "/" + j.id)
	}
	o.Kind = history.Printer
	return read(client.PrintersPath + "/" + f.printer)
}

// learn keeps the id of a job that was created.
func (f *farm) learn(a action, o *history.Op) {
	if o.Kind != history.Create || o.Outcome != history.OK {
		return
	}
	var made struct{ ID string }
	if err := json.Unmarshal(o.Object, &made); err != nil || made.ID == "" {
		o.Fault = "a job was created without an id"
		return
	}
	o.JobID, a.job.id = made.ID, made.ID
	f.mu.Lock()
	defer f.mu.Unlock()
	f.jobs = append(f.jobs, a.job)
}
