package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v3"
)

func configVerbs() verb {
	file := &configFile{}
	flags := flagsWith(file)
	return verb{name: "config", usage: "the flags of a node, the environment and -config FILE together", verbs: []verb{{
		name: "check", usage: "say what a node would be started with, where that comes from, and what is wrong",
		example: "raft3d config check -config=/etc/raft3d.toml",
		flags:   flags,
		local:   true,
		do: func(_ context.Context, c *invocation) error {
			if err := file.check(flags); err != nil {
				return err
			}
			t := newTable(c.stdout, []column{{title: "FLAG"}, {title: "VALUE"}, {title: "FROM"}}, true)
			for _, f := range flags {
				name := f.Names()[0]
				from := "default"
				if origin, noted := file.origins[name]; noted {
					from = origin
				} else if c.IsSet(name) {
					from = "command line"
				}
				if err := t.add(name, fmt.Sprint(valueOf(c.Command, name)), from); err != nil {
					return err
				}
			}
			if err := t.end(); err != nil {
				return err
			}
			if _, err := optionsOf(c.Command); err != nil {
				return err
			}
			return c.say("\nA node can be started with this.")
		},
	}}}
}

// valueOf is a flag's value, "-" where it is empty.
func valueOf(c *cli.Command, name string) any {
	if value := c.Value(name); value != "" {
		return value
	}
	return "-"
}
