package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"raft3d/client"
)

func Example() {
	c, err := client.New(client.Config{Servers: []string{"http://pi1:8001", "http://pi2:8001", "http://pi3:8001"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()

	job, err := c.Jobs().Create(ctx, client.NewJob{
		PrinterID: "mk4", FilamentID: "black", Filepath: "bracket.gcode", Weight: 120 * client.Gram,
	})
	var no *client.Error
	var gaveUp *client.GaveUpError
	switch {
	case errors.As(err, &no) && no.Available != nil:
		fmt.Println("the spool has only", *no.Available, "g to spare")
	case errors.As(err, &no):
		fmt.Println("the farm said no:", no)
	case errors.As(err, &gaveUp):
		fmt.Println("no node answered; the job:", gaveUp.Outcome)
	default:
		fmt.Println("queued", job.ID)
	}
}

func ExampleCollection_List() {
	c, err := client.New(client.Config{Servers: []string{"http://pi1:8001"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	for job, err := range c.Jobs().List(context.Background(), url.Values{"status": {"Queued,Running"}}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(job.ID, job.Status)
	}
}

func ExampleClient_Watch() {
	c, err := client.New(client.Config{Servers: []string{"http://pi1:8001", "http://pi2:8001"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	for event, err := range c.Watch(context.Background(), client.Feed{Kind: "print_job"}) {
		var lost *client.HistoryLostError
		if errors.As(err, &lost) {
			fmt.Println("read all jobs anew, then go on from", lost.Oldest-1)
			return
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(event.Revision, event.Action, event.ID)
	}
}
