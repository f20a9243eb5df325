// call makes one gRPC call with a talosconfig's certificate and whatever metadata is asked for, and prints one JSON line
// {"code":…,"message":…,"answer":…} of what the node said.
//
//	call [-again] [-id ID] TALOSCONFIG ENDPOINT METHOD [key=value ...]
//
// Get asks for the cluster member with the id. With -again it makes the same call once more, on the same connection, for each line it reads from standard input.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/cosi-project/runtime/api/v1alpha1"
	"github.com/siderolabs/talos/pkg/machinery/api/machine"
	clientconfig "github.com/siderolabs/talos/pkg/machinery/client/config"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// id is of the resource that Get asks for.
var id string

func main() {
	again := flag.Bool("again", false, "call once more for each line on standard input")
	flag.StringVar(&id, "id", "nobody", "what Get asks for")
	flag.Parse()

	if flag.NArg() < 3 {
		log.Fatal("usage: call [-again] [-id ID] TALOSCONFIG ENDPOINT METHOD [key=value ...]")
	}

	conn, err := dial(flag.Arg(0), flag.Arg(1))
	if err != nil {
		log.Fatal(err)
	}

	once(conn, flag.Arg(2), flag.Args()[3:])

	for in := bufio.NewScanner(os.Stdin); *again && in.Scan(); {
		once(conn, flag.Arg(2), flag.Args()[3:])
	}
}

func once(conn *grpc.ClientConn, method string, pairs []string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	for _, pair := range pairs {
		k, v, _ := strings.Cut(pair, "=")
		ctx = metadata.AppendToOutgoingContext(ctx, k, v)
	}

	answer, err := invoke(ctx, conn, method)
	out, _ := json.Marshal(map[string]string{ //nolint:errcheck
		"code": status.Code(err).String(), "message": status.Convert(err).Message(), "answer": answer,
	})
	fmt.Println(string(out))
}

func dial(path, endpoint string) (*grpc.ClientConn, error) {
	config, err := clientconfig.Open(path)
	if err != nil {
		return nil, err
	}

	c := config.Contexts[config.Context]

	var blocks [3][]byte

	for i, s := range []string{c.CA, c.Crt, c.Key} {
		if blocks[i], err = base64.StdEncoding.DecodeString(s); err != nil {
			return nil, err
		}
	}

	pair, err := tls.X509KeyPair(blocks[1], blocks[2])
	if err != nil {
		return nil, err
	}

	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(blocks[0])

	return grpc.NewClient(endpoint, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
		RootCAs: roots, Certificates: []tls.Certificate{pair},
	})))
}

// invoke calls a method of the machine service by name, or Get of the resources; a stream's answer is its first message.
func invoke(ctx context.Context, conn *grpc.ClientConn, method string) (string, error) {
	m := machine.NewMachineServiceClient(conn)

	switch method {
	case "Get":
		_, err := v1alpha1.NewStateClient(conn).Get(ctx, &v1alpha1.GetRequest{
			Namespace: "cluster", Type: "Members.cluster.talos.dev", Id: id,
		})

		return "", err
	case "Version":
		r, err := m.Version(ctx, &emptypb.Empty{})
		if err != nil {
			return "", err
		}

		return r.GetMessages()[0].GetVersion().GetTag(), nil
	case "Hostname":
		r, err := m.Hostname(ctx, &emptypb.Empty{})
		if err != nil {
			return "", err
		}

		return r.GetMessages()[0].GetHostname(), nil
	case "Reboot":
		_, err := m.Reboot(ctx, &machine.RebootRequest{})

		return "", err
	case "Dmesg":
		s, err := m.Dmesg(ctx, &machine.DmesgRequest{})
		if err != nil {
			return "", err
		}

		_, err = s.Recv()

		return "", err
	case "Read":
		s, err := m.Read(ctx, &machine.ReadRequest{Path: "/etc/os-release"})
		if err != nil {
			return "", err
		}

		_, err = s.Recv()

		return "", err
	default:
		log.Fatalf("no method %q here", method)

		return "", nil
	}
}
