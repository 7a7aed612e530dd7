package kvstore

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"raft3d/farm"
)

//go:generate go build -o ../bin/ google.golang.org/protobuf/cmd/protoc-gen-go
//go:generate protoc --plugin=../bin/protoc-gen-go --go_out=. --go_opt=paths=source_relative command.proto

// commandVersion is the newest Envelope that this program makes and takes. It takes older ones, and makes the oldest
// that can say a command: 1 has no key and no condition.
const commandVersion = 2

// What Apply answers to bytes that are no command of this version. The details are constant: a decoder's own words
// differ between builds, and every node must say the same.
var (
	errGarbage        = &farm.Error{Kind: farm.Malformed, Detail: "the command in the log cannot be read"}
	errBadKey         = &farm.Error{Kind: farm.Malformed, Detail: "the command in the log has a key of the wrong form"}
	errUnknownVersion = &farm.Error{Kind: farm.Malformed, Detail: "the command in the log is of a version that this node does not know"}
	errUnknownCommand = &farm.Error{Kind: farm.Malformed, Detail: "the command in the log is of a kind that this node does not know"}
)

// Encode makes the bytes of c that go into the log. It fails where a text is not UTF-8, which Check refuses too.
func Encode(c farm.Command, s farm.Stamp) ([]byte, error) {
	if b, ok := encodeQuick(c, &s); ok {
		return b, nil
	}
	return encodeAny(c, s)
}

func encodeAny(c farm.Command, s farm.Stamp) ([]byte, error) {
	e := &Envelope{Version: 1, AtMs: int64(s.At), Actor: s.Actor, NewId: string(s.NewID)}
	if s.Key != "" {
		e.Version, e.Key, e.Fingerprint = 2, s.Key, s.Fingerprint[:]
	}
	if s.IfMatch != nil || s.IfMatchAny {
		e.Version, e.IfMatch = 2, &Condition{Revisions: s.IfMatch, Any: s.IfMatchAny}
	}
	switch c := c.(type) {
	case farm.CreatePrinter:
		e.Command = &Envelope_CreatePrinter{&CreatePrinter{Text: encodeText(c.Text), Company: c.Company, Model: c.Model}}
	case farm.CreateFilament:
		e.Command = &Envelope_CreateFilament{&CreateFilament{
			Text: encodeText(c.Text), Type: c.Type, Color: c.Color, TotalMg: int64(c.Total), RemainingMg: as[int64](c.Remaining),
		}}
	case farm.CreateJob:
		e.Command = &Envelope_CreateJob{&CreateJob{
			Text: encodeText(c.Text), PrinterId: string(c.PrinterID), FilamentId: string(c.FilamentID), Filepath: c.Filepath, WeightMg: int64(c.Weight),
		}}
	case farm.PatchPrinter:
		e.Command = &Envelope_PatchPrinter{&PatchPrinter{Patch: encodePatch(c.Patch), Company: c.Company, Model: c.Model}}
	case farm.PatchFilament:
		e.Command = &Envelope_PatchFilament{&PatchFilament{
			Patch: encodePatch(c.Patch), Type: c.Type, Color: c.Color, TotalMg: as[int64](c.Total), RemainingMg: as[int64](c.Remaining),
		}}
	case farm.PatchJob:
		e.Command = &Envelope_PatchJob{&PatchJob{
			Patch: encodePatch(c.Patch), PrinterId: asText[string](c.PrinterID), FilamentId: asText[string](c.FilamentID), Filepath: c.Filepath, WeightMg: as[int64](c.Weight),
		}}
	case farm.SetJobStatus:
		e.Command = &Envelope_SetJobStatus{&SetJobStatus{Id: string(c.ID), Status: string(c.Status), UsedMg: as[int64](c.Used)}}
	case farm.Delete:
		e.Command = &Envelope_Delete{&Delete{Kind: string(c.Kind), Id: string(c.ID)}}
	case farm.RecordAnswer:
		e.Version, e.Command = 2, &Envelope_RecordAnswer{&RecordAnswer{Answer: encodeAnswer(c.Answer)}}
	default:
		return nil, fmt.Errorf("encode command: no form for a %T", c)
	}
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode command %T: %w", c, err)
	}
	return b, nil
}

// Decode reads what Encode made. Bytes that are no command of this version are a refusal.
func Decode(b []byte) (farm.Command, farm.Stamp, *farm.Error) {
	if c, s, ok := decodeQuick(b); ok {
		return c, s, nil
	}
	return decodeAny(b)
}

func decodeAny(b []byte) (farm.Command, farm.Stamp, *farm.Error) {
	var e Envelope
	if err := proto.Unmarshal(b, &e); err != nil {
		return nil, farm.Stamp{}, errGarbage
	}
	if e.Version < 1 || e.Version > commandVersion {
		return nil, farm.Stamp{}, errUnknownVersion
	}
	s := farm.Stamp{At: farm.Time(e.AtMs), Actor: e.Actor, NewID: farm.ID(e.NewId), Key: e.Key}
	if s.Key != "" && (!farm.ValidKey(s.Key) || len(e.Fingerprint) != len(s.Fingerprint)) {
		return nil, farm.Stamp{}, errBadKey
	}
	copy(s.Fingerprint[:], e.Fingerprint)
	if e.IfMatch != nil {
		s.IfMatch, s.IfMatchAny = append([]uint64{}, e.IfMatch.Revisions...), e.IfMatch.Any
	}
	c := decodeCommand(&e)
	if c == nil {
		return nil, farm.Stamp{}, errUnknownCommand
	}
	return c, s, nil
}

// decodeCommand returns nil for a command that this version does not have.
func decodeCommand(e *Envelope) farm.Command {
	switch c := e.Command.(type) {
	case *Envelope_CreatePrinter:
		p := c.CreatePrinter
		return farm.CreatePrinter{Text: decodeText(p.GetText()), Company: p.GetCompany(), Model: p.GetModel()}
	case *Envelope_CreateFilament:
		p := c.CreateFilament
		return farm.CreateFilament{
			Text: decodeText(p.GetText()), Type: p.GetType(), Color: p.GetColor(), Total: farm.Grams(p.GetTotalMg()), Remaining: as[farm.Grams](p.RemainingMg),
		}
	case *Envelope_CreateJob:
		p := c.CreateJob
		return farm.CreateJob{
			Text: decodeText(p.GetText()), PrinterID: farm.ID(p.GetPrinterId()), FilamentID: farm.ID(p.GetFilamentId()), Filepath: p.GetFilepath(), Weight: farm.Grams(p.GetWeightMg()),
		}
	case *Envelope_PatchPrinter:
		p := c.PatchPrinter
		return farm.PatchPrinter{Patch: decodePatch(p.GetPatch()), Company: p.Company, Model: p.Model}
	case *Envelope_PatchFilament:
		p := c.PatchFilament
		return farm.PatchFilament{
			Patch: decodePatch(p.GetPatch()), Type: p.Type, Color: p.Color, Total: as[farm.Grams](p.TotalMg), Remaining: as[farm.Grams](p.RemainingMg),
		}
	case *Envelope_PatchJob:
		p := c.PatchJob
		return farm.PatchJob{
			Patch: decodePatch(p.GetPatch()), PrinterID: asText[farm.ID](p.PrinterId), FilamentID: asText[farm.ID](p.FilamentId), Filepath: p.Filepath, Weight: as[farm.Grams](p.WeightMg),
		}
	case *Envelope_SetJobStatus:
		p := c.SetJobStatus
		return farm.SetJobStatus{ID: farm.ID(p.GetId()), Status: farm.JobStatus(p.GetStatus()), Used: as[farm.Grams](p.UsedMg)}
	case *Envelope_Delete:
		return farm.Delete{Kind: farm.Kind(c.Delete.GetKind()), ID: farm.ID(c.Delete.GetId())}
	case *Envelope_RecordAnswer:
		return farm.RecordAnswer{Answer: decodeAnswer(c.RecordAnswer.GetAnswer())}
	}
	return nil
}

func encodeAnswer(a farm.Answer) *Answer {
	return &Answer{Status: int32(a.Status), Header: a.Header, Body: a.Body}
}

func decodeAnswer(a *Answer) farm.Answer {
	return farm.Answer{Status: int(a.GetStatus()), Header: a.GetHeader(), Body: a.GetBody()}
}

func encodeText(t farm.Text) *Text {
	return &Text{Id: string(t.ID), Name: t.Name, Notes: t.Notes, Labels: t.Labels}
}

func decodeText(t *Text) farm.Text {
	return farm.Text{ID: farm.ID(t.GetId()), Name: t.GetName(), Notes: t.GetNotes(), Labels: t.GetLabels()}
}

func encodePatch(p farm.Patch) *Patch {
	encoded := &Patch{Id: string(p.ID), Name: p.Name, Notes: p.Notes}
	if p.Labels == nil {
		return encoded
	}
	encoded.Labels = &LabelPatch{Clear: p.Labels.Clear, Set: make(map[string]string, len(p.Labels.Set))}
	for _, key := range slices.Sorted(maps.Keys(p.Labels.Set)) {
		if value := p.Labels.Set[key]; value != nil {
			encoded.Labels.Set[key] = *value
		} else {
			encoded.Labels.Remove = append(encoded.Labels.Remove, key)
		}
	}
	return encoded
}

func decodePatch(p *Patch) farm.Patch {
	decoded := farm.Patch{ID: farm.ID(p.GetId())}
	if p == nil {
		return decoded
	}
	decoded.Name, decoded.Notes = p.Name, p.Notes
	if p.Labels == nil {
		return decoded
	}
	decoded.Labels = &farm.LabelPatch{Clear: p.Labels.Clear, Set: make(map[string]*string, len(p.Labels.Set)+len(p.Labels.Remove))}
	for _, key := range slices.Sorted(maps.Keys(p.Labels.Set)) {
		value := p.Labels.Set[key]
		decoded.Labels.Set[key] = &value
	}
	for _, key := range p.Labels.Remove {
		decoded.Labels.Set[key] = nil
	}
	return decoded
}

// as and asText turn an optional value into one of another type; nil stays nil.
func as[To, From ~int64](v *From) *To {
	if v == nil {
		return nil
	}
	to := To(*v)
	return &to
}

func asText[To, From ~string](v *From) *To {
	if v == nil {
		return nil
	}
	to := To(*v)
	return &to
}
