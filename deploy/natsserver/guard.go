package natsserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/confab-im/confab/deploy/natsconfig"
	"github.com/confab-im/confab/deploy/process"
	"github.com/confab-im/confab/jetstream"
)

// What is kept free on the disk of a store: a twentieth, within these bounds. A server that finds a disk full swallows what it is given from then on, without an answer, until it is started again.
const (
	leastReserve = 8 << 20
	mostReserve  = 1 << 30
)

// reserveOf returns how many bytes of a disk of a size are kept free.
func reserveOf(total uint64) uint64 { return min(max(total/20, leastReserve), mostReserve) }

// guardTick is how often the disk and the server are looked at: what other programs write within that time must fit into the reserve.
const guardTick = time.Second

// ErrBroken is what a guard ends with when a store takes no writes any more, which a new start mends.
var ErrBroken = fmt.Errorf("the NATS server cannot store any more: %w", process.ErrAgain)

// Guard watches the store of a running server. While there is too little room on its disk, whoever filled it, the server refuses writes with an error, and takes them again when there is room.
type Guard struct {
	srv    *server.Server
	dir    string
	log    *slog.Logger
	disk   func(dir string) (total, free uint64, err error)
	reason atomic.Pointer[string] // why the server stores nothing; nil = it does
}

// NewGuard returns a guard of a server with JetStream; Run watches.
func NewGuard(srv *server.Server, log *slog.Logger) *Guard {
	g := &Guard{srv: srv, log: log, disk: disk}
	if config := srv.JetStreamConfig(); config != nil {
		g.dir = config.StoreDir
	}
	return g
}

// Ready returns why the server stores nothing, as far as the last look has shown, or nil.
func (g *Guard) Ready() error {
	if reason := g.reason.Load(); reason != nil {
		return errors.New(*reason)
	}
	return nil
}

// Run watches until ctx ends. It returns ErrBroken, with why, as soon as a store that takes no writes any more would be mended by a new start: not before there is room on the disk, and until then what is stored can be read.
func (g *Guard) Run(ctx context.Context) error {
	if g.dir == "" {
		return nil // a server without a store
	}
	tick := time.NewTicker(guardTick)
	defer tick.Stop()
	for paused := false; ; {
		short := g.short(paused)
		if paused || short != "" {
			g.pause(short != "")
		}
		paused = short != ""
		broken := g.broken()
		if broken != "" && short == "" {
			return fmt.Errorf("%s: %w", broken, ErrBroken)
		}
		g.say(broken, short)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// say notes why the server stores nothing, and logs what is new.
func (g *Guard) say(reasons ...string) {
	reason := strings.Trim(strings.Join(reasons, "; "), "; ")
	before := g.reason.Load()
	switch {
	case reason == "" && before != nil:
		g.reason.Store(nil)
		g.log.Info("the nats server stores again")
	case reason != "":
		g.reason.Store(&reason)
		if before == nil {
			g.log.Error("the nats server stores nothing", "reason", reason)
		}
	}
}

// short returns that there is too little room on the disk, "" where there is enough. While the server is paused it takes a quarter more to go on, lest it stop and go.
func (g *Guard) short(paused bool) string {
	total, free, err := g.disk(g.dir)
	if err != nil {
		return "" // not known
	}
	reserve := reserveOf(total)
	if free < reserve || paused && free < reserve/4*5 {
		return fmt.Sprintf("the disk of %s has %d MiB left, and the last %d MiB are not used", g.dir, free>>20, reserve>>20)
	}
	return ""
}

// pause lets the server refuse writes, or take them again. A server of several gives away what it leads as well: the others may have room.
func (g *Guard) pause(on bool) {
	account, err := g.srv.LookupAccount(natsconfig.Account)
	if err != nil {
		return
	}
	var limits map[string]server.JetStreamAccountLimits // none
	if on {
		limits = map[string]server.JetStreamAccountLimits{"": {
			MaxMemory: -1, MaxStore: 1, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1, MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
		}}
	}
	if err := account.UpdateJetStreamLimits(limits); err != nil && g.srv.JetStreamEnabled() {
		g.log.Warn("limits of the nats server not changed", process.KeyErr, err)
	}
	if !on || !g.srv.JetStreamIsClustered() {
		return
	}
	for _, asset := range jetstream.Assets() {
		if g.srv.JetStreamIsStreamLeader(natsconfig.Account, asset.Stream) {
			_ = g.srv.JetStreamStepdownStream(natsconfig.Account, asset.Stream) // the next look tries again
		}
	}
}

// broken returns why no write can succeed until the server is started again, "" where one may.
func (g *Guard) broken() string {
	if !g.srv.Running() {
		return ""
	}
	if !g.srv.JetStreamEnabled() {
		return "JetStream was switched off, as it is when its disk is full or cannot be written"
	}
	for _, found := range g.srv.Healthz(&server.HealthzOptions{Details: true}).Errors {
		if strings.Contains(found.Error, "write error") { // all other troubles pass
			return found.Error
		}
	}
	return ""
}

// leastLimit is what the limit of a server is at least: streams with a bound of their own reserve it, and a guard watches small disks too.
const leastLimit = 1 << 30

// storeLimit returns how much a server may store at most in a directory, 0 where that is not known: the disk without the reserve. The server's own default is three quarters of what is free when it
// starts, which a store that has grown beyond that exceeds after a restart.
func storeLimit(dir string) int64 {
	for at := dir; ; at = filepath.Dir(at) { // the directory may not be there yet
		if _, err := os.Stat(at); err == nil || at == filepath.Dir(at) {
			total, _, err := disk(at)
			if err != nil {
				return 0
			}
			return int64(max(total-min(total, reserveOf(total)), leastLimit))
		}
	}
}
