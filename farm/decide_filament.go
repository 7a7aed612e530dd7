package farm

import "fmt"

func (d *decision) createFilament(c CreateFilament) *Error {
	common, times, err := d.common(c.Text, func(id ID) bool { return d.Filament(id) != nil })
	if err != nil {
		return err
	}
	d.changeFilament(nil, &Filament{Common: common, Type: c.Type, Color: c.Color, Total: c.Total, Remaining: *c.Remaining, Times: times})
	return nil
}

func (d *decision) patchFilament(c PatchFilament) *Error {
	before := d.Filament(c.ID)
	if before == nil {
		return notFound(KindFilament, c.ID)
	}
	after := *before
	var err *Error
	if after.Common, err = patched(before.Common, c.Patch); err != nil {
		return err
	}
	if c.Type != nil {
		after.Type = *c.Type
	}
	if c.Color != nil {
		after.Color = *c.Color
	}
	field := "total_weight_in_grams"
	if c.Total != nil {
		after.Total = *c.Total
	}
	if c.Remaining != nil {
		field = "remaining_weight_in_grams"
		after.Remaining = *c.Remaining
	}
	switch {
	case after.Remaining > after.Total:
		return &Error{Kind: Conflict, Field: field, Detail: fmt.Sprintf("%v g would remain of a total of %v g", after.Remaining, after.Total)}
	case after.Remaining < after.Reserved:
		return &Error{Kind: Conflict, Field: field, Detail: fmt.Sprintf("%v g are reserved by jobs that are %s or %s; that much must remain", after.Reserved, Queued, Running)}
	}
	d.changeFilament(before, &after)
	return nil
}

func (d *decision) deleteFilament(id ID) *Error {
	before := d.Filament(id)
	if before == nil {
		return notFound(KindFilament, id)
	}
	if before.Reserved > 0 {
		return &Error{Kind: Conflict, Detail: fmt.Sprintf("filament %q is used by jobs that are %s or %s (%v g): finish, cancel or move them first", id, Queued, Running, before.Reserved)}
	}
	d.changeFilament(before, nil)
	return nil
}

// shortOf refuses a weight that the spool does not have.
func shortOf(f *Filament, field string, weight, available Grams) *Error {
	return &Error{
		Kind:      Conflict,
		Field:     field,
		Detail:    fmt.Sprintf("%v g are needed, %v g of filament %q are available", weight, available, f.ID),
		Available: &available,
	}
}

// settle alters what a spool has and has promised, both by the change given.
func (d *decision) settle(before *Filament, remaining, reserved Grams) {
	after := *before
	after.Remaining += remaining
	after.Reserved += reserved
	d.changeFilament(before, &after)
}

func (d *decision) mustFilament(id, job ID) *Filament {
	f := d.Filament(id)
	if f == nil {
		panic(fmt.Sprintf("decide: the filament %q of the active job %q is gone", id, job))
	}
	return f
}

func (d *decision) changeFilament(before, after *Filament) {
	change := Change{Kind: KindFilament, FilamentBefore: before, FilamentAfter: after}
	if after != nil {
		change.ID = after.ID
		after.UpdatedAt = d.stamp.At
		after.Available = after.Remaining - after.Reserved
		if after.Available < 0 || after.Reserved < 0 || after.Remaining > after.Total {
			panic(fmt.Sprintf("decide: a spool that cannot be: %+v", *after))
		}
	} else {
		change.ID = before.ID
	}
	d.changes = append(d.changes, change)
}
