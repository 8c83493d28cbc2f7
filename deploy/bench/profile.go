package bench

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// profiles takes profiles of a child while it is measured.
type profiles struct {
	run *run
	url string // of the child's listener for them
}

// profilePatience is how long a profile may take beside the time that it is of.
const profilePatience = 30 * time.Second

// noName is what does not stand in names of files.
var noName = regexp.MustCompile(`[^a-z0-9]+`)

// take begins a profile of the processor over the time of one measurement, to whole seconds, and returns what waits for it and adds one of the memory.
func (p *profiles) take() (taken func()) {
	doing := "measuring"
	if said := p.run.doing.Load(); said != nil {
		doing = *said
	}
	name := fmt.Sprintf("%s-%02d-%s", p.run.report.Name, p.run.shots.Add(1), strings.Trim(noName.ReplaceAllString(strings.ToLower(doing), "-"), "-"))
	seconds := int(math.Ceil(p.run.config.Lasts.Seconds()))
	ended := make(chan error, 1)
	go func() { ended <- p.fetch(fmt.Sprintf("profile?seconds=%d", seconds), name+".cpu.pprof", seconds) }()
	return func() {
		if err := errors.Join(<-ended, p.fetch("heap", name+".heap.pprof", 0)); err != nil {
			p.run.report.note("There is no profile %s: %v", name, err)
		}
	}
}

// fetch writes one profile into a file.
func (p *profiles) fetch(what, name string, seconds int) error {
	client := http.Client{Timeout: time.Duration(seconds)*time.Second + profilePatience}
	defer client.CloseIdleConnections()
	answer, err := client.Get(p.url + "/debug/pprof/" + what)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the child answers with %s", answer.Status)
	}
	file, err := os.OpenFile(filepath.Join(p.run.config.Profile, name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, answer.Body)
	return errors.Join(err, file.Close())
}
