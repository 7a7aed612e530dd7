package httpapi

import (
	"context"
	"net/http"
	"time"
)

// backup streams a copy of the whole state, for raft3d restore to begin a new cluster with. The revision in its
// header is one that the copy holds: that of this node's state just before. The copy says its own.
//
// The store's state stays pinned while the client takes it; each part must be taken in writeTimeout. timeout is for
// the beginning: what no quorum lets begin ends then.
func (s *Server) backup(ctx context.Context, c *call) error {
	c.w.setRevision(s.currentRevision(ctx))
	header := c.w.Header()
	begun := func() {
		header.Set("Content-Type", "application/octet-stream")
		header.Set("Content-Disposition", `attachment; filename="raft3d-`+s.now().UTC().Format("20060102T150405Z")+`.backup"`)
		header.Set("Cache-Control", "no-store")
	}
	if c.r.Method == http.MethodHead {
		begun()
		c.w.WriteHeader(http.StatusOK)
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(c.timeout, cancel)
	defer late.Stop()
	w := &backupWriter{response: c.w, begun: func() { late.Stop(); begun() }}
	if _, err := s.farm.Backup(ctx, s.cluster.Status().ClusterID, w); err != nil && !w.lost {
		return err
	}
	return nil
}

// backupWriter sends each part as it comes. It hides what else a ResponseWriter can do: a copy that is handed over to
// the connection whole would have no bound for its parts.
type backupWriter struct {
	response *response
	begun    func() // called before the first part
	lost     bool   // the client has gone
}

func (w *backupWriter) Write(p []byte) (n int, err error) {
	if w.begun != nil {
		w.begun()
		w.begun = nil
	}
	w.response.limit(writeTimeout)
	n, err = w.response.Write(p)
	w.lost = err != nil
	return n, err
}
