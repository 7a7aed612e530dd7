package farm

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The limits of a command's form. Lengths are in characters (Unicode code points), after trimming.
const (
	MaxIDLength         = 64
	MaxNameLength       = 120 // also of company, model and color
	MaxNotesLength      = 2000
	MaxFilepathLength   = 1024
	MaxLabels           = 32
	MaxLabelKeyLength   = 63
	MaxLabelValueLength = 256

	MaxWeight = 100_000 * Gram // of a spool, and of a print

	MaxKeyLength   = 128     // of Stamp.Key
	MaxAnswerBytes = 1 << 20 // of the body of an Answer, and again of its headers
)

// Check says whether the form of c is right: what can be told without the farm. nil: it is. Decide checks again, so
// calling it early saves a trip through the log and proves nothing.
func Check(c Command) *Error {
	_, err := Normalize(c)
	return err
}

// Normalize returns c as Decide takes it: texts trimmed, words spelled as they are stored, defaults filled in. It
// names every field whose form is wrong. It leaves c as it is, and what it returns normalizes to itself; they may share
// maps, so neither may be written to afterwards.
func Normalize(c Command) (Command, *Error) {
	var f form
	switch c := c.(type) {
	case CreatePrinter:
		f.text(&c.Text)
		f.line("company", &c.Company)
		f.line("model", &c.Model)
		return f.done(c)
	case CreateFilament:
		f.text(&c.Text)
		f.filamentType(&c.Type)
		f.line("color", &c.Color)
		f.weight("total_weight_in_grams", c.Total)
		if c.Remaining == nil {
			c.Remaining = &c.Total
		}
		f.remaining(*c.Remaining)
		if *c.Remaining > c.Total {
			f.fault("remaining_weight_in_grams", "must be at most the total of %v g, not %v", c.Total, *c.Remaining)
		}
		return f.done(c)
	case CreateJob:
		f.text(&c.Text)
		f.reference("printer_id", c.PrinterID)
		f.reference("filament_id", c.FilamentID)
		f.filepath(&c.Filepath)
		f.weight("print_weight_in_grams", c.Weight)
		return f.done(c)
	case PatchPrinter:
		if err := target(KindPrinter, c.ID); err != nil {
			return nil, err
		}
		f.patch(&c.Patch)
		optional(&c.Company, func(v *string) { f.line("company", v) })
		optional(&c.Model, func(v *string) { f.line("model", v) })
		return f.done(c)
	case PatchFilament:
		if err := target(KindFilament, c.ID); err != nil {
			return nil, err
		}
		f.patch(&c.Patch)
		optional(&c.Type, f.filamentType)
		optional(&c.Color, func(v *string) { f.line("color", v) })
		optional(&c.Total, func(v *Grams) { f.weight("total_weight_in_grams", *v) })
		optional(&c.Remaining, func(v *Grams) { f.remaining(*v) })
		return f.done(c)
	case PatchJob:
		if err := target(KindJob, c.ID); err != nil {
			return nil, err
		}
		f.patch(&c.Patch)
		optional(&c.PrinterID, func(v *ID) { f.reference("printer_id", *v) })
		optional(&c.FilamentID, func(v *ID) { f.reference("filament_id", *v) })
		optional(&c.Filepath, f.filepath)
		optional(&c.Weight, func(v *Grams) { f.weight("print_weight_in_grams", *v) })
		return f.done(c)
	case SetJobStatus:
		if err := target(KindJob, c.ID); err != nil {
			return nil, err
		}
		f.status(&c.Status)
		optional(&c.Used, func(v *Grams) { f.used(c.Status, *v) })
		return f.done(c)
	case Delete:
		if !slices.Contains(Kinds, c.Kind) {
			return nil, &Error{Kind: Malformed, Field: "kind", Detail: "must be one of " + joined(Kinds)}
		}
		if err := target(c.Kind, c.ID); err != nil {
			return nil, err
		}
		return c, nil
	case RecordAnswer:
		return recordable(c)
	}
	return nil, &Error{Kind: Malformed, Detail: fmt.Sprintf("no such command: %T", c)}
}

// recordable takes an answer that is to be kept. Only programs make them, so what is wrong is not told by field.
func recordable(c RecordAnswer) (Command, *Error) {
	headers := 0
	for _, name := range slices.Sorted(maps.Keys(c.Header)) {
		value := c.Header[name]
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, &Error{Kind: Malformed, Detail: "the headers of an answer to be kept must be valid UTF-8"}
		}
		headers += len(name) + len(value)
	}
	if c.Status < 200 || c.Status > 499 || headers > MaxAnswerBytes || len(c.Body) > MaxAnswerBytes {
		return nil, &Error{Kind: Malformed, Detail: fmt.Sprintf(
			"an answer with status %d, %d bytes of headers and %d of body cannot be kept", c.Status, headers, len(c.Body))}
	}
	c.Header, c.Body = maps.Clone(c.Header), slices.Clone(c.Body)
	return c, nil
}

// ValidKey reports whether key can be a Stamp.Key: 1 to 128 printable ASCII characters.
func ValidKey(key string) bool {
	return key != "" && len(key) <= MaxKeyLength && printable(key)
}

// optional replaces a value that is given by a copy, and has that looked at: the command's own stays as it is.
func optional[T any](value **T, look func(*T)) {
	if *value == nil {
		return
	}
	given := **value
	look(&given)
	*value = &given
}

// target refuses the id of an object that cannot exist.
func target(kind Kind, id ID) *Error {
	if !ValidID(id) {
		return notFound(kind, id)
	}
	return nil
}

// form gathers the faults of one command's form.
type form struct{ faults []FieldError }

func (f *form) fault(field, format string, args ...any) {
	f.faults = append(f.faults, FieldError{Field: field, Detail: fmt.Sprintf(format, args...)})
}

func (f *form) done(c Command) (Command, *Error) {
	if len(f.faults) == 0 {
		return c, nil
	}
	refusal := &Error{Kind: Invalid, Field: f.faults[0].Field, Detail: f.faults[0].Detail}
	if len(f.faults) > 1 {
		refusal.More = f.faults[1:]
	}
	return nil, refusal
}

func (f *form) text(t *Text) {
	if t.ID != "" {
		f.id("id", t.ID)
	}
	f.free("name", &t.Name, 0, MaxNameLength)
	f.notes(&t.Notes)
	if len(t.Labels) > MaxLabels {
		f.tooManyLabels(len(t.Labels))
		return
	}
	if t.Labels == nil {
		t.Labels = map[string]string{}
		return
	}
	var few [8]string
	keys := slices.AppendSeq(few[:0], maps.Keys(t.Labels))
	slices.Sort(keys)
	given := t.Labels
	for _, key := range keys {
		value := f.label(key, t.Labels[key])
		if value == t.Labels[key] {
			continue
		}
		if len(given) > 0 { // the first that has blanks around it: the command's own map stays as it is
			t.Labels, given = maps.Clone(t.Labels), nil
		}
		t.Labels[key] = value
	}
}

func (f *form) patch(p *Patch) {
	optional(&p.Name, func(v *string) { f.free("name", v, 0, MaxNameLength) })
	optional(&p.Notes, f.notes)
	optional(&p.Labels, func(v *LabelPatch) {
		if len(v.Set) > 2*MaxLabels {
			f.fault("labels", "must set and remove at most %d at once, not %d", 2*MaxLabels, len(v.Set))
			return
		}
		set := make(map[string]*string, len(v.Set))
		for _, key := range slices.Sorted(maps.Keys(v.Set)) {
			if v.Set[key] == nil {
				f.labelKey(key)
				set[key] = nil
				continue
			}
			value := f.label(key, *v.Set[key])
			set[key] = &value
		}
		v.Set = set
	})
}

// line takes one line of text that is needed.
func (f *form) line(field string, v *string) { f.free(field, v, 1, MaxNameLength) }

func (f *form) filepath(v *string) { f.free("filepath", v, 1, MaxFilepathLength) }

func (f *form) notes(v *string) {
	f.characters("notes", v, 0, MaxNotesLength, func(r rune) bool { return r != '\n' && r != '\r' && unicode.IsControl(r) },
		"must have no control characters but line breaks")
}

func (f *form) free(field string, v *string, least, most int) {
	f.characters(field, v, least, most, unicode.IsControl, "must have no control characters")
}

func (f *form) characters(field string, v *string, least, most int, bad func(rune) bool, noBad string) {
	*v = strings.TrimSpace(*v)
	if n := len(*v); least <= n && n <= most && printable(*v) {
		return
	}
	switch n := utf8.RuneCountInString(*v); {
	case !utf8.ValidString(*v):
		f.fault(field, "must be valid UTF-8")
	case n < least:
		f.fault(field, "is needed: %d to %d characters", least, most)
	case n > most:
		f.fault(field, "must have at most %d characters, not %d", most, n)
	case strings.ContainsFunc(*v, bad):
		f.fault(field, "%s", noBad)
	}
}

// printable reports whether s has nothing but the characters that most texts are made of: those of ASCII that are no
// control characters. It looks at eight at once: of ' ' to '~', and of no other byte, neither what is left when ' ' is
// taken from it nor what is one more has the highest bit set.
func printable(s string) bool {
	const (
		each = 0x0101010101010101
		high = each << 7
	)
	for ; len(s) >= 8; s = s[8:] {
		w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
		if ((w-each*' ')|(w+each))&high != 0 {
			return false
		}
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// label takes one label and returns its value, trimmed.
func (f *form) label(key, value string) string {
	if !f.labelKey(key) {
		return value
	}
	value = strings.TrimSpace(value)
	if len(value) > MaxLabelValueLength || !printable(value) { // else it need not be given the name of a field
		f.free("labels."+key, &value, 0, MaxLabelValueLength)
	}
	return value
}

func (f *form) labelKey(key string) (ok bool) {
	if key != "" && len(key) <= MaxLabelKeyLength && onlyOf(key, "._/-") {
		return true
	}
	// A key that is refused is not repeated: it may be of any length and form.
	f.fault("labels", "must have keys of 1 to %d characters of A-Z a-z 0-9 . _ / -", MaxLabelKeyLength)
	return false
}

func (f *form) tooManyLabels(n int) {
	f.fault("labels", "must be at most %d, not %d", MaxLabels, n)
}

func (f *form) id(field string, id ID) {
	if !ValidID(id) {
		f.fault(field, "must have 1 to %d characters of A-Z a-z 0-9 . _ ~ -", MaxIDLength)
	}
}

// reference takes the id of another object.
func (f *form) reference(field string, id ID) {
	if id == "" {
		f.fault(field, "is needed")
		return
	}
	f.id(field, id)
}

func (f *form) filamentType(v *string) {
	*v = strings.TrimSpace(*v)
	if *v == "" {
		f.fault("type", "is needed: one of %s", joined(FilamentTypes))
		return
	}
	parsed, err := ParseFilamentType(*v)
	if err != nil {
		f.fault("type", "%v", err)
		return
	}
	*v = parsed
}

func (f *form) status(v *JobStatus) {
	if *v == "" {
		f.fault("status", "is needed: one of %s", joined(Statuses))
		return
	}
	parsed, err := ParseStatus(string(*v))
	if err != nil {
		f.fault("status", "%v", err)
		return
	}
	*v = parsed
}

func (f *form) weight(field string, g Grams) {
	switch {
	case g == 0:
		f.fault(field, "is needed: over 0 and at most %v g", MaxWeight)
	case g < 0 || g > MaxWeight:
		f.fault(field, "must be over 0 and at most %v g, not %v", MaxWeight, g)
	}
}

func (f *form) remaining(g Grams) {
	if g < 0 || g > MaxWeight {
		f.fault("remaining_weight_in_grams", "must be 0 to the total, not %v g", g)
	}
}

// used takes what a job that goes to the state to says it used.
func (f *form) used(to JobStatus, g Grams) {
	switch {
	case to == Queued || to == Running:
		f.fault("used_weight_in_grams", "is known when a job ends: only with %s or %s", Done, Canceled)
	case g < 0 || g > MaxWeight:
		f.fault("used_weight_in_grams", "must be 0 to %v g, not %v", MaxWeight, g)
	}
}

// ValidID reports whether id has the form of an ID.
func ValidID(id ID) bool {
	return id != "" && len(id) <= MaxIDLength && onlyOf(string(id), "._~-")
}

// onlyOf reports whether s has nothing but ASCII letters, digits and the characters of also.
func onlyOf(s, also string) bool {
	for i := range len(s) {
		b := s[i]
		switch {
		case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9', strings.IndexByte(also, b) >= 0:
		default:
			return false
		}
	}
	return true
}

// quoted is text from outside in an error, cut to a length that is fit to read.
func quoted[T ~string](text T) string {
	const most = 80
	if len(text) > most {
		return fmt.Sprintf("%q...", string(text[:most]))
	}
	return fmt.Sprintf("%q", string(text))
}

func notFound(kind Kind, id ID) *Error {
	return &Error{Kind: NotFound, Detail: fmt.Sprintf("there is no %s with the id %s", nounOf[kind], quoted(id))}
}

// nounOf says what a person calls each kind.
var nounOf = map[Kind]string{KindPrinter: "printer", KindFilament: "filament", KindJob: "print job"}
