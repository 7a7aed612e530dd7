// Command raft3d is the whole of Raft3D in one binary: without a verb it runs one node of a cluster; dev runs three
// of them on this machine to try things out; its other verbs (see verbs.go) talk to a cluster through package client.
//
// This package wires and nothing else: it reads the flags, starts the packages in order (log, store, node, the two
// ports), translates errors between those that must not know each other, and ends everything in reverse. Whatever
// could be decided without flags, files and signals has its home in another package.
//
// Run is the program as a function, so that tests call it; only main touches the process: its signals and its exit.
// Exit status: 0 done, 1 it failed (or a node said no, or none answered), 2 it was called wrongly.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v3"
)

func main() {
	if len(os.Args) < 2 || strings.HasPrefix(os.Args[1], "-") { // no verb: a node
		if err := coarseTimers(); err != nil {
			fmt.Fprintf(os.Stderr, "raft3d: goes on with the kernel's own timer slack, which takes more CPU: %v\n", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	// This goroutine ends with the process: it must outlive everything that a second signal may have to cut short.
	go func() {
		<-signals
		cancel()
		<-signals
		fmt.Fprintln(os.Stderr, "raft3d: second signal: ended at once")
		os.Exit(exitFailed)
	}()
	os.Exit(Run(ctx, os.Args, os.Stdout, os.Stderr))
}

// The exit statuses.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// usageError says that the program was called wrongly; its text says what to do instead.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{text: fmt.Sprintf(format, args...)}
}

// Run runs the program with its arguments (the first is its own name) and returns its exit status. It ends early, and
// in good order, when ctx does. Results go to stdout, logs and errors to stderr.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	// Whatever goes wrong before an action has begun is an argument that cli could not make sense of.
	acted := false
	action := func(do cli.ActionFunc) cli.ActionFunc {
		return func(ctx context.Context, c *cli.Command) error {
			acted = true
			if c.Args().Present() {
				return usagef("%q is not a verb or flag of %s", c.Args().First(), c.FullName())
			}
			return do(ctx, c)
		}
	}
	app := &cli.Command{
		Name:                          "raft3d",
		Usage:                         "a print farm's printers, spools and queue, on several machines at once",
		CustomRootCommandHelpTemplate: rootHelp + flagHelp(serverFlags()),
		HideHelpCommand:               true,
		HideVersion:                   true,
		Writer:                        stdout,
		ErrWriter:                     stderr,
		ExitErrHandler:                func(context.Context, *cli.Command, error) {}, // the exit is main's
		OnUsageError:                  asItIs,
		Flags:                         serverFlags(),
		Action: action(func(ctx context.Context, c *cli.Command) error {
			o, err := optionsOf(c)
			if err != nil {
				return err
			}
			return serve(ctx, o, newLogger(stderr, o.logLevel, o.logFormat))
		}),
		EnableShellCompletion: true,
		Commands: append([]*cli.Command{
			{
				Name:               "dev",
				Usage:              "run three nodes on this machine, to try things out",
				CustomHelpTemplate: verbHelp + devExample + "\nFLAGS\n" + flagHelp(devFlags()),
				HideHelpCommand:    true,
				OnUsageError:       asItIs,
				Flags:              devFlags(),
				Action: action(func(ctx context.Context, c *cli.Command) error {
					d, err := newDev(c, stdout)
					if err != nil {
						return err
					}
					return d.run(ctx)
				}),
			},
			{
				Name:               "version",
				Usage:              "print the version of this program",
				CustomHelpTemplate: verbHelp + "  raft3d version\n",
				HideHelpCommand:    true,
				OnUsageError:       asItIs,
				Action: action(func(context.Context, *cli.Command) error {
					_, err := fmt.Fprintln(stdout, thisBuild())
					return err
				}),
			},
		}, commands(verbs(), "raft3d", stdout, stderr, func() { acted = true })...),
	}
	err := app.Run(ctx, args)
	if err == nil {
		return exitDone
	}
	fmt.Fprintf(stderr, "raft3d: %v\n", err)
	var wrong *usageError
	if errors.As(err, &wrong) || !acted {
		fmt.Fprintln(stderr, "raft3d -h tells what there is.")
		return exitUsage
	}
	return exitFailed
}

// asItIs keeps cli from printing its whole help over the one line that says what was wrong.
func asItIs(_ context.Context, _ *cli.Command, err error, _ bool) error { return err }
