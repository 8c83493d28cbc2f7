package lab

import (
	"context"
	"fmt"
	"time"

	"github.com/confab-im/confab/deploy/faultlab/history"
	"github.com/confab-im/confab/edge/client"
	"github.com/confab-im/confab/subjects"
	"github.com/confab-im/confab/subjects/wire"
)

// revoked is the user whose sessions are ended all the time.
const revoked subjects.User = "rex"

// revokedDevices is how many devices are signed in, each by itself.
const revokedDevices = 3

// endsWithin bounds the wait for the end of a connection whose session was ended. The checker says what is too long.
const endsWithin = 20 * time.Second

func prepareRevocations(ctx context.Context, l *Lab) (work, error) {
	_, err := client.Register(ctx, l.url(0), wire.Register{User: revoked, Password: password})
	return l.revoke, err
}

// revoke signs devices in, ends the session of one, and then all of them.
func (l *Lab) revoke(ctx, done context.Context) error {
	for once := true; once || ctx.Err() == nil; once = false {
		devices := l.signIn(done)
		if len(devices) == revokedDevices {
			l.endSession(done, devices[0], wire.Logout{Session: devices[1].signedIn()}, devices[1])
			l.endSession(done, devices[0], wire.Logout{All: true}, devices[0], devices[2])
		}
		for _, p := range devices {
			if err := p.client.Close(); err != nil {
				return err
			}
			p.record(history.Record{Kind: history.Close}) // also of those that nobody ended
		}
		sleep(ctx, tryPause)
	}
	return nil
}

// signIn connects devices with sessions of their own, and nothing else to come back with. It returns fewer where done ends.
func (l *Lab) signIn(done context.Context) (list []*person) {
	for i := range revokedDevices {
		p := l.newPerson(revoked, subjects.Device(fmt.Sprintf("d%d", i)), i)
		for p.client == nil && done.Err() == nil {
			within, cancel := context.WithTimeout(done, startWithin)
			tokens, err := client.Login(within, l.url(i), wire.Login{User: revoked, Password: password, Device: p.device})
			if err == nil {
				p.client, err = client.Dial(within, l.url(i), client.WithTokens(tokens), client.WithDevice(p.device), client.WithOnEvent(p.observe))
			}
			cancel()
			if err != nil {
				p.client = nil
				sleep(done, tryPause)
			}
		}
		if p.client != nil {
			list = append(list, p)
		}
	}
	return list
}

// signedIn returns the session of the newest connection.
func (p *person) signedIn() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.session
}

// endSession ends sessions by one device, and waits until the connections of those that it concerns are gone for good.
func (l *Lab) endSession(done context.Context, by *person, what wire.Logout, concerned ...*person) {
	sessions := make([]string, len(concerned))
	for i, p := range concerned {
		sessions[i] = p.signedIn()
	}
	for {
		_, err := asking[*wire.Logout, wire.Empty](done, by, "auth.logout", &what)
		if err == nil || by.client.Err() != nil { // or it was done, and the answer did not come
			break
		}
		if sleep(done, tryPause); done.Err() != nil {
			return
		}
	}
	for i, p := range concerned {
		p.record(history.Record{Kind: history.Revoke, Session: sessions[i]})
	}
	within, cancel := context.WithTimeout(done, endsWithin)
	defer cancel()
	for _, p := range concerned {
		for p.client.Err() == nil && within.Err() == nil {
			sleep(within, time.Millisecond)
		}
	}
}
