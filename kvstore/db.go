package kvstore

import (
	"context"
	"errors"
	"fmt"
	"math"

	"go.etcd.io/bbolt"

	"raft3d/farm"
)

// Log is the replicated log, as the DB needs it. What Propose returns is what Apply made of the command.
type Log interface {
	// Propose puts cmd into the log and waits until it is applied here.
	Propose(ctx context.Context, cmd []byte) (any, error)
	// ReadBarrier waits until this node has applied every change that was acknowledged anywhere before the call.
	ReadBarrier(ctx context.Context) error
}

// DB is the farm as the cluster has agreed on it. Any number of goroutines may use it.
type DB struct {
	store *Store
	log   Log
}

// NewDB joins the state of this node with the log that feeds it. It takes over neither.
func NewDB(s *Store, l Log) *DB { return &DB{store: s, log: l} }

// Do has the cluster decide c. A refusal by the farm is a *farm.Error; what the log met is returned as the log said
// it, and says whether the command may still take effect. A command of the wrong form is refused at once, without a
// trip through the log, unless it has a key under which the refusal must be kept. Of commands with one key, however
// many are on their way at once, the log makes one the first, and the others get its answer with Replayed. The Result's
// object may be kept, and must not be written to.
func (d *DB) Do(ctx context.Context, c farm.Command, s farm.Stamp) (farm.Result, error) {
	if s.Key != "" && !farm.ValidKey(s.Key) {
		return farm.Result{}, errKeyForm
	}
	refusal := farm.Check(c)
	if refusal != nil && (s.Key == "" || !keepable(refusal)) {
		return farm.Result{}, refusal
	}
	cmd, err := Encode(c, s)
	if err != nil && refusal != nil {
		return farm.Result{}, refusal
	}
	if err != nil {
		return farm.Result{}, err
	}
	outcome, err := d.log.Propose(ctx, cmd)
	if err != nil {
		return farm.Result{}, err
	}
	switch outcome := outcome.(type) {
	case farm.Result:
		return outcome, nil
	case *farm.Error:
		return farm.Result{}, outcome
	}
	return farm.Result{}, fmt.Errorf("do %T: the log answered with a %T", c, outcome)
}

// View calls fn with one consistent state of the farm, as fresh as o asks for: with every change that was
// acknowledged anywhere before the call, unless o is Stale, and at o.MinRevision or later. Where that state is not
// reached before ctx ends, the error is a *farm.Error of kind Timeout; after the store was closed, of kind Unavailable.
// fn's error is returned as it is.
//
// fn holds up nobody, but pins the state: while it runs, the file can only grow.
func (d *DB) View(ctx context.Context, o farm.ReadOptions, fn func(farm.View) error) error {
	if err := d.await(ctx, o); err != nil {
		return err
	}
	return d.read(func(tx *bbolt.Tx) error {
		h, err := readHead(tx)
		if err != nil {
			return fmt.Errorf("view: %w", err)
		}
		return fn(view{tx, h})
	})
}

// Get is one object in the form in which a View has it, as fresh as o asks for, and the revision of the state that it is of;
// nil: there is none. The object may be kept, and must not be written to. Errors are those of View.
func (d *DB) Get(ctx context.Context, kind farm.Kind, id farm.ID, o farm.ReadOptions) (object []byte, revision uint64, err error) {
	if err := d.await(ctx, o); err != nil {
		return nil, 0, err
	}
	object, revision, err = d.store.get(slotKey{kind, id})
	if err == ErrClosed {
		err = errEnding
	}
	return object, revision, err
}

// await returns once this node's state is as fresh as o asks for.
func (d *DB) await(ctx context.Context, o farm.ReadOptions) error {
	if !o.Stale {
		if err := d.log.ReadBarrier(ctx); err != nil {
			return err
		}
	}
	err := d.store.awaitRevision(ctx, o.MinRevision)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrClosed):
		return errEnding
	}
	return &farm.Error{
		Kind:   farm.Timeout,
		Field:  "min_revision",
		Detail: fmt.Sprintf("this node did not reach revision %d in time", o.MinRevision),
	}
}

// errEnding is what readers are told of a Store that was closed.
var errEnding = &farm.Error{Kind: farm.Unavailable, Detail: "this node is shutting down", Outcome: farm.NotApplied}

func (d *DB) read(fn func(tx *bbolt.Tx) error) error {
	err := d.store.read(fn)
	if err == ErrClosed {
		return errEnding
	}
	return err
}

// Wait returns once the state of this node is beyond revision after: the Events of a View then have more to show. All
// who wait are woken at once. Where ctx ends first, the error is its cause; after the store was closed, a *farm.Error
// of kind Unavailable.
func (d *DB) Wait(ctx context.Context, after uint64) error {
	if after == math.MaxUint64 {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	err := d.store.awaitRevision(ctx, after+1)
	if errors.Is(err, ErrClosed) {
		return errEnding
	}
	return err
}
