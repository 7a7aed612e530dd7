package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/urfave/cli/v3"

	"raft3d/client"
)

// The verbs for what the farm has: printers, filaments and jobs.

func printerVerbs() verb {
	return verb{name: "printers", usage: "the printers of the farm", verbs: objectVerbs("printer", client.PrintersPath, objectKind{
		example:  "-model=MK4",
		filters:  map[string]string{"company": "company", "model": "model"},
		filtered: []cli.Flag{textFlag("company", "`NAME` only of this maker"), textFlag("model", "`NAME` only this model")},
		columns:  []column{{title: "ID"}, {title: "COMPANY"}, {title: "MODEL"}, {title: "JOB"}, {title: "NAME"}},
		row: rowOf(func(p client.Printer) []string {
			return []string{p.ID, p.Company, p.Model, orDash(p.CurrentJobID), p.Name}
		}),
		created: "-id=mk4 -company=Prusa -model=MK4",
		fields: []cli.Flag{
			needed(textFlag("company", "`NAME` who made it")),
			needed(textFlag("model", "`NAME` what it is")),
		},
		create: func(c *invocation) (any, error) {
			return client.NewPrinter{NewText: textOf(c), Company: c.String("company"), Model: c.String("model")}, nil
		},
	})}
}

func filamentVerbs() verb {
	return verb{name: "filaments", usage: "the spools of the farm", verbs: objectVerbs("filament", client.FilamentsPath, objectKind{
		example:  "-type=PETG",
		filters:  map[string]string{"type": "type", "color": "color"},
		filtered: []cli.Flag{textFlag("type", "`TYPE` only this plastic, such as PLA"), textFlag("color", "`NAME` only this color")},
		columns: []column{{title: "ID"}, {title: "TYPE"}, {title: "COLOR"}, {title: "TOTAL", right: true}, {title: "REMAINING", right: true},
			{title: "AVAILABLE", right: true}, {title: "NAME"}},
		row: rowOf(func(f client.Filament) []string {
			return []string{f.ID, f.Type, f.Color, f.Total.String() + " g", f.Remaining.String() + " g", f.Available.String() + " g", f.Name}
		}),
		created: "-id=black -type=PLA -color=black -weight=1000",
		fields: []cli.Flag{
			needed(textFlag("type", "`TYPE` of plastic: PLA, PETG, ABS, ...")),
			needed(textFlag("color", "`NAME` of its color")),
			needed(gramsFlag("weight", "`GRAMS` on a full spool")),
			gramsFlag("remaining", "`GRAMS` left on it, if it is not full"),
		},
		create: func(c *invocation) (any, error) {
			f := client.NewFilament{NewText: textOf(c), Type: c.String("type"), Color: c.String("color")}
			total, err := gramsOf(c, "weight")
			if err != nil {
				return nil, err
			}
			f.Total = *total
			f.Remaining, err = gramsOf(c, "remaining")
			return f, err
		},
	})}
}

func jobVerbs() verb {
	move := func(name, usage, status string, flags ...cli.Flag) verb {
		return verb{name: name, args: "ID", usage: usage, example: "raft3d jobs " + name + " bracket", flags: flags,
			do: func(ctx context.Context, c *invocation) error {
				used, err := gramsOf(c, "used")
				if err != nil {
					return err
				}
				var j client.Job
				return c.call(ctx, client.MoveJob(c.args[0], status, used), &j, func() error {
					if j.Used != nil {
						return c.say("job %s is %s, used %v g (revision %d)", clean(j.ID), clean(j.Status), *j.Used, j.Revision)
					}
					return c.say("job %s is %s (revision %d)", clean(j.ID), clean(j.Status), j.Revision)
				})
			}}
	}
	done := move("done", "say that a running job is done", "Done", gramsFlag("used", "`GRAMS` that it really took, if not its weight"))
	done.example += " -used=97.4"
	return verb{name: "jobs", usage: "the print jobs", verbs: append(objectVerbs("job", client.JobsPath, objectKind{
		example: "-status=Queued,Running -printer=mk4",
		filters: map[string]string{"status": "status", "printer": "printer_id", "filament": "filament_id"},
		filtered: []cli.Flag{
			textFlag("status", "`STATUS,...` only these of Queued, Running, Done, Canceled"),
			textFlag("printer", "`ID` only on this printer"),
			textFlag("filament", "`ID` only from this spool"),
		},
		columns: []column{{title: "ID"}, {title: "STATUS"}, {title: "PRINTER"}, {title: "SPOOL"}, {title: "GRAMS", right: true}, {title: "FILE"}},
		row: rowOf(func(j client.Job) []string {
			return []string{j.ID, j.Status, j.PrinterID, j.FilamentID, j.Weight.String(), j.Filepath}
		}),
		created: "-printer=mk4 -filament=black -file=bracket.gcode -weight=120",
		fields: []cli.Flag{
			needed(textFlag("printer", "`ID` of the printer")),
			needed(textFlag("filament", "`ID` of the spool")),
			needed(textFlag("file", "`PATH` of what is printed")),
			needed(gramsFlag("weight", "`GRAMS` that it takes")),
		},
		create: func(c *invocation) (any, error) {
			grams, err := gramsOf(c, "weight")
			if err != nil {
				return nil, err
			}
			return client.NewJob{NewText: textOf(c), PrinterID: c.String("printer"), FilamentID: c.String("filament"),
				Filepath: c.String("file"), Weight: *grams}, nil
		},
	}),
		move("start", "have a queued job printed", "Running"),
		done,
		move("cancel", "cancel a queued or running job", "Canceled", gramsFlag("used", "`GRAMS` that it took until then, if it ran")),
	)}
}

// objectKind is what differs between the verbs of printers, filaments and jobs.
type objectKind struct {
	example  string            // flags of list
	filtered []cli.Flag        // of list
	filters  map[string]string // from those flags to the API's parameters
	columns  []column
	row      func(object []byte) ([]string, error)
	created  string     // flags of add
	fields   []cli.Flag // of add
	create   func(c *invocation) (any, error)
}

// objectVerbs are the verbs of one kind of object, called by its name.
func objectVerbs(name, path string, kind objectKind) []verb {
	at := func(id string) string { return path + "/" + url.PathEscape(id) }
	stale := &cli.BoolFlag{Name: "stale", HideDefault: true, Local: true,
		Usage: "take what the node has, which may be old; it needs no quorum"}
	label := func(usage string) cli.Flag {
		return &cli.StringSliceFlag{Name: "label", Local: true, Usage: "`KEY:VALUE` " + usage + "; may be repeated"}
	}
	return []verb{
		{name: "list", usage: "list all " + name + "s, or those that the flags select", example: "raft3d " + name + "s list " + kind.example,
			flags: append(kind.filtered, label("only those with this label"), stale),
			do: func(ctx context.Context, c *invocation) error {
				filter := consistency(c)
				for flag, parameter := range kind.filters {
					if c.IsSet(flag) {
						filter.Set(parameter, c.String(flag))
					}
				}
				if labels := c.StringSlice("label"); len(labels) > 0 {
					filter["label"] = labels
				}
				return c.list(ctx, path, filter, kind)
			}},
		{name: "get", args: "ID", usage: "show all that is known of a " + name, example: "raft3d " + name + "s get 0198a2b4", flags: []cli.Flag{stale},
			do: func(ctx context.Context, c *invocation) error {
				var object json.RawMessage
				return c.call(ctx, client.Request{Method: http.MethodGet, Path: at(c.args[0]), Query: consistency(c)}, &object, func() error {
					return writeDetails(c.stdout, object)
				})
			}},
		{name: "add", usage: "add a " + name, example: "raft3d " + name + "s add " + kind.created,
			flags: append(kind.fields, textFlag("id", "`ID` of your choice; the server makes one where it is left out"),
				textFlag("name", "`TEXT` what people call it"), textFlag("notes", "`TEXT` what people should know"), label("to find it by")),
			do: func(ctx context.Context, c *invocation) error {
				object, err := kind.create(c)
				if err != nil {
					return err
				}
				if err := checkLabels(c); err != nil {
					return err
				}
				var made struct {
					ID       string
					Revision uint64
				}
				return c.call(ctx, client.Request{Method: http.MethodPost, Path: path, Body: object}, &made, func() error {
					return c.say("%s %s added (revision %d)", name, clean(made.ID), made.Revision)
				})
			}},
		{name: "rm", args: "ID", usage: "remove a " + name, example: "raft3d " + name + "s rm 0198a2b4",
			do: func(ctx context.Context, c *invocation) error {
				return c.call(ctx, client.Request{Method: http.MethodDelete, Path: at(c.args[0])}, nil, func() error {
					return c.say("%s %s removed", name, c.args[0])
				})
			}},
	}
}

// list prints a list as it comes, so that it may be longer than memory.
func (c *invocation) list(ctx context.Context, path string, filter url.Values, kind objectKind) error {
	objects := client.ListAt[json.RawMessage](ctx, c.client, path, filter)
	if c.as(asJSON) {
		separator := "["
		for object, err := range objects {
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(c.stdout, "%s%s", separator, object); err != nil {
				return err
			}
			separator = ",\n"
		}
		_, err := io.WriteString(c.stdout, strings.TrimSuffix(separator, ",\n")+"]\n")
		return err
	}
	t := newTable(c.stdout, kind.columns, c.as(asWide))
	for object, err := range objects {
		if err != nil {
			return err
		}
		row, err := kind.row(object)
		if err != nil {
			return fmt.Errorf("read an object of %s: %w", path, err)
		}
		if err := t.add(row...); err != nil {
			return err
		}
	}
	return t.end()
}

func rowOf[T any](cells func(T) []string) func([]byte) ([]string, error) {
	return func(object []byte) ([]string, error) {
		var decoded T
		if err := json.Unmarshal(object, &decoded); err != nil {
			return nil, err
		}
		return cells(decoded), nil
	}
}

func decodeAnswer(response *client.Response, answer any) error {
	if err := json.Unmarshal(response.Body, answer); err != nil {
		return fmt.Errorf("read the answer of %s: %w", response.Server, err)
	}
	return nil
}

func consistency(c *invocation) url.Values {
	if c.Bool("stale") {
		return url.Values{"consistency": {"stale"}}
	}
	return url.Values{}
}

// The flags of objects.

func textFlag(name, usage string) *cli.StringFlag {
	return &cli.StringFlag{Name: name, Usage: usage, Local: true, OnlyOnce: true}
}

func needed(f *cli.StringFlag) *cli.StringFlag {
	f.Required = true
	return f
}

func gramsFlag(name, usage string) *cli.StringFlag {
	f := textFlag(name, usage)
	f.Validator = func(value string) error { _, err := client.ParseGrams(value); return err }
	return f
}

// gramsOf is the weight that a flag of grams gives; nil: none.
func gramsOf(c *invocation, flag string) (*client.Grams, error) {
	if !c.IsSet(flag) {
		return nil, nil
	}
	g, err := client.ParseGrams(c.String(flag))
	if err != nil {
		return nil, usagef("-%s=%s: %v", flag, c.String(flag), err)
	}
	return &g, nil
}

func textOf(c *invocation) client.NewText {
	t := client.NewText{ID: c.String("id"), Name: c.String("name"), Notes: c.String("notes")}
	for _, label := range c.StringSlice("label") {
		key, value, _ := strings.Cut(label, ":")
		if t.Labels == nil {
			t.Labels = map[string]string{}
		}
		t.Labels[key] = value
	}
	return t
}

func checkLabels(c *invocation) error {
	for _, label := range c.StringSlice("label") {
		if key, _, ok := strings.Cut(label, ":"); !ok || key == "" {
			return usagef("-label=%s: it must be KEY:VALUE", label)
		}
	}
	return nil
}

func orDash(text *string) string {
	if text == nil || *text == "" {
		return "-"
	}
	return *text
}
