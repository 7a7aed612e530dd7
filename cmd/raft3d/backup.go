package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v3"
)

func backupVerb() verb {
	return verb{
		name: "backup", args: "FILE", usage: "copy the whole state into a file, for raft3d restore", example: "raft3d backup farm.backup",
		patience: -1,
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "force", HideDefault: true, Local: true, Usage: "write over a file that is there"},
		},
		do: func(ctx context.Context, c *invocation) error { return c.backup(ctx, c.args[0]) },
	}
}

// backup fetches the copy into a file beside the one that is asked for, which gets its name once all of it has come and
// its sum is right: whatever happens before, a file that was there is as it was.
func (c *invocation) backup(ctx context.Context, path string) error {
	free := func() error {
		_, err := os.Lstat(path)
		switch {
		case err == nil && !c.Bool("force"):
			return fmt.Errorf("%s is there already; -force writes over it", path)
		case errors.Is(err, fs.ErrNotExist):
			return nil
		}
		return err
	}
	if err := free(); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var p *progress
	defer func() { p.end() }()
	var length int64
	revision, err := c.client.Backup(ctx, func(total int64) (io.Writer, error) {
		if err := f.Truncate(0); err != nil {
			return nil, err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		p.end()
		p = newProgress(c.stderr, "backup", total)
		return io.MultiWriter(f, p), nil
	})
	if err != nil {
		return err
	}
	length = p.done
	if err := f.Close(); err != nil {
		return err
	}
	if err := free(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	p.end()
	if c.as(asJSON) {
		return c.say(`{"file":%q,"revision":%d,"bytes":%d}`, path, revision, length)
	}
	return c.say("%s holds revision %d, %s", path, revision, size(length))
}
