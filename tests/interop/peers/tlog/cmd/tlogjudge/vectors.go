package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// entryProof is what receipts and proof files have in common.
type entryProof struct {
	Index      int64    `json:"index"`
	Entry      string   `json:"entry"`
	Leaf       string   `json:"leaf"`
	LeafHash   string   `json:"leaf_hash"`
	Proof      []string `json:"proof"`
	Checkpoint string   `json:"checkpoint"`
}

type proofFile struct {
	Format    string       `json:"format"`
	Key       string       `json:"key"`
	Entry     entryProof   `json:"entry"`
	Rotations []entryProof `json:"rotations"`
}

// verify holds the proof against any of the keys; it returns the entry and the key that signed.
func (p entryProof) verify(keys ...*key) ([]byte, *key, error) {
	entry, err := base64.StdEncoding.Strict().DecodeString(p.Entry)
	if err != nil {
		return nil, nil, err
	}
	record, err := base64.StdEncoding.Strict().DecodeString(p.Leaf)
	if err != nil {
		return nil, nil, err
	}
	if p.Leaf == "" {
		if record, err = leaf(uint64(p.Index), entry); err != nil {
			return nil, nil, err
		}
	}
	own := tlog.RecordHash(record)
	if p.LeafHash != "" && p.LeafHash != hex.EncodeToString(own[:]) {
		return nil, nil, fmt.Errorf("entry %d does not have the hash of its receipt", p.Index)
	}
	tree, by, err := checkpoint(p.Checkpoint, keys...)
	if err != nil {
		return nil, nil, err
	}
	path, err := hashes(p.Proof)
	if err != nil {
		return nil, nil, err
	}
	return entry, by, tlog.CheckRecord(path, tree.N, tree.Hash, p.Index, own)
}

func judgeProofFile(known *key, path string) error {
	var file proofFile
	if err := readJSON(path, &file); err != nil {
		return err
	}
	if file.Format != "ichor-proof/1" {
		return fmt.Errorf("the format `%s`", file.Format)
	}
	keys := []*key{known}
	for _, rotation := range file.Rotations {
		entry, by, err := rotation.verify(keys[len(keys)-1])
		if err != nil {
			continue
		}
		next, err := nextKey(entry, by)
		if err != nil {
			return err
		}
		if next != nil {
			keys = append(keys, next)
		}
	}
	if _, _, err := file.Entry.verify(keys...); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	fmt.Printf("%s: entry %d is proven, over %d keys\n", filepath.Base(path), file.Entry.Index, len(keys))
	return nil
}

func judgeConsistency(known *key, older, newer, proof string) error {
	var trees [2]tlog.Tree
	for at, path := range []string{older, newer} {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if trees[at], _, err = checkpoint(string(text), known); err != nil {
			return err
		}
	}
	var answer struct{ Proof []string }
	if err := readJSON(proof, &answer); err != nil {
		return err
	}
	path, err := hashes(answer.Proof)
	if err != nil {
		return err
	}
	if err := tlog.CheckTree(path, trees[1].N, trees[1].Hash, trees[0].N, trees[0].Hash); err != nil {
		return err
	}
	fmt.Printf("the log of %d entries continues the one of %d\n", trees[1].N, trees[0].N)
	return nil
}

func judgeVectors(dir string) error {
	in := func(name string) string { return filepath.Join(dir, name) }
	first, err := readKey(in("key-1"))
	if err != nil {
		return err
	}
	second, err := readKey(in("key-2"))
	if err != nil {
		return err
	}
	roots := map[int64]tlog.Tree{}
	notes, err := filepath.Glob(in("checkpoint-*"))
	if err != nil {
		return err
	}
	for _, path := range append(notes, in("checkpoint")) {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		tree, by, err := checkpoint(string(text), first, second)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		roots[tree.N] = tree
		fmt.Printf("%s: %d entries, signed by the key %08x\n", filepath.Base(path), tree.N, by.KeyHash())
	}
	if err := judgeLog(second, source{root: dir}); err != nil {
		return err
	}
	var growth []struct {
		From, To int64
		Proof    []string
	}
	if err := readJSON(in("consistency.json"), &growth); err != nil {
		return err
	}
	for _, one := range growth {
		older, newer := roots[one.From], roots[one.To]
		path, err := hashes(one.Proof)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(path, newer.N, newer.Hash, older.N, older.Hash); err != nil {
			return fmt.Errorf("from %d to %d: %w", one.From, one.To, err)
		}
	}
	fmt.Printf("%d consistency proofs hold\n", len(growth))
	var receipts []entryProof
	if err := readJSON(in("receipts.json"), &receipts); err != nil {
		return err
	}
	for _, receipt := range receipts {
		if _, _, err := receipt.verify(first, second); err != nil {
			return fmt.Errorf("the receipt of entry %d: %w", receipt.Index, err)
		}
	}
	fmt.Printf("%d receipts hold\n", len(receipts))
	proofs, err := filepath.Glob(in("proof-*.json"))
	if err != nil || len(proofs) == 0 || len(growth) == 0 || len(receipts) == 0 || len(notes) == 0 {
		return fmt.Errorf("vectors are missing in %s", dir)
	}
	for _, path := range proofs {
		for _, known := range []*key{first, second} {
			if err := judgeProofFile(known, path); err != nil {
				return err
			}
		}
	}
	return judgeExport(first, in("export.cbor"))
}

func readJSON(path string, into any) error {
	bytes, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(bytes, into)
}

func sizeOf(signed string) (int64, error) {
	lines := strings.SplitN(signed, "\n", 3)
	if len(lines) < 3 {
		return 0, errCBOR
	}
	return strconv.ParseInt(lines[1], 10, 64)
}
