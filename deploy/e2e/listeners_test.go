package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/confab-im/confab/subjects/wire"
)

// certificate writes a certificate for localhost and its key, and returns where, and who trusts it.
func certificate(t *testing.T) (certFile, keyFile string, trust *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust = x509.NewCertPool()
	trust.AddCert(mustParse(t, der))
	return certFile, keyFile, trust
}

func mustParse(t *testing.T, der []byte) *x509.Certificate {
	t.Helper()
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestAListenerForTheNetworkSpeaksTLSAndWantsInvites(t *testing.T) {
	certFile, keyFile, trust := certificate(t)
	p := start(t, "confab", "up", "--listen", "0.0.0.0:0", "--tls-certificate", certFile, "--tls-key", keyFile,
		"--nats-listen", "127.0.0.1:0", "--ops-listen", "", "--data", t.TempDir())
	address := strings.TrimPrefix(p.says(t, `Open +(https://[^/]+)/`), "https://")
	shake := func(newest uint16) error {
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: trust, MinVersion: tls.VersionTLS10, MaxVersion: newest})
		if err == nil {
			_ = conn.Close()
		}
		return err
	}
	for version, good := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		if err := shake(version); (err == nil) != good {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
	dialer := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: trust}, HandshakeTimeout: patience}
	if _, _, err := dialer.Dial("ws://"+address+"/v1/ws", nil); err == nil {
		t.Error("the port takes a WebSocket without TLS")
	}
	for origin, want := range map[string]int{"https://" + address: http.StatusSwitchingProtocols, "http://" + address: http.StatusForbidden} {
		socket, response, err := dialer.Dial("wss://"+address+"/v1/ws", http.Header{"Origin": {origin}})
		if response == nil || response.StatusCode != want {
			t.Fatalf("the origin %s is answered %v, %v", origin, response, err)
		}
		if err != nil {
			continue
		}
		defer func() { _ = socket.Close() }()
		// Registration is not open to the network unless somebody has said so.
		register := `{"id":1,"call":"auth.register","data":{"user":"eve","password":"correct horse battery"}}`
		if err := socket.WriteMessage(websocket.TextMessage, []byte(register)); err != nil {
			t.Fatal(err)
		}
		var frame wire.ServerFrame
		if err := socket.ReadJSON(&frame); err != nil || frame.Error == nil || frame.Error.Code != wire.Forbidden {
			answer, _ := json.Marshal(frame)
			t.Errorf("registering is answered %s, %v", answer, err)
		}
	}
}

func TestUnsafeListenersAreRefused(t *testing.T) {
	certFile, keyFile, _ := certificate(t)
	secure := []string{"--tls-certificate", certFile, "--tls-key", keyFile}
	for name, c := range map[string]struct {
		args   []string
		remedy string
	}{
		"no TLS":                       {[]string{"--listen", "0.0.0.0:0"}, "insecure-plaintext"},
		"no TLS, all addresses":        {[]string{"--listen", ":0"}, "insecure-plaintext"},
		"no TLS, IPv6":                 {[]string{"--listen", "[::]:0"}, "insecure-plaintext"},
		"half of what TLS needs":       {[]string{"--tls-certificate", certFile}, "tls-key"},
		"no limits for the network":    {append(secure, "--listen", "0.0.0.0:0", "--limits", "none"), "loopback"},
		"the NATS port to the network": {[]string{"--nats-listen", "0.0.0.0:0"}, "loopback"},
		"profiles to the network":      {[]string{"--pprof", "0.0.0.0:0"}, "loopback"},
		"a short secret":               {[]string{"--issuers", `[{"issuer":"x","audience":"y","secret":"0123456789012345678901234567890"}]`}, "shorter than 32"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"up", "--listen", "127.0.0.1:0", "--nats-listen", "127.0.0.1:0", "--ops-listen", "", "--data", t.TempDir()}, c.args...)
			p := start(t, "confab", args...)
			if code := exitCode(t, p); code == 0 || !strings.Contains(strings.Join(p.lines, "\n"), c.remedy) {
				t.Errorf("it ended with %d and wrote:\n%s", code, strings.Join(p.lines, "\n"))
			}
		})
	}
}
