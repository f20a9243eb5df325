package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// source is a log of tiles: a folder or a URL.
type source struct{ root, token string }

func (s source) read(path string) ([]byte, error) {
	if !strings.HasPrefix(s.root, "http://") && !strings.HasPrefix(s.root, "https://") {
		return os.ReadFile(filepath.Join(s.root, filepath.FromSlash(path)))
	}
	request, err := http.NewRequest("GET", strings.TrimRight(s.root, "/")+"/"+path, nil)
	if err != nil {
		return nil, err
	}
	if s.token != "" {
		request.Header.Set("Authorization", "Bearer "+s.token)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s is answered %s", path, answer.Status)
	}
	return io.ReadAll(io.LimitReader(answer.Body, 64<<20))
}

// Height, ReadTiles and SaveTiles make it a tlog.TileReader. Go's own paths name the height, C2SP's do not.
func (s source) Height() int { return 8 }

func (s source) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tile := range tiles {
		bytes, err := s.read("tile/" + strings.TrimPrefix(tile.Path(), "tile/8/"))
		if err != nil {
			return nil, err
		}
		out = append(out, bytes)
	}
	return out, nil
}

func (s source) SaveTiles([]tlog.Tile, [][]byte) {}

func judgeLog(known *key, src source) error {
	text, err := src.read("checkpoint")
	if err != nil {
		return err
	}
	tree, _, err := checkpoint(string(text), known)
	if err != nil {
		return err
	}
	fmt.Printf("checkpoint of %d entries: signed by %s\n", tree.N, known.Name())
	return judgeTiles(tree, src)
}

// judgeTiles reads every hash tile through tlog, which holds each against the tree's root, and proves the first, the last and
// some entries between; leaf records are compared where the source gives them.
func judgeTiles(tree tlog.Tree, src source) error {
	reader := tlog.TileHashReader(tree, src)
	var leaves []tlog.Hash
	for first := int64(0); first < tree.N; first += 256 {
		var indexes []int64
		for n := first; n < min(first+256, tree.N); n++ {
			indexes = append(indexes, tlog.StoredHashIndex(0, n))
		}
		some, err := reader.ReadHashes(indexes)
		if err != nil {
			return fmt.Errorf("tile %d: %w", first/256, err)
		}
		leaves = append(leaves, some...)
	}
	fmt.Printf("%d leaf hashes in tiles: all lead to the root\n", len(leaves))
	for n := int64(0); n < tree.N; n += max(1, tree.N/50) {
		proof, err := tlog.ProveRecord(tree.N, n, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, n, leaves[n]); err != nil {
			return fmt.Errorf("entry %d: %w", n, err)
		}
	}
	records, err := bundles(tree, src)
	if err != nil {
		fmt.Printf("leaf records are not given (%v)\n", err)
		return nil
	}
	for n, record := range records {
		if tlog.RecordHash(record) != leaves[n] {
			return fmt.Errorf("the leaf record %d does not have the hash in the tiles", n)
		}
	}
	fmt.Printf("%d leaf records: all have the hashes in the tiles\n", len(records))
	return nil
}

func bundles(tree tlog.Tree, src source) ([][]byte, error) {
	var records [][]byte
	for first := int64(0); first < tree.N; first += 256 {
		tile := tlog.Tile{H: 8, L: 0, N: first / 256, W: int(min(256, tree.N-first))}
		bundle, err := src.read("tile/entries/" + strings.TrimPrefix(tile.Path(), "tile/8/0/"))
		if err != nil {
			return nil, err
		}
		for len(bundle) > 0 {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				return nil, fmt.Errorf("bundle %d is cut", first/256)
			}
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			records = append(records, bundle[2:end])
			bundle = bundle[end:]
		}
	}
	if int64(len(records)) != tree.N {
		return nil, fmt.Errorf("%d leaf records for %d entries", len(records), tree.N)
	}
	return records, nil
}
