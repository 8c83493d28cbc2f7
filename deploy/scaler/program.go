package scaler

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/confab-im/confab/deploy/ops"
	"github.com/confab-im/confab/deploy/process"
)

// programConfig is the configuration of the program.
type programConfig struct {
	Log         process.LogConfig
	NATS        process.NATSConfig
	Listen      string        `conf:"listen" help:"where KEDA connects, by gRPC"`
	Certificate string        `conf:"tls-certificate" help:"PEM file with the certificate of the listener; read again for each connection"`
	Key         string        `conf:"tls-key" help:"PEM file with the key of the listener; read again for each connection"`
	ClientCA    string        `conf:"tls-client-ca" help:"PEM file with the certificates that KEDA's own must come from; empty = any client"`
	Plaintext   bool          `conf:"insecure-plaintext" help:"speak no TLS on a listener that is not loopback, because the network lets nobody but KEDA connect"`
	OpsListen   string        `conf:"ops-listen" help:"where /livez, /readyz and /metrics answer; empty = nowhere"`
	Idle        time.Duration `conf:"idle" help:"for how long a function that nobody calls keeps its instances, where its trigger does not say"`
}

func defaultConfig() programConfig {
	return programConfig{
		NATS: process.NATSConfig{URL: "nats://127.0.0.1:4222"}, Listen: "127.0.0.1:6000", OpsListen: "127.0.0.1:9090", Idle: DefaultIdle,
	}
}

// Validate returns an error that names the setting that is wrong.
func (c *programConfig) Validate() error {
	host, _, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("listen %q is not of the form host:port", c.Listen)
	}
	ip, err := netip.ParseAddr(host)
	loopback := host == "localhost" || err == nil && ip.IsLoopback()
	switch {
	case (c.Certificate == "") != (c.Key == ""):
		return errors.New("tls-certificate and tls-key belong together")
	case c.ClientCA != "" && c.Certificate == "":
		return errors.New("tls-client-ca needs tls-certificate and tls-key")
	case !loopback && c.Certificate == "" && !c.Plaintext:
		return fmt.Errorf("listen %s is not loopback, so it needs TLS: give tls-certificate and tls-key, or insecure-plaintext when the network lets nobody but KEDA connect", c.Listen)
	case c.Idle <= 0:
		return errors.New("idle must be above 0")
	}
	return nil
}

// tls returns the configuration of the listener, nil for plain text. The certificate is read for each connection, of which KEDA makes
// few, so that it can be renewed under a running program.
func (c *programConfig) tls() (*tls.Config, error) {
	if c.Certificate == "" {
		return nil, nil
	}
	load := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		certificate, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		return &certificate, err
	}
	if _, err := load(nil); err != nil {
		return nil, fmt.Errorf("load the certificate: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: load}
	if c.ClientCA != "" {
		pem, err := os.ReadFile(c.ClientCA)
		if err != nil {
			return nil, fmt.Errorf("read tls-client-ca: %w", err)
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls-client-ca %s holds no certificate", c.ClientCA)
		}
		config.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return config, nil
}

// Main is the program: it answers KEDA until ctx ends.
func Main(ctx context.Context) error {
	config := defaultConfig()
	if err := process.LoadProgram("scaler", &config, process.System()); err != nil {
		return err
	}
	log, err := config.Log.Logger(os.Stderr)
	if err != nil {
		return &process.UsageError{Err: err}
	}
	secure, err := config.tls()
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", config.Listen)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }()
	config.NATS.Violations = new(process.Violations)
	nc, closed, err := config.NATS.Connect("im-scaler", log)
	if err != nil {
		return err
	}
	defer nc.Close()
	figures := ops.NewRegistry()
	ops.OwnViolations(figures, cmp.Or(config.NATS.User(), "scaler"), config.NATS.Violations.Count)
	s, err := New(Config{NATS: nc, Log: log, Registry: figures, TLS: secure, Idle: config.Idle})
	if err != nil {
		return err
	}
	asked := ctx // ends when the end is wanted; what fails cancels only what follows
	ctx, cancel := process.WhileConnected(ctx, closed)
	defer cancel(nil)
	ready := ops.Check{Name: "scaler", Ready: s.Ready}
	if err := ops.Start(ctx, config.OpsListen, cancel, figures, ready); err != nil {
		s.Close()
		return err
	}
	log.Info("scaler listens", "address", listener.Addr().String(), "tls", secure != nil)
	if err := s.Run(ctx, listener); err != nil {
		return err
	}
	if asked.Err() == nil {
		return context.Cause(ctx)
	}
	return nil
}
