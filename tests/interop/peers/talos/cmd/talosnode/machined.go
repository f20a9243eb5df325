package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/protobuf/server"
	"github.com/siderolabs/talos/pkg/grpc/factory"
	"github.com/siderolabs/talos/pkg/grpc/middleware/auth/unix"
	"github.com/siderolabs/talos/pkg/grpc/middleware/authz"
	"github.com/siderolabs/talos/pkg/machinery/api/common"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	"github.com/siderolabs/talos/pkg/machinery/config/generate/secrets"
	"github.com/siderolabs/talos/pkg/machinery/constants"
	secretres "github.com/siderolabs/talos/pkg/machinery/resources/secrets"
	"github.com/siderolabs/talos/pkg/machinery/role"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

func listenUnix(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}

	return net.Listen("unix", path)
}

// serveRuntime is where apid reads its own configuration from.
func (n *node) serveRuntime() error {
	l, err := listenUnix(constants.APIRuntimeSocketPath)
	if err != nil {
		return err
	}

	s := grpc.NewServer()
	v1alpha1.RegisterStateServer(s, server.NewState(n.state))

	go s.Serve(l) //nolint:errcheck

	return nil
}

// Register implements factory.Registrator.
func (n *node) Register(s *grpc.Server) {
	machine.RegisterMachineServiceServer(s, n)

	// What is sensitive stays hidden from everyone but admins, as on a node.
	v1alpha1.RegisterStateServer(s, server.NewState(state.Filter(n.state, func(ctx context.Context, a state.Access) error {
		if a.ResourceNamespace == secretres.NamespaceName && !authz.GetRoles(ctx).Includes(role.Admin) {
			return authz.ErrNotAuthorized
		}

		return nil
	})))
}

// rules say which roles a node accepts for the methods that the stub knows; every other method wants os:admin.
func rules() map[string]role.Set {
	readers := role.MakeSet(role.Admin, role.Operator, role.Reader)
	operators := role.MakeSet(role.Admin, role.Operator)
	out := map[string]role.Set{}

	for _, m := range []string{"Version", "Hostname", "Dmesg", "Logs", "Events", "ServiceList", "Processes", "Memory", "List"} {
		out["/machine.MachineService/"+m] = readers
	}

	for _, m := range []string{"Reboot", "ServiceRestart", "Shutdown"} {
		out["/machine.MachineService/"+m] = operators
	}

	for _, m := range []string{"Get", "List", "Watch"} {
		out["/cosi.resource.State/"+m] = readers
	}

	return out
}

func (n *node) serveMachined(ctx context.Context, w io.Writer) error {
	l, err := listenUnix(constants.MachineSocketPath)
	if err != nil {
		return err
	}

	injector := &authz.Injector{Mode: authz.MetadataOnly}
	byPID := &unix.Authorizer{
		Resources:       n.state,
		AllowedServices: []unix.AllowedService{{Pattern: "apid", AllowedRoles: role.All}},
		Logger:          log.New(w, "machined/authz/unix/authorizer ", log.Flags()).Printf,
	}
	byRole := &authz.Authorizer{
		Rules:         rules(),
		FallbackRoles: role.MakeSet(role.Admin),
		Logger:        log.New(w, "machined/authz/authorizer ", log.Flags()).Printf,
	}

	s := factory.NewServer(n,
		factory.WithLog("machined ", w),
		factory.ServerOptions(grpc.MaxRecvMsgSize(constants.GRPCMaxMessageSize), grpc.Creds(unix.NewServerCredentials())),
		factory.WithUnaryInterceptor(injector.UnaryInterceptor()),
		factory.WithStreamInterceptor(injector.StreamInterceptor()),
		factory.WithUnaryInterceptor(byPID.UnaryInterceptor()),
		factory.WithStreamInterceptor(byPID.StreamInterceptor()),
		factory.WithUnaryInterceptor(byRole.UnaryInterceptor()),
		factory.WithStreamInterceptor(byRole.StreamInterceptor()),
	)

	go s.Serve(l) //nolint:errcheck

	context.AfterFunc(ctx, s.Stop)

	return nil
}

// === the stub's methods ===

func (n *node) Version(context.Context, *emptypb.Empty) (*machine.VersionResponse, error) {
	return &machine.VersionResponse{Messages: []*machine.Version{{
		Version:  &machine.VersionInfo{Tag: "v1.13.9", Sha: "stub", GoVersion: "go", Os: "linux", Arch: "amd64"},
		Platform: &machine.PlatformInfo{Name: n.options.hostname, Mode: "container"},
		Features: &machine.FeaturesInfo{Rbac: true},
	}}}, nil
}

// GenerateClientConfiguration makes a client certificate and its key with Talos' own generator, from the node's machine
// config, and refuses what machined refuses.
func (n *node) GenerateClientConfiguration(_ context.Context, in *machine.GenerateClientConfigurationRequest) (*machine.GenerateClientConfigurationResponse, error) {
	if !n.config.Machine().Type().IsControlPlane() {
		return nil, status.Error(codes.Unimplemented, "client configurations come from control plane nodes only")
	}

	ttl := in.GetCrtTtl().AsDuration()
	if ttl <= 0 {
		return nil, status.Error(codes.InvalidArgument, "the lifetime is not positive")
	}

	roles, _ := role.Parse(in.GetRoles())

	made, err := secrets.NewBundleFromConfig(secrets.NewFixedClock(time.Now()), n.config).GenerateTalosAPIClientCertificateWithTTL(roles, ttl)
	if err != nil {
		return nil, err
	}

	return &machine.GenerateClientConfigurationResponse{Messages: []*machine.GenerateClientConfiguration{{
		Ca:  n.config.Machine().Security().IssuingCA().Crt,
		Crt: made.Crt,
		Key: made.Key,
	}}}, nil
}

func (n *node) Hostname(context.Context, *emptypb.Empty) (*machine.HostnameResponse, error) {
	return &machine.HostnameResponse{Messages: []*machine.Hostname{{Hostname: n.options.hostname}}}, nil
}

func (n *node) Reboot(context.Context, *machine.RebootRequest) (*machine.RebootResponse, error) {
	return &machine.RebootResponse{Messages: []*machine.Reboot{{ActorId: "stub"}}}, nil
}

func (n *node) ServiceList(context.Context, *emptypb.Empty) (*machine.ServiceListResponse, error) {
	return &machine.ServiceListResponse{Messages: []*machine.ServiceList{{Services: []*machine.ServiceInfo{
		{Id: "apid", State: "Running", Events: &machine.ServiceEvents{}, Health: &machine.ServiceHealth{Healthy: true}},
	}}}}, nil
}

func (n *node) Processes(context.Context, *emptypb.Empty) (*machine.ProcessesResponse, error) {
	return &machine.ProcessesResponse{Messages: []*machine.Process{{Processes: []*machine.ProcessInfo{
		{Pid: 1, State: "S", Command: "machined", Executable: "/sbin/init"},
	}}}}, nil
}

func (n *node) Dmesg(r *machine.DmesgRequest, s grpc.ServerStreamingServer[common.Data]) error {
	return n.lines(s, r.Follow, "kern")
}

func (n *node) Logs(r *machine.LogsRequest, s grpc.ServerStreamingServer[common.Data]) error {
	return n.lines(s, r.Follow, r.Id)
}

func (n *node) Read(r *machine.ReadRequest, s grpc.ServerStreamingServer[common.Data]) error {
	return s.Send(&common.Data{Bytes: []byte("contents of " + strings.TrimSpace(r.Path) + "\n")})
}

// lines sends three lines at once, and with follow one more each second until the caller leaves.
func (n *node) lines(s grpc.ServerStreamingServer[common.Data], follow bool, what string) error {
	for i := 0; i < 3 || follow; i++ {
		if i >= 3 {
			select {
			case <-s.Context().Done():
				return s.Context().Err()
			case <-time.After(time.Second):
			}
		}

		line := fmt.Appendf(nil, "%s: %s line %d\n", n.options.hostname, what, i)
		if err := s.Send(&common.Data{Bytes: line}); err != nil {
			return err
		}
	}

	return nil
}
