// Command bare is the least that a farm's HTTP API can cost: net/http with raft3d's front, and gorilla/mux, JSON read
// and written by encoding/json, and nothing behind it. It agrees with nobody and keeps nothing: a creation is answered with what it
// says, a read with a record, and a list with ten thousand that were made before. What raft3d takes beyond
// this is its own.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"time"

	"github.com/gorilla/mux"

	"raft3d/httpapi/front"
)

type printer struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Notes     string            `json:"notes"`
	Labels    map[string]string `json:"labels"`
	Company   string            `json:"company"`
	Model     string            `json:"model"`
	Job       *string           `json:"current_job_id"`
	CreatedAt time.Time         `json:"created_at"`
	UpdatedAt time.Time         `json:"updated_at"`
	Revision  uint64            `json:"revision"`
}

const listed = 10_000

func main() {
	debug.SetGCPercent(400) // as raft3d has it
	one, all, err := records()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bare:", err)
		os.Exit(1)
	}
	router := mux.NewRouter().UseEncodedPath()
	router.Path("/api/v1/printers").Methods(http.MethodPost).HandlerFunc(create)
	router.Path("/api/v1/printers").Methods(http.MethodGet).HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, all) })
	router.Path("/api/v1/printers/{id}").HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, one) })
	router.PathPrefix("/").HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, []byte("[]")) })
	server := &http.Server{
		Handler: router, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 15 * time.Second, WriteTimeout: 90 * time.Second,
		IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
	}
	l, err := net.Listen("tcp", os.Args[1])
	if err == nil {
		takes := func(r *http.Request) bool {
			return r.Method == http.MethodPost || len(r.URL.Path) > len("/api/v1/printers")
		}
		err = (&front.Server{HTTP: server, Takes: takes}).Serve(l)
	}
	fmt.Fprintln(os.Stderr, "bare:", err)
	os.Exit(1)
}

// records are one, and a list of many as raft3d would send it.
func records() (one, all []byte, err error) {
	p := printer{
		ID: "0123456789-r10000", Name: "a printer of a measurement", Company: "Prusa", Model: "MK4S", Labels: map[string]string{"room": "b12", "row": "7"},
		Notes: "cleaned, nozzle 0.4 mm, first layer checked; cleaned, nozzle 0.4 mm, first layer checked; cleaned, nozzle 0.4 mm, first l",
	}
	if one, err = json.Marshal(&p); err != nil {
		return nil, nil, err
	}
	all = bytes.Join(slices.Repeat([][]byte{one}, listed), []byte(",\n"))
	return one, slices.Concat([]byte("["), all, []byte("]\n")), nil
}

func create(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var p printer
	if err := json.Unmarshal(body, &p); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.CreatedAt = time.Now()
	p.UpdatedAt = p.CreatedAt
	if body, err = json.Marshal(&p); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Location", "/api/v1/printers/"+p.ID)
	answer(w, http.StatusCreated, body)
}

func answer(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("ETag", `"1"`)
	h.Set("Raft3D-Revision", "1")
	h.Set("X-Total-Count", strconv.Itoa(listed))
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone, where it fails
}
