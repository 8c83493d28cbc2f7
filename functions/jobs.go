package functions

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// prepareJob returns the work of a job, which is a call of one of the function's own methods, in the lane of its request. There is always something to do.
func (d *delivery) prepareJob() (task func(), lane string) {
	in := d.feed.in
	letter := &wire.DeadLetter{Job: &wire.DeadJob{}}
	call, err := d.readJob(letter.Job)
	if err != nil {
		return func() { d.settle(err, letter) }, ""
	}
	if call.Method == wire.MethodEntry && in.function.takesEntries() {
		var ref wire.EntryRef
		if err := call.Decode(&ref); err != nil {
			return func() { d.settle(err, letter) }, ""
		}
		return func() { d.workAgain(ref, letter) }, laneOfEntry(ref.Conversation)
	}
	lane = in.endpoints[call.Method].laneOf(call)
	return func() { d.settle(d.attempt(call), letter) }, lane
}

// workAgain hands over an entry that was given up before, if it is still there.
func (d *delivery) workAgain(ref wire.EntryRef, letter *wire.DeadLetter) {
	msg, err := d.feed.in.readEntry(subjects.StreamOf(ref.Conversation), ref.Sequence)
	switch {
	case errors.Is(err, errErased):
		d.ack()
	case err != nil:
		d.settle(err, letter)
	case first(msg.Header, headerSubject) != subjects.Message(ref.Conversation):
		d.settle(wire.Errorf(wire.BadData, "The job names an entry of another conversation."), letter)
	default:
		d.handEntry(msg.Data, letter)
	}
}

// headerSubject is where a direct read says under which subject it found the message.
const headerSubject = "Nats-Subject"

// readJob reads the call that a job is. It fills in what a dead letter needs as far as it gets.
func (d *delivery) readJob(dead *wire.DeadJob) (*Call, error) {
	in := d.feed.in
	name, method, err := subjects.ParseJob(d.msg.Subject)
	if err != nil {
		return nil, wire.Errorf(wire.BadID, "The subject of the job cannot be read.")
	}
	dead.Method, dead.ID = method, first(d.msg.Header, subjects.HeaderJob)
	if json.Valid(d.msg.Data) {
		dead.Data = d.msg.Data
	}
	call := &Call{Function: name, Method: method, Data: d.msg.Data, Attempt: d.Tries, Job: subjects.JobID(dead.ID)}
	if err := call.readIdentity(d.msg.Header); err != nil {
		return nil, err
	}
	dead.User, dead.Device, dead.Session = call.User, call.Device, call.Session
	// Whoever may schedule for itself chooses the target, and the server does not ask whether it may. It does say where the job comes from.
	if from := first(d.msg.Header, subjects.HeaderScheduler); from != "" {
		if by, _, err := subjects.ParseSchedule(from); err != nil || by != name {
			return nil, fmt.Errorf("job from %s: %w", from, wire.Errorf(wire.Forbidden, "Another function scheduled this job."))
		}
	}
	e := in.endpoints[method]
	if e == nil {
		return nil, wire.Errorf(wire.UnknownCall, "The function %s has no method %s.", name, method)
	}
	if e.method.Public && !e.method.Anonymous && call.User == "" {
		return nil, wire.Errorf(wire.Unauthenticated, "The job names no user, and clients may call its method.")
	}
	return call, nil
}
