package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func readLine(path string) (string, error) {
	text, err := os.ReadFile(path)
	return strings.TrimSpace(string(text)), err
}

// key is a verifier that knows the text it was made from.
type key struct {
	note.Verifier
	text string
}

func parseKey(text string) (*key, error) {
	verifier, err := note.NewVerifier(text)
	return &key{verifier, text}, err
}

func readKey(path string) (*key, error) {
	text, err := readLine(path)
	if err != nil {
		return nil, err
	}
	return parseKey(text)
}

// checkpoint verifies a signed note with any of the keys and reads the tree in it, and which key signed.
func checkpoint(text string, keys ...*key) (tlog.Tree, *key, error) {
	var tree tlog.Tree
	var verifiers []note.Verifier
	for _, key := range keys {
		verifiers = append(verifiers, key)
	}
	signed, err := note.Open([]byte(text), note.VerifierList(verifiers...))
	if err != nil {
		return tree, nil, err
	}
	lines := strings.Split(signed.Text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return tree, nil, fmt.Errorf("a checkpoint of ours has three lines, not %d", len(lines)-1)
	}
	tree.N, err = strconv.ParseInt(lines[1], 10, 64)
	if err != nil || strconv.FormatInt(tree.N, 10) != lines[1] {
		return tree, nil, fmt.Errorf("the size `%s` is none", lines[1])
	}
	if tree.Hash, err = hash(lines[2]); err != nil {
		return tree, nil, err
	}
	for _, key := range keys {
		if key.Name() == signed.Sigs[0].Name && key.KeyHash() == signed.Sigs[0].Hash {
			if key.Name() != lines[0] {
				return tree, nil, fmt.Errorf("the log `%s` is signed by `%s`", lines[0], key.Name())
			}
			return tree, key, nil
		}
	}
	return tree, nil, errors.New("signed by none of the keys")
}

func hash(text string) (tlog.Hash, error) {
	var out tlog.Hash
	bytes, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil || len(bytes) != len(out) {
		return out, fmt.Errorf("`%s` is no hash", text)
	}
	copy(out[:], bytes)
	return out, nil
}

func hashes(texts []string) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, text := range texts {
		one, err := hash(text)
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}
