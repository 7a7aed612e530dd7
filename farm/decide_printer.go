package farm

import "fmt"

func (d *decision) createPrinter(c CreatePrinter) *Error {
	common, times, err := d.common(c.Text, func(id ID) bool { return d.Printer(id) != nil })
	if err != nil {
		return err
	}
	d.changePrinter(nil, &Printer{Common: common, Company: c.Company, Model: c.Model, Times: times})
	return nil
}

func (d *decision) patchPrinter(c PatchPrinter) *Error {
	before := d.Printer(c.ID)
	if before == nil {
		return notFound(KindPrinter, c.ID)
	}
	after := *before
	var err *Error
	if after.Common, err = patched(before.Common, c.Patch); err != nil {
		return err
	}
	if c.Company != nil {
		after.Company = *c.Company
	}
	if c.Model != nil {
		after.Model = *c.Model
	}
	d.changePrinter(before, &after)
	return nil
}

func (d *decision) deletePrinter(id ID) *Error {
	before := d.Printer(id)
	if before == nil {
		return notFound(KindPrinter, id)
	}
	if n := d.ActiveJobs(id); n > 0 {
		return &Error{Kind: Conflict, Detail: fmt.Sprintf("printer %q has jobs that are %s or %s (%d): finish, cancel or move them first", id, Queued, Running, n)}
	}
	d.changePrinter(before, nil)
	return nil
}

// occupy makes job the one that runs on the printer.
func (d *decision) occupy(printer, job ID) {
	before := d.mustPrinter(printer, job)
	after := *before
	after.CurrentJobID = &job
	d.changePrinter(before, &after)
}

// vacate ends that job's stay on the printer.
func (d *decision) vacate(printer, job ID) {
	before := d.mustPrinter(printer, job)
	if before.CurrentJobID == nil || *before.CurrentJobID != job {
		panic(fmt.Sprintf("decide: job %q runs on printer %+v, which does not run it", job, *before))
	}
	after := *before
	after.CurrentJobID = nil
	d.changePrinter(before, &after)
}

func (d *decision) mustPrinter(id, job ID) *Printer {
	p := d.Printer(id)
	if p == nil {
		panic(fmt.Sprintf("decide: the printer %q of the active job %q is gone", id, job))
	}
	return p
}

func (d *decision) changePrinter(before, after *Printer) {
	change := Change{Kind: KindPrinter, PrinterBefore: before, PrinterAfter: after}
	if after != nil {
		change.ID = after.ID
		after.UpdatedAt = d.stamp.At
	} else {
		change.ID = before.ID
	}
	d.changes = append(d.changes, change)
}
