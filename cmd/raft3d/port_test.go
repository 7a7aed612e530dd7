package main

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
)

func openTestPort(t *testing.T, listen, adv string) *port {
	t.Helper()
	p, err := openPort("http", listen, adv, func(*http.Server) {}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p
}

func TestAStartingNodeLivesAndIsNotReady(t *testing.T) {
	p := openTestPort(t, "127.0.0.1:0", "")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	status := func(path string) string {
		resp, err := client.Get("http://" + p.address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(resp.StatusCode, " ", resp.Header.Get("Content-Type"), " ", strings.Contains(string(body), "starting"))
	}
	if got := status("/livez"); !strings.HasPrefix(got, "200 ") {
		t.Errorf("livez: %s", got)
	}
	for _, path := range []string{"/readyz", "/api/v1/printers"} {
		if got := status(path); got != "503 application/problem+json true" {
			t.Errorf("%s: %s", path, got)
		}
	}
	p.use(http.NotFoundHandler())
	if got := status("/readyz"); !strings.HasPrefix(got, "404 ") {
		t.Errorf("in use: %s", got)
	}
}

func TestAnAddressInUseIsToldBeforeAnythingIsTouched(t *testing.T) {
	taken := openTestPort(t, "127.0.0.1:0", "")
	dir := t.TempDir() + "/node1"
	status, _, stderr := run("-bootstrap", "-http=127.0.0.1:0", "-raft="+taken.address, "-data="+dir)
	if status != exitFailed || !strings.Contains(stderr, "-raft") || !strings.Contains(stderr, "address already in use") {
		t.Errorf("status %d, %q", status, stderr)
	}
}

func TestOthersAreToldTheAddressThatTheyCanCall(t *testing.T) {
	if p := openTestPort(t, "127.0.0.1:0", "pi1.lan:8001"); p.address != "pi1.lan:8001" {
		t.Errorf("with an address to call: %s", p.address)
	}
	host, port, err := net.SplitHostPort(openTestPort(t, "localhost:0", "").address)
	if err != nil || host != "localhost" || port == "0" {
		t.Errorf("with a name and a port of the system's choice: %s %s, %v", host, port, err)
	}
}
