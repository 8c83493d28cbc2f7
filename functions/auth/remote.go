package auth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/confab-im/confab/subjects/wire"
)

const (
	refreshKeys  = 15 * time.Minute // age at which a set is fetched again
	staleKeys    = 24 * time.Hour   // age at which a set is no longer used when it cannot be fetched
	refetchPause = 10 * time.Second // shortest time between two fetches of one set, whatever tokens say
	fetchTimeout = 3 * time.Second
	maxKeySet    = 256 << 10 // bytes
)

// fetcher gets key sets. It follows no redirects: only the address in the configuration is asked.
type fetcher struct {
	client *http.Client
	now    func() time.Time
	log    *slog.Logger
}

func newFetcher(now func() time.Time, log *slog.Logger) *fetcher {
	return &fetcher{now: now, log: log, client: &http.Client{
		Timeout:       fetchTimeout,
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSHandshakeTimeout: fetchTimeout, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (f *fetcher) fetch(ctx context.Context, url string) (keySet, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for keys: %w", err)
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json")
	response, err := f.client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask for keys: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask for keys: status %d", response.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxKeySet+1))
	if err != nil {
		return nil, fmt.Errorf("read keys: %w", err)
	}
	if len(data) > maxKeySet {
		return nil, errors.New("read keys: the set is larger than 256 KiB")
	}
	return parseKeySet(data)
}

// remoteKeys is the key set of one issuer behind a URL. It is fetched by the call that needs it: when there is none, when it is old, and when
// a kid is unknown, but never twice within refetchPause, so that hostile tokens cause no traffic. While an old set is being fetched
// again, other calls use it as it is.
type remoteKeys struct {
	url   string
	fetch *fetcher

	mu       sync.Mutex // guards the fields below; never held while fetching
	set      keySet
	fetched  time.Time     // when set was got
	asked    time.Time     // when a fetch last began
	fetching chan struct{} // closed at the end of the running fetch; nil when there is none
}

func newRemoteKeys(url string, fetch *fetcher) *remoteKeys {
	return &remoteKeys{url: url, fetch: fetch}
}

func (r *remoteKeys) find(ctx context.Context, kid, algorithm string) ([]jwt.VerificationKey, error) {
	set := r.current()
	if set != nil {
		if keys, err := set.find(kid, algorithm); err == nil {
			r.load(ctx, refreshKeys, false)
			return keys, nil
		}
	}
	r.load(ctx, 0, true)
	if set = r.current(); set == nil {
		return nil, wire.RetryAfter(wire.Unavailable, refetchPause, "The keys of the token's issuer cannot be had at this moment.")
	}
	return set.find(kid, algorithm)
}

// current returns the set, or nil when there is none that may be used.
func (r *remoteKeys) current() keySet {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.set == nil || r.fetch.now().Sub(r.fetched) > staleKeys {
		return nil
	}
	return r.set
}

// load fetches the set when it is older than age and the last try is long enough ago. Where another call fetches already, it waits for that one
// if wait says so.
func (r *remoteKeys) load(ctx context.Context, age time.Duration, wait bool) {
	r.mu.Lock()
	now := r.fetch.now()
	if running := r.fetching; running != nil {
		r.mu.Unlock()
		if wait {
			select {
			case <-running:
			case <-ctx.Done():
			}
		}
		return
	}
	if now.Sub(r.fetched) < age || now.Sub(r.asked) < refetchPause {
		r.mu.Unlock()
		return
	}
	done := make(chan struct{})
	r.asked, r.fetching = now, done
	r.mu.Unlock()

	// The fetch serves all who wait, so it does not end with the call that happens to run it.
	set, err := r.fetch.fetch(context.WithoutCancel(ctx), r.url)
	if err != nil {
		r.fetch.log.WarnContext(ctx, "keys of an issuer not fetched", slog.String("url", r.url), slog.Any("err", err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.set, r.fetched = set, r.fetch.now()
	}
	r.fetching = nil
	close(done)
}
