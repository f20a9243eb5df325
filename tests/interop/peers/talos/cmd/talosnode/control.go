package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
)

// serveControl lets a test change the node while it runs: `PUT /machine-config` with a whole machine config applies the
// CAs in it, as applying that config to a node would.
func (n *node) serveControl() error {
	l, err := net.Listen("tcp", n.options.control)
	if err != nil {
		return err
	}

	fmt.Println("control", l.Addr())

	mux := http.NewServeMux()
	mux.HandleFunc("PUT /machine-config", func(w http.ResponseWriter, r *http.Request) {
		config, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)

			return
		}

		cas, _, err := certificateAuthorities(config)
		if err == nil {
			err = n.accept(r.Context(), cas)
		}

		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)

			return
		}

		fmt.Fprintln(w, len(cas), "accepted")
	})

	go http.Serve(l, mux) //nolint:errcheck,gosec

	return nil
}
