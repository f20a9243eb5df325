// mintcfg signs one client certificate in exactly the form asked for and writes a talosconfig around it. With -make-ca it
// makes a CA instead, as someone other than us would.
//
//	mintcfg -make-ca PREFIX
//	mintcfg -secrets secrets.yaml [-signer PREFIX] [-o 'os:reader|user:alice'] … -out talosconfig
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"log"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
)

type options struct {
	secrets, signer, nodeCA, orgs, commonName, eku, keyAlg, endpoint, out string
	notBefore, notAfter                                                   time.Duration
	separateRDNs, isCA                                                    bool
}

func main() {
	var o options

	makeCA := flag.String("make-ca", "", "only make an Ed25519 CA: PREFIX.crt and PREFIX.key")
	flag.StringVar(&o.secrets, "secrets", "", "cluster secrets.yaml: the CA that the nodes' own certificates come from")
	flag.StringVar(&o.signer, "signer", "", "sign with PREFIX.crt and PREFIX.key instead of the cluster's CA")
	flag.StringVar(&o.nodeCA, "node-ca", "", "trust nodes by this CA certificate instead of the cluster's")
	flag.StringVar(&o.orgs, "o", "os:reader", "organizations, separated by |")
	flag.StringVar(&o.commonName, "cn", "", "common name")
	flag.StringVar(&o.eku, "eku", "client", "client, server, both, any, none or client+unknown")
	flag.StringVar(&o.keyAlg, "key", "ed25519", "ed25519, p256 or rsa")
	flag.DurationVar(&o.notBefore, "nb", -time.Minute, "notBefore, from now")
	flag.DurationVar(&o.notAfter, "na", time.Hour, "notAfter, from now")
	flag.BoolVar(&o.separateRDNs, "separate-rdns", false, "one RDN for each organization")
	flag.BoolVar(&o.isCA, "is-ca", false, "a leaf with CA:TRUE")
	flag.StringVar(&o.endpoint, "endpoint", "127.0.0.2", "the talosconfig's endpoint and node")
	flag.StringVar(&o.out, "out", "talosconfig", "file to write")
	flag.Parse()

	err := error(nil)
	if *makeCA != "" {
		err = writeCA(*makeCA)
	} else {
		err = writeTalosconfig(o)
	}

	if err != nil {
		log.Fatal(err)
	}
}

func writeCA(prefix string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}

	serial, err := randomSerial()
	if err != nil {
		return err
	}

	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{Organization: []string{"someone else"}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		SubjectKeyId: serial.Bytes(), // random, as Talos' own are
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		return err
	}

	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}

	return errors.Join(
		os.WriteFile(prefix+".crt", block("CERTIFICATE", der), 0o644),
		os.WriteFile(prefix+".key", block("PRIVATE KEY", key), 0o600),
	)
}

func writeTalosconfig(o options) error {
	bundle, err := secrets.LoadBundle(o.secrets)
	if err != nil {
		return err
	}

	issuer, signer, err := signingCA(bundle, o.signer)
	if err != nil {
		return err
	}

	template, err := leafTemplate(o)
	if err != nil {
		return err
	}

	key, err := newKey(o.keyAlg)
	if err != nil {
		return err
	}

	der, err := x509.CreateCertificate(rand.Reader, template, issuer, key.Public(), signer)
	if err != nil {
		return err
	}

	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}

	nodeCA := bundle.Certs.OS.Crt
	if o.nodeCA != "" {
		if nodeCA, err = os.ReadFile(o.nodeCA); err != nil {
			return err
		}
	}

	encode := base64.StdEncoding.EncodeToString
	text := fmt.Sprintf("context: made\ncontexts:\n  made:\n    endpoints: [%[1]s]\n    nodes: [%[1]s]\n    ca: %s\n    crt: %s\n    key: %s\n",
		o.endpoint, encode(nodeCA), encode(block("CERTIFICATE", der)), encode(block("PRIVATE KEY", pkcs8)))

	return os.WriteFile(o.out, []byte(text), 0o600)
}

// signingCA is the cluster's own CA, or the one in PREFIX.crt and PREFIX.key.
func signingCA(bundle *secrets.Bundle, prefix string) (*x509.Certificate, crypto.Signer, error) {
	if prefix == "" {
		cert, err := bundle.Certs.OS.GetCert()
		if err != nil {
			return nil, nil, err
		}

		key, err := bundle.Certs.OS.GetKey()
		if err != nil {
			return nil, nil, err
		}

		return cert, key.(crypto.Signer), nil //nolint:forcetypeassert
	}

	der, err := decode(prefix + ".crt")
	if err != nil {
		return nil, nil, err
	}

	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}

	if der, err = decode(prefix + ".key"); err != nil {
		return nil, nil, err
	}

	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, nil, err
	}

	return cert, key.(crypto.Signer), nil //nolint:forcetypeassert
}

func leafTemplate(o options) (*x509.Certificate, error) {
	serial, err := randomSerial()
	if err != nil {
		return nil, err
	}

	template := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    time.Now().Add(o.notBefore),
		NotAfter:     time.Now().Add(o.notAfter),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}

	if o.isCA {
		template.IsCA, template.BasicConstraintsValid = true, true
		template.KeyUsage |= x509.KeyUsageCertSign
	}

	switch o.eku {
	case "client":
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case "server":
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	case "both":
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	case "any":
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny}
	case "client+unknown":
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		template.UnknownExtKeyUsage = []asn1.ObjectIdentifier{{1, 3, 6, 1, 4, 1, 99999, 1}}
	case "none":
	default:
		return nil, fmt.Errorf("no extended key usage %q here", o.eku)
	}

	template.RawSubject, err = asn1.Marshal(subject(o))

	return template, err
}

func subject(o options) (name pkix.RDNSequence) {
	var together pkix.RelativeDistinguishedNameSET

	for _, org := range strings.Split(o.orgs, "|") {
		value := pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: org}

		if o.separateRDNs {
			name = append(name, pkix.RelativeDistinguishedNameSET{value})
		} else {
			together = append(together, value)
		}
	}

	if together != nil {
		name = append(name, together)
	}

	if o.commonName != "" {
		name = append(name, pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: o.commonName}})
	}

	return name
}

func newKey(alg string) (crypto.Signer, error) {
	switch alg {
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)

		return key, err
	case "p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		return rsa.GenerateKey(rand.Reader, 2048)
	default:
		return nil, fmt.Errorf("no key algorithm %q here", alg)
	}
}

func randomSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}

func block(label string, b []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: b})
}

func decode(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}

	p, _ := pem.Decode(b)
	if p == nil {
		return nil, errors.New(path + ": not PEM")
	}

	return p.Bytes, nil
}
