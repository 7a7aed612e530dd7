package main

import (
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/urfave/cli/v3"
)

// options is what a node was asked to be, checked: see optionsOf.
type options struct {
	id      string
	idGiven bool // else a data directory with a name keeps its own

	httpListen, raftListen string // host:port
	httpAdv, raftAdv       string // host:port that others call; empty: the address listened on
	dataDir                string

	bootstrap bool
	join      []string // host:port of members' HTTP addresses; empty with bootstrap

	heartbeat, election time.Duration
	snapshotBytes       int64  // WAL growth that asks for a snapshot
	snapshotEntries     uint64 // entries that ask for a snapshot; 0: only bytes count
	minFree             int64  // bytes that the data directory's disk must have free
	history             uint64 // changes that are kept for the feed

	insecure  bool
	logLevel  slog.Level
	logFormat string
}

// The defaults that make "raft3d -bootstrap" alone an installation.
const (
	defaultID   = "node1"
	defaultHTTP = "127.0.0.1:8001"
	defaultRaft = "127.0.0.1:9001"

	defaultHeartbeat     = 100 * time.Millisecond
	minHeartbeat         = 5 * time.Millisecond
	defaultElection      = time.Second
	defaultSnapshotBytes = 64 << 20
	defaultHistory       = 1_000_000
	defaultMinFree       = 64 << 20 // two preallocated WAL segments of 16 MiB, and as much again to end in order
)

// flagEnv is where a flag is found when the command line does not have it.
func flagEnv(name string) cli.ValueSourceChain {
	return cli.EnvVars("RAFT3D_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")))
}

func serverFlags() []cli.Flag { return flagsWith(&configFile{}) }

// flagsWith are the flags of a node, which take from file what neither the command line nor the environment gives.
func flagsWith(file *configFile) []cli.Flag {
	text := func(name, value, usage string) cli.Flag {
		return &cli.StringFlag{Name: name, Value: value, Usage: usage, Sources: file.sources(name), Local: true, OnlyOnce: true}
	}
	yes := func(name, usage string) cli.Flag {
		return &cli.BoolFlag{Name: name, Usage: usage, HideDefault: true, Sources: file.sources(name), Local: true}
	}
	number := func(name string, value int64, usage string) cli.Flag {
		return &cli.Int64Flag{Name: name, Value: value, Usage: usage, Sources: file.sources(name), Local: true, OnlyOnce: true}
	}
	span := func(name string, value time.Duration, usage string) cli.Flag {
		return &cli.DurationFlag{Name: name, Value: value, Usage: usage, Sources: file.sources(name), Local: true, OnlyOnce: true}
	}
	return []cli.Flag{
		// The first one: the others' values may be in the file that it names.
		&cli.StringFlag{Name: "config", Destination: &file.path, Sources: file.sources("config"), Local: true, OnlyOnce: true,
			Usage: "`FILE` where flags are read from that neither the command line nor the environment has: TOML, a key each"},
		text("id", defaultID, "`NAME` what this node is called, within its cluster and for ever"),
		text("http", defaultHTTP, "`HOST:PORT` where to listen for clients"),
		text("raft", defaultRaft, "`HOST:PORT` where to listen for the other nodes"),
		text("http-adv", "", "`HOST:PORT` what clients call, where it is not the address of -http"),
		text("raft-adv", "", "`HOST:PORT` what the other nodes call, where it is not the address of -raft"),
		text("data", "", "`DIR` where this node keeps all it has (./data/NAME)"),
		yes("bootstrap", "start a new cluster, if the data directory is empty"),
		text("join", "", "`HOST:PORT,...` join the cluster of the nodes with these -http addresses, if the data directory is empty"),
		span("heartbeat", defaultHeartbeat, "`TIME` between a leader's signs of life"),
		span("election", defaultElection, "`TIME` without a leader until another one is elected"),
		number("snapshot-bytes", defaultSnapshotBytes, "`BYTES` growth of the log after which a snapshot is taken"),
		number("snapshot-entries", 0, "`COUNT` of log entries after which a snapshot is taken; 0: only bytes count"),
		number("min-free", defaultMinFree, "`BYTES` free on the disk, beside room for a snapshot, under which nothing new is created"),
		number("history", defaultHistory, "`COUNT` of changes that the feed keeps, the newest; all nodes may differ in it"),
		yes("insecure", "listen on more than loopback, although whoever reaches the node may do everything"),
		text("log-level", "info", "`LEVEL` what is logged at least: debug, info, warn or error"),
		text("log-format", "text", "`FORMAT` how it is logged: text or json"),
	}
}

// memberName is what a member may be called; it is the identifiers' alphabet, since the name stands in URLs.
var memberName = regexp.MustCompile(`^[A-Za-z0-9._~-]{1,64}$`)

func checkName(id string) error {
	if !memberName.MatchString(id) || id == "." || id == ".." {
		return usagef("-id=%s: a name has 1 to 64 characters of A-Z a-z 0-9 . _ ~ -", id)
	}
	return nil
}

// optionsOf reads the flags of c and refuses, with a usageError, what cannot work.
func optionsOf(c *cli.Command) (options, error) {
	if path := c.String("config"); path != "" {
		if err := (&configFile{path: path}).check(serverFlags()); err != nil {
			return options{}, err
		}
	}
	o := options{
		id:              c.String("id"),
		idGiven:         c.IsSet("id"),
		httpListen:      c.String("http"),
		raftListen:      c.String("raft"),
		httpAdv:         c.String("http-adv"),
		raftAdv:         c.String("raft-adv"),
		dataDir:         c.String("data"),
		bootstrap:       c.Bool("bootstrap"),
		heartbeat:       c.Duration("heartbeat"),
		election:        c.Duration("election"),
		snapshotBytes:   c.Int64("snapshot-bytes"),
		snapshotEntries: uint64(max(0, c.Int64("snapshot-entries"))),
		minFree:         c.Int64("min-free"),
		history:         uint64(max(0, c.Int64("history"))),
		insecure:        c.Bool("insecure"),
		logFormat:       c.String("log-format"),
	}
	if err := checkName(o.id); err != nil {
		return o, err
	}
	if o.dataDir == "" {
		o.dataDir = filepath.Join("data", o.id)
	}
	if err := o.logLevel.UnmarshalText([]byte(c.String("log-level"))); err != nil {
		return o, usagef("-log-level=%s: it is debug, info, warn or error", c.String("log-level"))
	}
	if o.logFormat != "text" && o.logFormat != "json" {
		return o, usagef("-log-format=%s: it is text or json", o.logFormat)
	}
	if o.heartbeat < minHeartbeat || o.election < 3*o.heartbeat {
		return o, usagef("-heartbeat=%v -election=%v: a heartbeat is at least %v, an election timeout at least three"+
			" heartbeats; ten are usual", o.heartbeat, o.election, minHeartbeat)
	}
	if o.snapshotBytes <= 0 || c.Int64("snapshot-entries") < 0 || o.minFree < 0 {
		return o, usagef("-snapshot-bytes must be over 0, -snapshot-entries and -min-free at least 0")
	}
	if o.history == 0 {
		return o, usagef("-history=%d: at least 1 change must be kept; %d are usual", c.Int64("history"), defaultHistory)
	}
	var err error
	if o.join, err = joinAddresses(c.String("join")); err != nil {
		return o, err
	}
	if o.bootstrap && len(o.join) > 0 {
		return o, usagef("-bootstrap starts a new cluster and -join enters one that is there: give one of them")
	}
	if err := checkListen("http", o.httpListen, o.httpAdv, o.insecure); err != nil {
		return o, err
	}
	return o, checkListen("raft", o.raftListen, o.raftAdv, o.insecure)
}

// joinAddresses splits the value of -join. A scheme is allowed in front of each, since people paste what they browse.
func joinAddresses(list string) ([]string, error) {
	var addresses []string
	for address := range strings.SplitSeq(list, ",") {
		address = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(address), "http://"), "/")
		if address == "" {
			continue
		}
		if err := checkCallable(address); err != nil {
			return nil, usagef("-join=%s: %v", address, err)
		}
		addresses = append(addresses, address)
	}
	return addresses, nil
}

// checkListen refuses an address to listen on that nobody could call, or that would open an unprotected node to a
// network. flag is "http" or "raft".
func checkListen(flag, listen, adv string, insecure bool) error {
	address, err := net.ResolveTCPAddr("tcp", listen)
	if err != nil {
		return usagef("-%s=%s: it must be HOST:PORT to listen on, such as 127.0.0.1:8001 (%v)", flag, listen, err)
	}
	unspecified := address.IP == nil || address.IP.IsUnspecified()
	if !insecure && (unspecified || !address.IP.IsLoopback()) {
		return usagef("-%s=%s: whoever reaches this address may change and delete everything, since there are no access"+
			" tokens yet; listen on 127.0.0.1, or give -insecure if the network itself keeps others out", flag, listen)
	}
	if adv == "" && unspecified {
		return usagef("-%s=%s: nobody can call that address; say with -%s-adv=HOST:PORT which one others are to call",
			flag, listen, flag)
	}
	if adv != "" {
		if err := checkCallable(adv); err != nil {
			return usagef("-%s-adv=%s: %v", flag, adv, err)
		}
	}
	return nil
}

// checkCallable says what keeps address from being one that others can call. It does not look names up: they may
// be known to others only.
func checkCallable(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("it must be HOST:PORT: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || (ip != nil && ip.IsUnspecified()) {
		return fmt.Errorf("it must name a host that others can call")
	}
	if n, err := net.LookupPort("tcp", port); err != nil || n == 0 {
		return fmt.Errorf("%q is no port", port)
	}
	return nil
}
