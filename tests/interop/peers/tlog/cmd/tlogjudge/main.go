// Command tlogjudge judges an Ichor audit log with golang.org/x/mod/sumdb's tlog and note, which know nothing of Ichor, and
// with what docs/audit.md says of entries, leaf records, proof files and exports.
//
//	tlogjudge log KEYFILE ROOT [TOKENFILE]   a log of tiles: ROOT is a folder, or a URL that wants the token
//	tlogjudge vectors DIR                    the published test vectors, each of them
//	tlogjudge export KEYFILE FILE            an export, from its first key on
//	tlogjudge proof KEYFILE FILE             a proof file
//	tlogjudge consistency KEYFILE OLD NEW PROOF   two checkpoints and the answer of /v1/audit/consistency
//
// It prints one line for each thing that holds, and ends with 1 at the first that does not.
package main

import (
	"errors"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tlogjudge:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) >= 3 && len(args) <= 4 && args[0] == "log":
		key, err := readKey(args[1])
		if err != nil {
			return err
		}
		src := source{root: args[2]}
		if len(args) == 4 {
			if src.token, err = readLine(args[3]); err != nil {
				return err
			}
		}
		return judgeLog(key, src)
	case len(args) == 2 && args[0] == "vectors":
		return judgeVectors(args[1])
	case len(args) == 3 && args[0] == "export":
		key, err := readKey(args[1])
		if err != nil {
			return err
		}
		return judgeExport(key, args[2])
	case len(args) == 3 && args[0] == "proof":
		key, err := readKey(args[1])
		if err != nil {
			return err
		}
		return judgeProofFile(key, args[2])
	case len(args) == 5 && args[0] == "consistency":
		key, err := readKey(args[1])
		if err != nil {
			return err
		}
		return judgeConsistency(key, args[2], args[3], args[4])
	}
	return errors.New("say log, vectors, export, proof or consistency; the source's head tells how")
}
