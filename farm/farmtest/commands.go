package farmtest

import (
	"fmt"

	"pgregory.net/rapid"

	"raft3d/farm"
)

// Start is when drawn commands begin to be proposed.
const Start farm.Time = 1_700_000_000_000

// Step is a command with its stamp.
type Step struct {
	Command farm.Command
	Stamp   farm.Stamp
}

// Steps draws up to most commands about few objects, so that they meet: most have the right form, and many are
// allowed. Three sequences in four begin with a farm that can print, since few get that far by chance. Clocks go back
// at times, as those of different nodes do.
func Steps(most int) *rapid.Generator[[]Step] {
	return rapid.Custom(func(t *rapid.T) []Step {
		steps := make([]Step, rapid.IntRange(0, most).Draw(t, "steps"))
		var given []farm.Command
		if rapid.IntRange(0, 3).Draw(t, "bare") > 0 {
			given = furniture()
		}
		for i := range steps {
			var command farm.Command
			if i < len(given) {
				command = given[i]
			} else {
				command = Commands().Draw(t, "command")
			}
			steps[i] = Step{
				Command: command,
				Stamp: farm.Stamp{
					At:    Start + farm.Time(i*1000+rapid.IntRange(-5000, 5000).Draw(t, "clock")),
					Actor: "tester",
					NewID: farm.ID(fmt.Sprintf("new-%d", i)),
				},
			}
		}
		return steps
	})
}

// furniture is two printers, two spools, and a job for each printer.
func furniture() []farm.Command {
	var commands []farm.Command
	for _, n := range []farm.ID{"1", "2"} {
		commands = append(commands,
			farm.CreatePrinter{Text: farm.Text{ID: "p" + n, Name: "MK4"}, Company: "Prusa", Model: "MK4"},
			farm.CreateFilament{Text: farm.Text{ID: "f" + n, Name: "blue"}, Type: "PLA", Color: "blue", Total: 1000 * farm.Gram},
			farm.CreateJob{Text: farm.Text{ID: "j" + n, Name: "vase"}, PrinterID: "p" + n, FilamentID: "f" + n, Filepath: "vase.gcode", Weight: 100 * farm.Gram},
		)
	}
	return commands
}

// Commands draws one command. The bigger kinds come more often: they need others before them.
func Commands() *rapid.Generator[farm.Command] {
	return rapid.Custom(func(t *rapid.T) farm.Command {
		switch rapid.IntRange(0, 19).Draw(t, "kind") {
		case 0:
			return farm.CreatePrinter{Text: text(t, "p"), Company: "Prusa", Model: oneLine(t)}
		case 1, 2:
			total := grams(t)
			c := farm.CreateFilament{Text: text(t, "f"), Type: rapid.SampledFrom([]string{"PLA", "petg", "wood"}).Draw(t, "type"), Color: "red", Total: total}
			if rapid.Bool().Draw(t, "with remaining") {
				remaining := grams(t)
				c.Remaining = &remaining
			}
			return c
		case 3, 4, 5, 6, 7:
			return farm.CreateJob{Text: text(t, "j"), PrinterID: id(t, "p"), FilamentID: id(t, "f"), Filepath: "a/b.gcode", Weight: grams(t)}
		case 8:
			return farm.PatchPrinter{Patch: patch(t, "p"), Company: maybe(t, oneLine), Model: maybe(t, oneLine)}
		case 9:
			return farm.PatchFilament{Patch: patch(t, "f"), Color: maybe(t, oneLine), Total: maybe(t, grams), Remaining: maybe(t, grams)}
		case 10, 11:
			return farm.PatchJob{
				Patch:     patch(t, "j"),
				PrinterID: maybe(t, func(t *rapid.T) farm.ID { return id(t, "p") }), FilamentID: maybe(t, func(t *rapid.T) farm.ID { return id(t, "f") }),
				Filepath: maybe(t, oneLine), Weight: maybe(t, grams),
			}
		case 12, 13, 14, 15, 16, 17:
			return farm.SetJobStatus{ID: id(t, "j"), Status: rapid.SampledFrom(farm.Statuses).Draw(t, "status"), Used: maybe(t, grams)}
		default:
			kind := rapid.SampledFrom(farm.Kinds).Draw(t, "deleted")
			return farm.Delete{Kind: kind, ID: id(t, map[farm.Kind]string{farm.KindPrinter: "p", farm.KindFilament: "f", farm.KindJob: "j"}[kind])}
		}
	})
}

func id(t *rapid.T, prefix string) farm.ID {
	most := map[string]int{"p": 3, "f": 3, "j": 6}[prefix]
	return farm.ID(fmt.Sprintf("%s%d", prefix, rapid.IntRange(1, most).Draw(t, prefix)))
}

func text(t *rapid.T, prefix string) farm.Text {
	given := farm.Text{ID: id(t, prefix), Name: oneLine(t)}
	if rapid.IntRange(0, 9).Draw(t, "without id") == 0 {
		given.ID = ""
	}
	if rapid.IntRange(0, 3).Draw(t, "labelled") == 0 {
		given.Labels = map[string]string{"team": oneLine(t), "bay": "7"}
	}
	return given
}

func patch(t *rapid.T, prefix string) farm.Patch {
	p := farm.Patch{ID: id(t, prefix), Name: maybe(t, oneLine)}
	if rapid.IntRange(0, 3).Draw(t, "labels patched") == 0 {
		p.Labels = &farm.LabelPatch{
			Clear: rapid.Bool().Draw(t, "clear"),
			Set:   map[string]*string{"team": maybe(t, oneLine), "bay": maybe(t, oneLine)},
		}
	}
	return p
}

// grams are mostly small against a spool, sometimes finer than a gram, seldom out of range.
func grams(t *rapid.T) farm.Grams {
	switch rapid.IntRange(0, 9).Draw(t, "weight") {
	case 0:
		return farm.Grams(rapid.IntRange(-1, 1).Draw(t, "milligrams"))
	case 1, 2:
		return 1000 * farm.Gram
	case 3:
		return farm.Grams(rapid.IntRange(1, 2_000_000).Draw(t, "milligrams"))
	default:
		return farm.Grams(rapid.IntRange(1, 40).Draw(t, "tens")) * 10 * farm.Gram
	}
}

func oneLine(t *rapid.T) string {
	return rapid.SampledFrom([]string{"MK4", " blue ", "größer", `a "quoted" \ one`, "<b>&", "3D 打印", "x\u2028y"}).Draw(t, "text")
}

func maybe[T any](t *rapid.T, draw func(*rapid.T) T) *T {
	if rapid.Bool().Draw(t, "absent") {
		return nil
	}
	value := draw(t)
	return &value
}
