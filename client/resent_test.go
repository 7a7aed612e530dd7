package client

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"
)

// A node takes a change, and dies before it answers. net/http sends the request again by itself, since it has a key, and
// is refused: that last refusal says nothing of the first time.
func TestAChangeThatADyingNodeTookIsNotCalledNotApplied(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			taken <- err
			return
		}
		in := bufio.NewReader(conn)
		get, err := http.ReadRequest(in)
		if err == nil {
			_, err = conn.Write([]byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"))
		}
		if err == nil && get.Method == http.MethodGet {
			_, err = http.ReadRequest(in)
		}
		l.Close()
		conn.Close()
		taken <- err
	}()
	c := newClient(t, "http://"+l.Addr().String())
	if _, err := c.Do(within(t, 5*time.Second), Request{Method: "GET", Path: "/api/v1/printers"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err = c.Printers().Create(ctx, NewPrinter{Company: "a", Model: "b"})
	if err := <-taken; err != nil {
		t.Fatal(err)
	}
	var gaveUp *GaveUpError
	if !errors.As(err, &gaveUp) || gaveUp.Outcome == NotApplied {
		t.Fatalf("a change that a node took ends with %v, want an unknown outcome", err)
	}
}
