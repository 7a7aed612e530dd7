package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"raft3d/farm"
)

// What all kinds of object have in common: reading one, creating, changing and deleting one, and the fields of Text.

// object answers with the object of that kind that the path names.
func object(kind farm.Kind) handler {
	return func(s *Server, ctx context.Context, c *call) error {
		found, shows, err := s.farm.Get(ctx, kind, farm.ID(c.id), c.read)
		if err != nil {
			return err
		}
		c.w.setRevision(shows)
		if found == nil {
			return &farm.Error{Kind: farm.NotFound, Detail: fmt.Sprintf("there is no %s with the id %q", strings.ReplaceAll(string(kind), "_", " "), c.id)}
		}
		revision, err := revisionOf(found)
		if err != nil {
			return err
		}
		if c.ifNoneMatch.matches(revision) {
			c.w.set(headerETag, etag(revision))
			c.w.WriteHeader(http.StatusNotModified)
			return nil
		}
		return sendObject(c.w, http.StatusOK, found)
	}
}

// remove deletes the object of that kind that the path names.
func remove(kind farm.Kind) handler {
	return func(s *Server, ctx context.Context, c *call) error {
		if _, err := s.do(ctx, c, farm.Delete{Kind: kind, ID: farm.ID(c.id)}, s.stamp(c)); err != nil {
			return err
		}
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
}

// do has the cluster decide a command, and notes the state that it led to.
func (s *Server) do(ctx context.Context, c *call, command farm.Command, stamp farm.Stamp) (farm.Result, error) {
	if c.key != "" { // a fault of form is not kept under a key; without one the Farm refuses it at once
		if fault := farm.Check(command); fault != nil {
			return farm.Result{}, fault
		}
	}
	result, err := s.farm.Do(ctx, command, stamp)
	var refused *farm.Error
	if err == nil {
		c.w.setRevision(result.Revision)
	}
	if result.Replayed || errors.As(err, &refused) && refused.Replayed {
		c.w.set(headerReplayed, "true")
	}
	return result, err
}

// add creates an object and answers with it. An id is made where the client gave none.
func (s *Server) add(ctx context.Context, c *call, command farm.Command, id farm.ID) error {
	stamp := s.stamp(c)
	if id == "" {
		stamp.NewID = farm.ID(s.newID())
	}
	result, err := s.do(ctx, c, command, stamp)
	if err != nil {
		return err
	}
	c.w.set("Location", c.route.path+"/"+string(result.ID))
	return sendObject(c.w, http.StatusCreated, result.Object)
}

// change alters an object and answers with it.
func (s *Server) change(ctx context.Context, c *call, command farm.Command) error {
	result, err := s.do(ctx, c, command, s.stamp(c))
	if err != nil {
		return err
	}
	return sendObject(c.w, http.StatusOK, result.Object)
}

var newline = []byte("\n")

// sendObject answers with an object in the form that it is stored in.
func sendObject(w *response, status int, object []byte) error {
	revision, err := revisionOf(object)
	if err != nil {
		return err
	}
	w.set(headerETag, etag(revision))
	send(w, status, contentJSON, object, newline)
	return nil
}

// revisionOf reads the revision that a stored object carries. The store writes it last; whatever is otherwise is decoded.
func revisionOf(object []byte) (uint64, error) {
	const last = `,"revision":`
	if i := bytes.LastIndex(object, []byte(last)); i >= 0 && len(object) > 0 {
		if revision, err := strconv.ParseUint(string(object[i+len(last):len(object)-1]), 10, 64); err == nil && object[len(object)-1] == '}' {
			return revision, nil
		}
	}
	var version struct {
		Revision uint64 `json:"revision"`
	}
	if err := json.Unmarshal(object, &version); err != nil {
		return 0, fmt.Errorf("read the revision of an object to send: %w", err)
	}
	return version.Revision, nil
}

// patch is the fields of every merge patch, and those of its kind.
func patch(p *farm.Patch, more fields) fields {
	return append(fields{{"name", removable(&p.Name, text)}, {"notes", removable(&p.Notes, text)}, {"labels", labelPatch(&p.Labels)}}, more...)
}
