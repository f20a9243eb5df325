// judge verifies a client certificate as crypto/x509 and a Talos node would, and prints what is in it as JSON. It fails
// if the chain does not verify for clientAuth now. Whether the content is right is for the caller to say.
//
//	judge LEAF.pem CA.pem
package main

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log"
	"os"
	"time"
)

type verdict struct {
	Organizations      []string  `json:"organizations"`
	CommonName         string    `json:"common_name"`
	OrganizationRDNs   int       `json:"organization_rdns"` // how many RDNs hold the organizations
	IsCA               bool      `json:"is_ca"`
	BasicConstraints   bool      `json:"basic_constraints"`
	ClientAuthOnly     bool      `json:"client_auth_only"`
	DigitalSignature   bool      `json:"digital_signature_only"`
	AlternativeNames   int       `json:"alternative_names"`
	AuthorityKeyIsCAs  bool      `json:"authority_key_is_cas"`
	SerialBits         int       `json:"serial_bits"`
	SerialPositive     bool      `json:"serial_positive"`
	NotBefore          time.Time `json:"not_before"`
	NotAfter           time.Time `json:"not_after"`
	SignatureAlgorithm string    `json:"signature_algorithm"`
	PublicKey          string    `json:"public_key"`
	Issuer             string    `json:"issuer"`
	CAMaxPathLenZero   bool      `json:"ca_max_path_len_zero"`
	CACertSignOnly     bool      `json:"ca_cert_sign_only"`
	CAClientAuthOnly   bool      `json:"ca_client_auth_only"`
}

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: judge LEAF.pem CA.pem")
	}

	leaf, err := read(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}

	ca, err := read(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}

	roots := x509.NewCertPool()
	roots.AddCert(ca)

	if _, err = leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		log.Fatal(err)
	}

	var subject pkix.RDNSequence
	if _, err = asn1.Unmarshal(leaf.RawSubject, &subject); err != nil {
		log.Fatal(err)
	}

	out := verdict{
		Organizations:      leaf.Subject.Organization,
		CommonName:         leaf.Subject.CommonName,
		OrganizationRDNs:   organizationRDNs(subject),
		IsCA:               leaf.IsCA,
		BasicConstraints:   leaf.BasicConstraintsValid,
		ClientAuthOnly:     clientAuthOnly(leaf),
		DigitalSignature:   leaf.KeyUsage == x509.KeyUsageDigitalSignature,
		AlternativeNames:   len(leaf.DNSNames) + len(leaf.IPAddresses) + len(leaf.EmailAddresses) + len(leaf.URIs),
		AuthorityKeyIsCAs:  len(ca.SubjectKeyId) > 0 && bytes.Equal(leaf.AuthorityKeyId, ca.SubjectKeyId),
		SerialBits:         leaf.SerialNumber.BitLen(),
		SerialPositive:     leaf.SerialNumber.Sign() > 0,
		NotBefore:          leaf.NotBefore,
		NotAfter:           leaf.NotAfter,
		SignatureAlgorithm: leaf.SignatureAlgorithm.String(),
		PublicKey:          leaf.PublicKeyAlgorithm.String(),
		Issuer:             leaf.Issuer.String(),
		CAMaxPathLenZero:   ca.MaxPathLenZero,
		CACertSignOnly:     ca.KeyUsage == x509.KeyUsageCertSign,
		CAClientAuthOnly:   clientAuthOnly(ca),
	}

	if err = json.NewEncoder(os.Stdout).Encode(out); err != nil {
		log.Fatal(err)
	}
}

func read(path string) (*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}

	block, rest := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New(path + ": no certificate")
	}

	if more, _ := pem.Decode(rest); more != nil {
		return nil, errors.New(path + ": more than one certificate")
	}

	return x509.ParseCertificate(block.Bytes)
}

func organizationRDNs(subject pkix.RDNSequence) (n int) {
	for _, set := range subject {
		for _, a := range set {
			if a.Type.Equal(asn1.ObjectIdentifier{2, 5, 4, 10}) {
				n++

				break
			}
		}
	}

	return n
}

func clientAuthOnly(c *x509.Certificate) bool {
	return len(c.ExtKeyUsage) == 1 && c.ExtKeyUsage[0] == x509.ExtKeyUsageClientAuth && len(c.UnknownExtKeyUsage) == 0
}
