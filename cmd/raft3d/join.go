package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"time"
)

// joiner asks the nodes that -join names, over the same HTTP contract as every client: for the cluster's identity
// while the data directory is empty, then to be made a member. It asks for ever, since all nodes of a cluster may be
// started at once and in any order.
type joiner struct {
	addresses []string // tried in turn
	client    *http.Client
	log       *slog.Logger
	pause     func(ctx context.Context, attempt int) error // backOff, but in tests
}

func newJoiner(o options, httpAdv string, log *slog.Logger) *joiner {
	j := &joiner{
		// Its own transport: no proxy stands between nodes, and no idle connection outlives the joining.
		client: &http.Client{
			Transport:     &http.Transport{DisableKeepAlives: true},
			Timeout:       joinTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		log: log, pause: backOff,
	}
	for _, address := range o.join {
		// All nodes may be given the same list; this one has nothing to tell itself yet.
		if address != httpAdv {
			j.addresses = append(j.addresses, address)
		}
	}
	return j
}

const (
	joinTimeout  = 8 * time.Second // a call; longer than the server's own deadline of 5 s, so that its reason arrives
	joinMinPause = 50 * time.Millisecond
	joinMaxPause = 5 * time.Second
	maxAnswer    = 1 << 20 // bytes; thousands of members
)

// refused is an answer that asking again will not change.
type refused struct{ reason string }

func (r *refused) Error() string { return r.reason }

// foundCluster is the cluster that answered a joiner.
type foundCluster struct {
	id      uint64
	address string // of the member that answered
	members []foundMember
}

type foundMember struct {
	ID   string `json:"id"`
	Role string `json:"role"` // "leader", "voter" or "learner"
}

// cluster waits until a member answers and returns what it says.
func (j *joiner) cluster(ctx context.Context) (*foundCluster, error) {
	var found *foundCluster
	address, err := j.ask(ctx, http.MethodGet, "/api/v1/cluster", nil, func(answer []byte) (err error) {
		found, err = decodeCluster(answer)
		return err
	})
	if err != nil {
		return nil, err
	}
	found.address = address
	return found, nil
}

// decodeCluster reads what GET /api/v1/cluster answers.
func decodeCluster(answer []byte) (*foundCluster, error) {
	var view struct {
		ClusterID string        `json:"cluster_id"`
		Members   []foundMember `json:"members"`
	}
	if err := json.Unmarshal(answer, &view); err != nil {
		return nil, &refused{fmt.Sprintf("it does not answer like a Raft3D node: %v", err)}
	}
	id, err := strconv.ParseUint(view.ClusterID, 16, 64)
	if err != nil || id == 0 {
		return nil, &refused{"it does not answer like a Raft3D node: there is no cluster id"}
	}
	if len(view.Members) == 0 {
		return nil, errors.New("that node has not joined its cluster itself yet")
	}
	return &foundCluster{id: id, members: view.Members}, nil
}

// refuseVoter refuses an empty directory under the name of a voter: it has forgotten what it voted for. A learner
// never voted; whether that one may be replaced is for the cluster to say.
func (c *foundCluster) refuseVoter(o options) error {
	for _, m := range c.members {
		if m.ID == o.id && m.Role != "learner" {
			return &refused{fmt.Sprintf("%[1]s is a member of this cluster, but %[2]s is empty: what it promised the"+
				" others is forgotten; remove it with curl -X DELETE http://%[3]s/api/v1/cluster/members/%[1]s,"+
				" then join again", o.id, o.dataDir, c.address)}
		}
	}
	return nil
}

// membership is how a node asks to be made a member. The same one asked for twice is one member.
type membership struct {
	ID       string `json:"id"`
	Raft     string `json:"raft"`
	HTTP     string `json:"http"`
	MemberID string `json:"member_id"` // 16 hex digits
}

// become waits until the cluster has made this node a member.
func (j *joiner) become(ctx context.Context, m membership) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode the request to join: %w", err)
	}
	_, err = j.ask(ctx, http.MethodPost, "/api/v1/cluster/members", body, func([]byte) error { return nil })
	return err
}

// ask sends one request to the members in turn, round after round, until one answers for good: with success, in an
// answer that accept takes, or with a refusal. It logs once for each change of what stands in the way.
func (j *joiner) ask(ctx context.Context, method, path string, body []byte, accept func([]byte) error) (address string, err error) {
	if len(j.addresses) == 0 {
		return "", usagef("-join names nobody but this node: name another member of the cluster")
	}
	obstacle := ""
	for attempt := 0; ; attempt++ {
		var last error
		for _, address := range j.addresses {
			answer, err := j.call(ctx, address, method, path, body)
			if err == nil {
				err = accept(answer)
			}
			var final *refused
			switch {
			case err == nil:
				return address, nil
			case errors.As(err, &final):
				return "", fmt.Errorf("join the cluster of %s: %w", address, err)
			case ctx.Err() != nil:
				return "", ctx.Err()
			}
			last = err
		}
		if now := last.Error(); now != obstacle {
			j.log.Info("waiting to join", "nodes", j.addresses, "err", now)
			obstacle = now
		}
		if err := j.pause(ctx, attempt); err != nil {
			return "", err
		}
	}
}

// call makes one request to one member and returns its answer. A *refused is final; another error may pass.
func (j *joiner) call(ctx context.Context, address, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+path, bytes.NewReader(body))
	if err != nil {
		return nil, &refused{err.Error()}
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := j.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", address, err)
	}
	switch s := resp.StatusCode; {
	case s < 300:
		return answer, nil
	case s == http.StatusTooManyRequests, s >= 500:
		return nil, fmt.Errorf("%s answers %d: %s", address, s, problemDetail(answer))
	default:
		return nil, &refused{fmt.Sprintf("it answers %d: %s", s, problemDetail(answer))}
	}
}

// problemDetail is the sentence in an error's body (RFC 9457), or the beginning of a body of another kind.
func problemDetail(body []byte) string {
	var p struct{ Title, Detail string }
	if err := json.Unmarshal(body, &p); err == nil && p.Detail+p.Title != "" {
		if p.Detail == "" {
			return p.Title
		}
		return p.Detail
	}
	return string(bytes.TrimSpace(body[:min(len(body), 200)]))
}

// backOff waits before another round: 50 ms, twice as long each time, 5 s at most. It returns ctx's error when that
// ends first.
func backOff(ctx context.Context, attempt int) error {
	pause := min(joinMaxPause, joinMinPause<<min(attempt, 10))
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
