package farm

import (
	"fmt"
	"slices"
)

// nextStatuses is where a job may go from each state.
var nextStatuses = map[JobStatus][]JobStatus{
	Queued:   {Running, Canceled},
	Running:  {Done, Canceled},
	Done:     {},
	Canceled: {},
}

// Active reports whether a job in this state holds its reservation: Queued and Running do.
func (s JobStatus) Active() bool { return s == Queued || s == Running }

func (d *decision) createJob(c CreateJob) *Error {
	common, times, err := d.common(c.Text, func(id ID) bool { return d.Job(id) != nil })
	if err != nil {
		return err
	}
	if d.Printer(c.PrinterID) == nil {
		return unknown("printer_id", KindPrinter, c.PrinterID)
	}
	spool := d.Filament(c.FilamentID)
	if spool == nil {
		return unknown("filament_id", KindFilament, c.FilamentID)
	}
	if c.Weight > spool.Available {
		return shortOf(spool, "print_weight_in_grams", c.Weight, spool.Available)
	}
	d.changeJob(nil, &Job{
		Common: common, PrinterID: c.PrinterID, FilamentID: c.FilamentID, Filepath: c.Filepath,
		Weight: c.Weight, Status: Queued, Times: times,
	})
	d.settle(spool, 0, c.Weight)
	return nil
}

func (d *decision) patchJob(c PatchJob) *Error {
	before := d.Job(c.ID)
	if before == nil {
		return notFound(KindJob, c.ID)
	}
	if field := c.planned(); field != "" && before.Status != Queued {
		return &Error{Kind: Conflict, Field: field, Detail: fmt.Sprintf("can be changed only while the job is %s; it is %s", Queued, before.Status)}
	}
	after := *before
	var err *Error
	if after.Common, err = patched(before.Common, c.Patch); err != nil {
		return err
	}
	if c.PrinterID != nil {
		after.PrinterID = *c.PrinterID
		if d.Printer(after.PrinterID) == nil {
			return unknown("printer_id", KindPrinter, after.PrinterID)
		}
	}
	if c.FilamentID != nil {
		after.FilamentID = *c.FilamentID
	}
	if c.Filepath != nil {
		after.Filepath = *c.Filepath
	}
	if c.Weight != nil {
		after.Weight = *c.Weight
	}
	d.changeJob(before, &after)
	return d.reserveAnew(before, &after, c.Weight == nil)
}

// planned names the first field of the patch that belongs to the plan of a job; empty: none does.
func (c PatchJob) planned() string {
	switch {
	case c.PrinterID != nil:
		return "printer_id"
	case c.FilamentID != nil:
		return "filament_id"
	case c.Filepath != nil:
		return "filepath"
	case c.Weight != nil:
		return "print_weight_in_grams"
	}
	return ""
}

// reserveAnew moves what the job before had reserved to what the job after needs, all or nothing.
func (d *decision) reserveAnew(before, after *Job, weightAsItWas bool) *Error {
	if before.FilamentID == after.FilamentID {
		if before.Weight == after.Weight {
			return nil
		}
		spool := d.mustFilament(after.FilamentID, after.ID)
		if available := spool.Available + before.Weight; after.Weight > available {
			return shortOf(spool, "print_weight_in_grams", after.Weight, available)
		}
		d.settle(spool, 0, after.Weight-before.Weight)
		return nil
	}
	spool := d.Filament(after.FilamentID)
	if spool == nil {
		return unknown("filament_id", KindFilament, after.FilamentID)
	}
	if after.Weight > spool.Available {
		field := "print_weight_in_grams"
		if weightAsItWas {
			field = "filament_id"
		}
		return shortOf(spool, field, after.Weight, spool.Available)
	}
	d.settle(d.mustFilament(before.FilamentID, before.ID), 0, -before.Weight)
	d.settle(spool, 0, after.Weight)
	return nil
}

func (d *decision) setJobStatus(c SetJobStatus) *Error {
	before := d.Job(c.ID)
	if before == nil {
		return notFound(KindJob, c.ID)
	}
	if !slices.Contains(nextStatuses[before.Status], c.Status) {
		return refusedTransition(before.Status, c.Status)
	}
	if c.Status == Running {
		return d.start(before)
	}
	return d.end(before, c.Status, c.Used)
}

func refusedTransition(from, to JobStatus) *Error {
	allowed := slices.Clone(nextStatuses[from])
	detail := fmt.Sprintf("a job that is %s cannot become %s", from, to)
	if len(allowed) == 0 {
		detail += "; it has ended"
	} else {
		detail += ", only " + joined(allowed)
	}
	return &Error{Kind: Conflict, Field: "status", Detail: detail, Allowed: allowed}
}

func (d *decision) start(before *Job) *Error {
	if running, busy := d.RunningJob(before.PrinterID); busy {
		return &Error{Kind: Conflict, Field: "status", Detail: fmt.Sprintf("printer %q runs job %q; it takes one at a time", before.PrinterID, running)}
	}
	after, at := *before, d.stamp.At
	after.Status = Running
	after.StartedAt = &at
	d.changeJob(before, &after)
	d.occupy(after.PrinterID, after.ID)
	return nil
}

// end finishes or cancels a job: its reservation goes, and what it used goes off its spool. used is nil where the
// command did not say.
func (d *decision) end(before *Job, to JobStatus, used *Grams) *Error {
	var spent Grams
	switch {
	case used != nil && before.Status == Queued:
		return &Error{Kind: Invalid, Field: "used_weight_in_grams", Detail: fmt.Sprintf("cannot be given for a job that is %s: it has used nothing", Queued)}
	case used != nil:
		spent = *used
	case to == Done:
		spent = before.Weight
	}
	spool := d.mustFilament(before.FilamentID, before.ID)
	if free := spool.Available + before.Weight; spent > free {
		return shortOf(spool, "used_weight_in_grams", spent, free)
	}
	after, at := *before, d.stamp.At
	after.Status = to
	after.Used = &spent
	after.FinishedAt = &at
	d.changeJob(before, &after)
	d.settle(spool, -spent, -before.Weight)
	if before.Status == Running {
		d.vacate(before.PrinterID, before.ID)
	}
	return nil
}

func (d *decision) deleteJob(id ID) *Error {
	before := d.Job(id)
	if before == nil {
		return notFound(KindJob, id)
	}
	if before.Status.Active() {
		return &Error{Kind: Conflict, Detail: fmt.Sprintf("job %q is %s; only one that is %s or %s can be deleted: cancel it first", id, before.Status, Done, Canceled)}
	}
	d.changeJob(before, nil)
	return nil
}

// unknown refuses a reference to an object that is not there.
func unknown(field string, kind Kind, id ID) *Error {
	return &Error{Kind: Invalid, Field: field, Detail: notFound(kind, id).Detail}
}

func (d *decision) changeJob(before, after *Job) {
	change := Change{Kind: KindJob, JobBefore: before, JobAfter: after}
	if after != nil {
		change.ID = after.ID
		after.UpdatedAt = d.stamp.At
	} else {
		change.ID = before.ID
	}
	if d.changes == nil {
		d.changes = make([]Change, 0, 3) // mostly its spool's and its printer's follow
	}
	d.changes = append(d.changes, change)
}
