package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"

	"github.com/urfave/cli/v3"

	"raft3d/client"
)

func eventsVerb() verb {
	return verb{
		name: "events", usage: "what changed, from the oldest change kept, or as it happens", example: "raft3d events -f -kind=print_job",
		patience: -1,
		flags: []cli.Flag{
			&cli.BoolFlag{Name: "f", HideDefault: true, Local: true, Usage: "wait for more: from now on, or from -since; Ctrl-C ends it"},
			&cli.Uint64Flag{Name: "since", HideDefault: true, Local: true, OnlyOnce: true, Usage: "`REVISION` only what came after it"},
			&cli.StringFlag{Name: "kind", Local: true, OnlyOnce: true, Validator: oneOf("printer", "filament", "print_job"),
				Usage: "`KIND` only of these: printer, filament or print_job"},
			textFlag("id", "`ID` only of this object"),
		},
		do: func(ctx context.Context, c *invocation) error {
			err := c.events(ctx)
			if c.Bool("f") && ended(ctx, err) {
				return nil // Ctrl-C is how it ends
			}
			return err
		},
	}
}

func (c *invocation) events(ctx context.Context) error {
	feed := client.Feed{Since: c.Uint64("since"), Kind: c.String("kind"), ID: c.String("id")}
	read, given := c.client.Events, c.IsSet("since")
	if c.Bool("f") {
		read = c.client.Watch
		if !given {
			now, err := c.client.Revision(ctx)
			if err != nil {
				return err
			}
			feed.Since, given = now, true
		}
	}
	err := c.showEvents(read(ctx, feed))
	var lost *client.HistoryLostError
	if errors.As(err, &lost) && !given && lost.Oldest > 0 {
		feed.Since = lost.Oldest - 1 // nobody asked for more than what is kept
		return c.showEvents(read(ctx, feed))
	}
	return err
}

func (c *invocation) showEvents(events iter.Seq2[client.Event, error]) error {
	for e, err := range events {
		if err != nil {
			return err
		}
		if c.as(asJSON) {
			if _, err := fmt.Fprintf(c.stdout, "%s\n", e.Raw); err != nil {
				return err
			}
			continue
		}
		id, more := clean(e.ID), eventDetail(e)
		if !c.as(asWide) {
			id = shorten(id, 24)
		}
		if err := c.say("%8d  %s  %-7s  %-9s  %s%s", e.Revision, e.Time.Format("01-02 15:04:05"), clean(e.Action), clean(e.Kind), id, more); err != nil {
			return err
		}
	}
	return nil
}

// eventDetail is what people want to know first of the object that changed.
func eventDetail(e client.Event) string {
	var object struct {
		Status    string
		Available *client.Grams `json:"available_weight_in_grams"`
	}
	if e.Action == "deleted" || json.Unmarshal(e.Object, &object) != nil {
		return ""
	}
	switch {
	case object.Status != "":
		return " " + clean(object.Status)
	case object.Available != nil:
		return fmt.Sprintf(" %v g", *object.Available)
	}
	return ""
}
