package supervisor

import (
	"os/exec"
	"runtime"
)

// starter starts every process from one thread, which lives for as long as the supervisor does: Linux ends a process with the thread that started it.
type starter struct {
	asked chan startRequest
	ended chan struct{}
}

type startRequest struct {
	cmd    *exec.Cmd
	result chan error
}

func newStarter() *starter {
	s := &starter{asked: make(chan startRequest), ended: make(chan struct{})}
	go s.run()
	return s
}

func (s *starter) run() {
	defer close(s.ended)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for r := range s.asked {
		r.result <- r.cmd.Start()
	}
}

func (s *starter) start(cmd *exec.Cmd) error {
	r := startRequest{cmd, make(chan error, 1)}
	s.asked <- r
	return <-r.result
}

// close ends the thread's work; every process must have ended.
func (s *starter) close() {
	close(s.asked)
	<-s.ended
}
