package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v3"
)

const rootHelp = `raft3d - {{.Usage}}

USAGE
  raft3d [flags]         run one node of a cluster
  raft3d VERB [flags]    do something else; raft3d VERB -h tells more{{range .VisibleCommands}}
  raft3d {{.Name | printf "%-15s"}} {{.Usage}}{{end}}
  raft3d completion      print what makes a shell complete all this: bash, zsh, fish or pwsh

EXAMPLES
  Three nodes on this machine, to try things out; Ctrl-C ends them:
    raft3d dev

  A single node is a full installation; others may join it later:
    raft3d -bootstrap

  Three nodes by hand, one line a terminal; the same lines again after a stop:
    raft3d -id=node1 -http=127.0.0.1:8001 -raft=127.0.0.1:9001 -data=./data/node1 -bootstrap
    raft3d -id=node2 -http=127.0.0.1:8002 -raft=127.0.0.1:9002 -data=./data/node2 -join=127.0.0.1:8001
    raft3d -id=node3 -http=127.0.0.1:8003 -raft=127.0.0.1:9003 -data=./data/node3 -join=127.0.0.1:8001

  Ask any node of a cluster; others are tried where one does not answer:
    export RAFT3D_SERVER=http://127.0.0.1:8001,http://127.0.0.1:8002,http://127.0.0.1:8003
    raft3d jobs list -status=Queued,Running

FLAGS
  Each is also RAFT3D_<FLAG> in the environment, as in RAFT3D_HTTP_ADV, and a key in the file of -config. The flag wins
  over the environment, the environment over the file; "raft3d config check" shows what comes of it.

`

const verbHelp = `{{.FullName}} - {{.Usage}}

EXAMPLE
`

// flagHelp documents flags with one dash, as the command lines in this project spell them (cli's own help has two;
// both work). A usage that begins with a word in backquotes has it as the flag's value.
func flagHelp(flags []cli.Flag) string {
	var b strings.Builder
	for _, f := range flags {
		doc, ok := f.(cli.DocGenerationFlag)
		if !ok {
			continue
		}
		name, usage := "-"+f.Names()[0], doc.GetUsage()
		if value, rest, found := strings.Cut(strings.TrimPrefix(usage, "`"), "`"); found {
			name, usage = name+"="+value, strings.TrimSpace(rest)
		}
		if value := doc.GetValue(); doc.TakesValue() && doc.IsDefaultVisible() && value != "" {
			usage += " (" + strings.Trim(value, `"`) + ")"
		}
		fmt.Fprintf(&b, "  %-24s %s\n", name, usage)
	}
	return b.String()
}
