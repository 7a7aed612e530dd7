package client

import "time"

// Text is what every object may carry: free words of its users.
type Text struct {
	Name   string            `json:"name"`   // to 120 characters
	Notes  string            `json:"notes"`  // to 2000
	Labels map[string]string `json:"labels"` // to 32
}

// Printer is a printer.
type Printer struct {
	ID string `json:"id"`
	Text
	Company      string    `json:"company"`
	Model        string    `json:"model"`
	CurrentJobID *string   `json:"current_job_id"` // nil: it is idle
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`
	Revision     uint64    `json:"revision"` // of its last change
}

// Filament is one spool.
type Filament struct {
	ID string `json:"id"`
	Text
	Type      string    `json:"type"` // PLA, PETG, ...
	Color     string    `json:"color"`
	Total     Grams     `json:"total_weight_in_grams"`
	Remaining Grams     `json:"remaining_weight_in_grams"`
	Reserved  Grams     `json:"reserved_weight_in_grams"`  // by its Queued and Running jobs
	Available Grams     `json:"available_weight_in_grams"` // Remaining less Reserved
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	Revision  uint64    `json:"revision"`
}

// Job is a print job.
type Job struct {
	ID string `json:"id"`
	Text
	PrinterID  string     `json:"printer_id"`
	FilamentID string     `json:"filament_id"`
	Filepath   string     `json:"filepath"`
	Weight     Grams      `json:"print_weight_in_grams"`
	Status     string     `json:"status"`               // Queued, Running, Done or Canceled
	Used       *Grams     `json:"used_weight_in_grams"` // nil until it ends
	StartedAt  *time.Time `json:"started_at"`           // nil until it runs
	FinishedAt *time.Time `json:"finished_at"`          // nil until it is Done or Canceled
	CreatedAt  time.Time  `json:"created_at"`
	UpdatedAt  time.Time  `json:"updated_at"`
	Revision   uint64     `json:"revision"`
}

// NewText is what every new object may carry. The server chooses an ID where it is empty.
type NewText struct {
	ID     string            `json:"id,omitempty"`
	Name   string            `json:"name,omitempty"`
	Notes  string            `json:"notes,omitempty"`
	Labels map[string]string `json:"labels,omitempty"`
}

// NewPrinter is a printer to create.
type NewPrinter struct {
	NewText
	Company string `json:"company"`
	Model   string `json:"model"`
}

// NewFilament is a spool to create.
type NewFilament struct {
	NewText
	Type      string `json:"type"`
	Color     string `json:"color"`
	Total     Grams  `json:"total_weight_in_grams"`
	Remaining *Grams `json:"remaining_weight_in_grams,omitempty"` // nil: it is full
}

// NewJob is a print job to queue.
type NewJob struct {
	NewText
	PrinterID  string `json:"printer_id"`
	FilamentID string `json:"filament_id"`
	Filepath   string `json:"filepath"`
	Weight     Grams  `json:"print_weight_in_grams"`
}

// TextPatch changes the free words of an object; nil leaves one as it is.
type TextPatch struct {
	Name   *string            `json:"name,omitempty"`
	Notes  *string            `json:"notes,omitempty"`
	Labels map[string]*string `json:"labels,omitempty"` // nil values remove their keys; other keys stay
}

// PrinterPatch changes a printer; nil leaves a field as it is.
type PrinterPatch struct {
	TextPatch
	Company *string `json:"company,omitempty"`
	Model   *string `json:"model,omitempty"`
}

// FilamentPatch changes a spool; nil leaves a field as it is.
type FilamentPatch struct {
	TextPatch
	Type      *string `json:"type,omitempty"`
	Color     *string `json:"color,omitempty"`
	Total     *Grams  `json:"total_weight_in_grams,omitempty"`
	Remaining *Grams  `json:"remaining_weight_in_grams,omitempty"`
}

// JobPatch changes a job; nil leaves a field as it is. All but the free words can change only while it is Queued.
type JobPatch struct {
	TextPatch
	PrinterID  *string `json:"printer_id,omitempty"`
	FilamentID *string `json:"filament_id,omitempty"`
	Filepath   *string `json:"filepath,omitempty"`
	Weight     *Grams  `json:"print_weight_in_grams,omitempty"`
}
