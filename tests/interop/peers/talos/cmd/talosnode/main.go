// talosnode plays the rest of one Talos node for one real apid: the COSI state apid reads its configuration from, and a
// stub machined behind it. The RPC server, its access log and the role decisions are Talos' own public packages, and so
// is the reading of the machine config, so that a patch acts here as it would on a node.
//
// Once apid listens it prints `control ADDR` and `ready`. It needs root: apid's socket paths are fixed, so each node gets
// a mount namespace of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	rtres "github.com/siderolabs/talos/pkg/machinery/resources/runtime"
)

type options struct {
	config, listen, hostname, apid, control, logDir string
}

func main() {
	var o options

	flag.StringVar(&o.config, "config", "", "control-plane machine config of the node")
	flag.StringVar(&o.listen, "listen", "127.0.0.2:50000", "address apid listens on")
	flag.StringVar(&o.hostname, "hostname", "node-a", "host name of the node")
	flag.StringVar(&o.apid, "apid", "", "Talos' multi-call binary")
	flag.StringVar(&o.control, "control", "127.0.0.1:0", "HTTP address for changes to the node")
	flag.StringVar(&o.logDir, "logs", ".", "folder for apid.log and machined.log")
	inside := flag.Bool("inside-namespace", false, "set by the program itself")
	flag.Parse()

	if !*inside {
		os.Exit(reexec())
	}

	if err := privateSystem(); err != nil {
		log.Fatalf("private /system: %v", err)
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()

	if err := run(ctx, o); err != nil && ctx.Err() == nil {
		log.Fatal(err)
	}
}

// reexec starts this program again in its own mount namespace and passes signals on.
func reexec() int {
	cmd := exec.Command("/proc/self/exe", append([]string{"-inside-namespace"}, os.Args[1:]...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}

	if err := cmd.Start(); err != nil {
		log.Print(err)

		return 1
	}

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)

	go func() {
		for s := range signals {
			cmd.Process.Signal(s) //nolint:errcheck
		}
	}()

	if err := cmd.Wait(); err != nil {
		return 1
	}

	return 0
}

// privateSystem gives this process a /system of its own, where apid looks for its sockets.
func privateSystem() error {
	if err := os.MkdirAll("/system", 0o755); err != nil {
		return err
	}

	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}

	return syscall.Mount("tmpfs", "/system", "tmpfs", 0, "mode=0755")
}

func run(ctx context.Context, o options) error {
	n, err := newNode(ctx, o)
	if err != nil {
		return err
	}

	if err = os.MkdirAll(o.logDir, 0o755); err != nil {
		return err
	}

	machinedLog, err := os.Create(filepath.Join(o.logDir, "machined.log"))
	if err != nil {
		return err
	}

	apidLog, err := os.Create(filepath.Join(o.logDir, "apid.log"))
	if err != nil {
		return err
	}

	if err = errors.Join(n.serveRuntime(), n.serveMachined(ctx, machinedLog), n.serveControl()); err != nil {
		return err
	}

	apid := exec.CommandContext(ctx, o.apid)
	apid.Args = []string{"apid"} // the multi-call binary goes by its name
	apid.Stdout, apid.Stderr = apidLog, apidLog
	apid.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	apid.Cancel = func() error { return apid.Process.Signal(syscall.SIGTERM) }

	if err = apid.Start(); err != nil {
		return err
	}

	// machined lets apid in by its process id.
	pid := rtres.NewServicePID("apid")
	pid.TypedSpec().PID = int32(apid.Process.Pid)

	if err = n.state.Create(ctx, pid); err != nil {
		return err
	}

	go announce(ctx, o.listen)

	return apid.Wait()
}

// announce prints `ready` as soon as apid takes connections.
func announce(ctx context.Context, addr string) {
	for ctx.Err() == nil {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close() //nolint:errcheck
			fmt.Println("ready")

			return
		}

		time.Sleep(50 * time.Millisecond)
	}
}
