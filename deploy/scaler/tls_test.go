package scaler

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/confab-im/confab/jetstream/jetstreamtest"
)

// authority signs certificates for one test.
type authority struct {
	t           *testing.T
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
	serial      int64
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{t: t, key: key}
	a.certificate = &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.pem, _ = a.sign(a.certificate, key)
	return a
}

// sign returns a certificate that is valid around now, and its key, both as PEM.
func (a *authority) sign(template *x509.Certificate, key *ecdsa.PrivateKey) (certificate, private []byte) {
	a.t.Helper()
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// issue returns a certificate for loopback that servers and clients may use.
func (a *authority) issue() (certificate, private []byte) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.serial++
	return a.sign(&x509.Certificate{
		SerialNumber: big.NewInt(a.serial + 1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, key)
}

// client returns the TLS of a client that trusts the authority; by is who signed its own certificate, nil for none.
func (a *authority) client(by *authority) *tls.Config {
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	config.RootCAs.AppendCertsFromPEM(a.pem)
	if by != nil {
		pair, err := tls.X509KeyPair(by.issue())
		if err != nil {
			a.t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

func TestOnlyClientsOfTheAuthorityMayAsk(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certificate, key := ours.issue()
	config := programConfig{Certificate: write("tls.crt", certificate), Key: write("tls.key", key), ClientCA: write("ca.crt", ours.pem)}
	secure, err := config.tls()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(Config{NATS: jetstreamtest.Start(t).Connect(t), TLS: secure})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the scaler ended with %v", err)
		}
	})
	healthy := func(config *tls.Config) error {
		conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(config)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err = grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
		return err
	}
	if err := healthy(ours.client(ours)); err != nil {
		t.Errorf("a client of the authority: %v", err)
	}
	for name, by := range map[string]*authority{"without a certificate": nil, "with one of another authority": theirs} {
		if healthy(ours.client(by)) == nil {
			t.Errorf("a client %s may ask", name)
		}
	}
	// A new certificate counts for the next connection.
	certificate, key = theirs.issue()
	write("tls.crt", certificate)
	write("tls.key", key)
	if err := healthy(theirs.client(ours)); err != nil {
		t.Errorf("after the certificate was replaced: %v", err)
	}
	if _, err := (&programConfig{Certificate: write("none", nil), Key: config.Key}).tls(); err == nil {
		t.Error("a file without a certificate is taken for one")
	}
}
