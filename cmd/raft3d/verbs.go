package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v3"

	"raft3d/client"
)

// verb is one thing that the program can be asked to do beside running a node; or, with verbs of its own, a noun and what
// can be done to it.
type verb struct {
	name    string
	args    string // what follows: "ID", or "[ID]" where it may be left out; empty: nothing
	usage   string // begins with a small letter and has no full stop
	example string // one line
	details string // what -h has behind the example; empty: nothing
	flags   []cli.Flag
	verbs   []verb // then there is nothing else but a name and a usage

	local    bool          // it talks to no node, so it takes neither -server nor -timeout nor -o
	patience time.Duration // the default of -timeout; 0: half a minute
	do       func(ctx context.Context, c *invocation) error
}

// verbs is everything that the program does beside running a node.
func verbs() []verb {
	return slices.Concat(
		[]verb{printerVerbs(), filamentVerbs(), jobVerbs(), eventsVerb()},
		clusterVerbs(),
		[]verb{backupVerb(), restoreVerb(), recoverVerb(), benchVerb(), configVerbs()},
	)
}

// invocation is a verb as somebody called it.
type invocation struct {
	*cli.Command
	args           []string
	client         *client.Client // nil where the verb is local
	stdout, stderr io.Writer
}

// The forms in which verbs answer, for -o.
const (
	asTable = "table" // for people, at most tableWidth wide
	asWide  = "wide"  // the same, with nothing left out
	asJSON  = "json"  // as the server sends it
)

const defaultPatience = 30 * time.Second

func (c *invocation) as(format string) bool { return c.String("o") == format }

// say writes to stdout.
func (c *invocation) say(format string, args ...any) error {
	_, err := fmt.Fprintf(c.stdout, format+"\n", args...)
	return err
}

// commands turns verbs into what cli runs. begun is called when an action begins: whatever goes wrong before is wrong use.
func commands(verbs []verb, parent string, stdout, stderr io.Writer, begun func()) (all []*cli.Command) {
	for _, v := range verbs {
		full := parent + " " + v.name
		command := &cli.Command{
			Name:                      v.name,
			Usage:                     v.usage,
			HideHelpCommand:           true,
			DisableSliceFlagSeparator: true,
			OnUsageError:              asItIs,
		}
		if v.verbs != nil {
			command.Commands = commands(v.verbs, full, stdout, stderr, begun)
			command.Action = func(_ context.Context, c *cli.Command) error {
				if c.Args().Present() {
					return usagef("%q is not a verb of %s", c.Args().First(), full)
				}
				return usagef("%s needs a verb: %s", full, strings.Join(names(v.verbs), ", "))
			}
			all = append(all, command)
			continue
		}
		command.Flags = v.flags
		if !v.local {
			command.Flags = append(slices.Clone(v.flags), clientFlags(v)...)
		}
		command.CustomHelpTemplate = "{{.FullName}} - {{.Usage}}\n\nUSAGE\n  " + strings.TrimSpace(full+" [flags] "+v.args) +
			"\n\nEXAMPLE\n  " + v.example + "\n" + v.help() + "\nFLAGS\n" + flagHelp(command.Flags)
		command.Action = func(ctx context.Context, c *cli.Command) error {
			begun()
			return v.run(ctx, &invocation{Command: c, args: c.Args().Slice(), stdout: stdout, stderr: stderr}, full)
		}
		all = append(all, command)
	}
	return all
}

func (v verb) help() string {
	if v.details == "" {
		return ""
	}
	return "\n" + v.details
}

// cli has one template for the help of all nouns, and it is this variable.
func init() { cli.SubcommandHelpTemplate = nounHelp }

const nounHelp = `{{.FullName}} - {{.Usage}}

VERBS{{range .VisibleCommands}}
  {{.FullName | printf "%-24s"}} {{.Usage}}{{end}}

{{.FullName}} VERB -h tells more.
`

func names(verbs []verb) (all []string) {
	for _, v := range verbs {
		all = append(all, v.name)
	}
	return all
}

// clientFlags are the flags of all verbs that talk to a node.
func clientFlags(v verb) []cli.Flag {
	patience := v.patience
	if patience == 0 {
		patience = defaultPatience
	}
	if patience < 0 {
		patience = 0
	}
	return []cli.Flag{
		&cli.StringFlag{Name: "server", Value: "http://" + defaultHTTP, Sources: flagEnv("server"), Local: true, OnlyOnce: true,
			Usage: "`URL,...` nodes to talk to, tried in turn; RAFT3D_SERVER in the environment"},
		&cli.DurationFlag{Name: "timeout", Value: patience, Local: true, OnlyOnce: true,
			Usage: "`TIME` after which to give up; 0: never"},
		&cli.StringFlag{Name: "o", Value: asTable, Local: true, OnlyOnce: true, Validator: oneOf(asTable, asWide, asJSON),
			Usage: "`FORM` of the answer: table, wide, or json as the server sends it"},
	}
}

// oneOf refuses a flag's value that is none of these.
func oneOf(values ...string) func(string) error {
	return func(value string) error {
		if slices.Contains(values, value) {
			return nil
		}
		return fmt.Errorf("it is %s, not %q", strings.Join(values, ", "), value)
	}
}

// run checks what follows the verb and does it.
func (v verb) run(ctx context.Context, c *invocation, full string) error {
	most := len(strings.Fields(v.args))
	least := most - strings.Count(v.args, "[")
	switch {
	case len(c.args) > most && most == 0:
		return usagef("%q is too much: nothing follows %s but flags", c.args[0], full)
	case len(c.args) > most:
		return usagef("%q is too much: %s takes %s", c.args[most], full, v.args)
	case len(c.args) < least || slices.Contains(c.args, ""):
		return usagef("%s needs %s", full, v.args)
	}
	if v.local {
		return v.do(ctx, c)
	}
	var err error
	c.client, err = client.New(client.Config{
		Servers:   strings.Split(c.String("server"), ","),
		UserAgent: "raft3d/" + thisBuild().version,
	})
	if err != nil {
		return usagef("-server=%s: %v", c.String("server"), err)
	}
	defer c.client.Close()
	timeout := c.Duration("timeout")
	if timeout < 0 {
		return usagef("-timeout=%v: it must be over 0, or 0 for no end", timeout)
	}
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %v (-timeout)", timeout))
		defer cancel()
	}
	return v.do(ctx, c)
}

// call makes one call. It prints the answer as it came for -o json, and else decodes it into answer and has show print it.
func (c *invocation) call(ctx context.Context, r client.Request, answer any, show func() error) error {
	response, err := c.client.Do(ctx, r)
	if err != nil {
		return err
	}
	if c.as(asJSON) {
		_, err := c.stdout.Write(response.Body)
		return err
	}
	if answer != nil {
		if err := decodeAnswer(response, answer); err != nil {
			return err
		}
	}
	return show()
}

// ended says whether err comes from the end of the program, and not from a limit or a fault.
func ended(ctx context.Context, err error) bool {
	return errors.Is(err, context.Canceled) && errors.Is(ctx.Err(), context.Canceled)
}
