package main

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/cosi-project/runtime/pkg/resource"
	"github.com/cosi-project/runtime/pkg/resource/meta"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/cosi-project/runtime/pkg/state/registry"
	talosx509 "github.com/siderolabs/crypto/x509"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/config"
	"github.com/siderolabs/talos/pkg/machinery/config/configloader"
	"github.com/siderolabs/talos/pkg/machinery/resources/network"
	rtres "github.com/siderolabs/talos/pkg/machinery/resources/runtime"
	secretres "github.com/siderolabs/talos/pkg/machinery/resources/secrets"
	"github.com/siderolabs/talos/pkg/machinery/role"
)

// node is the COSI state of one control-plane node, and the stub of its machined.
type node struct {
	machine.UnimplementedMachineServiceServer

	options options
	state   state.State
	config  config.Provider
	caCert  *x509.Certificate
	caKey   crypto.Signer
}

func newNode(ctx context.Context, o options) (*node, error) {
	n := &node{options: o, state: state.WrapCore(namespaced.NewState(inmem.Build))}

	text, err := os.ReadFile(o.config)
	if err != nil {
		return nil, err
	}

	if n.config, err = configloader.NewFromBytes(text); err != nil {
		return nil, err
	}

	cas, issuing, err := certificateAuthorities(text)
	if err != nil {
		return nil, err
	}

	if n.caCert, err = issuing.GetCert(); err != nil {
		return nil, err
	}

	key, err := issuing.GetKey()
	if err != nil {
		return nil, err
	}

	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, errors.New("the machine config's CA key cannot sign")
	}

	n.caKey = signer

	return n, n.populate(ctx, cas)
}

// certificateAuthorities reads, with Talos' own loader, whom a node with this machine config accepts: machine.acceptedCAs
// and the issuing CA.
func certificateAuthorities(config []byte) ([]*talosx509.PEMEncodedCertificate, *talosx509.PEMEncodedCertificateAndKey, error) {
	provider, err := configloader.NewFromBytes(config)
	if err != nil {
		return nil, nil, err
	}

	if provider.Machine() == nil || provider.Machine().Security().IssuingCA() == nil {
		return nil, nil, errors.New("no machine.ca in the machine config")
	}

	issuing := provider.Machine().Security().IssuingCA()
	cas := append(provider.Machine().Security().AcceptedCAs(), &talosx509.PEMEncodedCertificate{Crt: issuing.Crt})

	for _, ca := range cas {
		if _, err = ca.GetCert(); err != nil {
			return nil, nil, err
		}
	}

	return cas, issuing, nil
}

// accept makes apid accept clients by these CAs and no others from now on.
func (n *node) accept(ctx context.Context, cas []*talosx509.PEMEncodedCertificate) error {
	_, err := n.state.UpdateWithConflicts(ctx, secretres.NewAPI().Metadata(), func(r resource.Resource) error {
		r.(*secretres.API).TypedSpec().AcceptedCAs = cas //nolint:forcetypeassert

		return nil
	})

	return err
}

func (n *node) populate(ctx context.Context, cas []*talosx509.PEMEncodedCertificate) error {
	namespaces := registry.NewNamespaceRegistry(n.state)
	types := registry.NewResourceRegistry(n.state)

	if err := errors.Join(namespaces.RegisterDefault(ctx), types.RegisterDefault(ctx)); err != nil {
		return err
	}

	for _, s := range []string{network.NamespaceName, rtres.NamespaceName, secretres.NamespaceName} {
		if err := namespaces.Register(ctx, s, s); err != nil {
			return err
		}
	}

	for _, r := range []meta.ResourceWithRD{
		&network.NodeAddress{}, &network.HostnameStatus{}, &rtres.APIServiceConfig{}, &rtres.ServicePID{}, &secretres.API{},
	} {
		if err := types.Register(ctx, r); err != nil {
			return err
		}
	}

	addr, err := netip.ParseAddrPort(n.options.listen)
	if err != nil {
		return err
	}

	ip := addr.Addr()
	api := secretres.NewAPI()
	api.TypedSpec().AcceptedCAs = cas

	if api.TypedSpec().Server, err = n.leaf("", x509.ExtKeyUsageServerAuth, ip.AsSlice()); err != nil {
		return err
	}

	// With this one apid forwards to other nodes.
	if api.TypedSpec().Client, err = n.leaf(string(role.Impersonator), x509.ExtKeyUsageClientAuth, ip.AsSlice()); err != nil {
		return err
	}

	config := rtres.NewAPIServiceConfig()
	config.TypedSpec().ListenAddress = n.options.listen

	addresses := network.NewNodeAddress(network.NamespaceName, network.NodeAddressCurrentID)
	addresses.TypedSpec().Addresses = []netip.Prefix{netip.PrefixFrom(ip, 8)}

	hostname := network.NewHostnameStatus(network.NamespaceName, network.HostnameID)
	hostname.TypedSpec().Hostname = n.options.hostname

	for _, r := range []resource.Resource{api, config, addresses, hostname} {
		if err := n.state.Create(ctx, r); err != nil {
			return err
		}
	}

	return nil
}

// leaf signs one of the node's own certificates with the cluster's CA.
func (n *node) leaf(org string, eku x509.ExtKeyUsage, ip net.IP) (*talosx509.PEMEncodedCertificateAndKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}

	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}

	template := &x509.Certificate{
		SerialNumber: serial,
		NotBefore:    time.Now().Add(-time.Minute),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{eku},
		Subject:      pkix.Name{CommonName: n.options.hostname},
		DNSNames:     []string{n.options.hostname},
		IPAddresses:  []net.IP{ip},
	}

	if org != "" {
		template.Subject.Organization = []string{org}
	}

	der, err := x509.CreateCertificate(rand.Reader, template, n.caCert, public, n.caKey)
	if err != nil {
		return nil, err
	}

	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}

	return &talosx509.PEMEncodedCertificateAndKey{
		Crt: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}, nil
}
