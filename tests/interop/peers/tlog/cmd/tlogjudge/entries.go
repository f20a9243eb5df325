package main

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

var errCBOR = errors.New("not the CBOR that docs/audit.md describes")

// head reads the head of a CBOR data item: its major type and argument.
func head(in []byte) (major byte, argument uint64, rest []byte, err error) {
	if len(in) == 0 {
		return 0, 0, nil, errCBOR
	}
	major, small, rest := in[0]>>5, in[0]&31, in[1:]
	if small < 24 {
		return major, uint64(small), rest, nil
	}
	size := 1 << (small - 24)
	if small > 27 || len(rest) < size {
		return 0, 0, nil, errCBOR
	}
	var wide [8]byte
	copy(wide[8-size:], rest[:size])
	return major, binary.BigEndian.Uint64(wide[:]), rest[size:], nil
}

func number(in []byte) (uint64, []byte, error) {
	major, value, rest, err := head(in)
	if err == nil && major != 0 {
		err = errCBOR
	}
	return value, rest, err
}

func text(in []byte, want byte) ([]byte, []byte, error) {
	major, length, rest, err := head(in)
	if err != nil || major != want || uint64(len(rest)) < length {
		return nil, nil, errCBOR
	}
	return rest[:length], rest[length:], nil
}

// item reads a whole data item of any kind and returns what follows it.
func item(in []byte) ([]byte, error) {
	major, argument, rest, err := head(in)
	if err != nil {
		return nil, err
	}
	switch major {
	case 0, 1, 7:
		return rest, nil
	case 2, 3:
		if uint64(len(rest)) < argument {
			return nil, errCBOR
		}
		return rest[argument:], nil
	case 5:
		argument *= 2
		fallthrough
	case 4:
		for ; argument > 0 && err == nil; argument-- {
			rest, err = item(rest)
		}
		return rest, err
	}
	return nil, errCBOR
}

// fields cuts a map with integer keys into its values.
func fields(in []byte) (map[uint64][]byte, error) {
	major, count, rest, err := head(in)
	if err != nil || major != 5 {
		return nil, errCBOR
	}
	out := map[uint64][]byte{}
	for ; count > 0; count-- {
		var key uint64
		if key, rest, err = number(rest); err != nil {
			return nil, err
		}
		after, err := item(rest)
		if err != nil {
			return nil, err
		}
		out[key] = rest[:len(rest)-len(after)]
		rest = after
	}
	if len(rest) != 0 {
		return nil, errCBOR
	}
	return out, nil
}

func encode(major byte, argument uint64) []byte {
	var wide [8]byte
	binary.BigEndian.PutUint64(wide[:], argument)
	switch {
	case argument < 24:
		return []byte{major<<5 | byte(argument)}
	case argument < 1<<8:
		return []byte{major<<5 | 24, wide[7]}
	case argument < 1<<16:
		return append([]byte{major<<5 | 25}, wide[6:]...)
	case argument < 1<<32:
		return append([]byte{major<<5 | 26}, wide[4:]...)
	}
	return append([]byte{major<<5 | 27}, wide[:]...)
}

// leaf is the leaf record that stands for an entry at an index.
func leaf(index uint64, entry []byte) ([]byte, error) {
	parts, err := fields(entry)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(entry)
	return slices.Concat(encode(5, 4), encode(0, 0), encode(0, 1), encode(0, 1), encode(0, index), encode(0, 2), parts[2],
		encode(0, 3), encode(2, 32), digest[:]), nil
}

// nextKey is the key that an entry of the kind 14 brings in after `old`; nil where the entry is none.
func nextKey(entry []byte, old *key) (*key, error) {
	parts, err := fields(entry)
	if err != nil {
		return nil, err
	}
	content, err := fields(parts[5])
	if err != nil {
		return nil, err
	}
	if kind, _, err := number(content[0]); err != nil || kind != 14 || content[22] == nil {
		return nil, err
	}
	change, err := fields(content[22])
	if err != nil {
		return nil, err
	}
	texts := map[uint64]string{}
	for field, value := range change {
		bytes, _, err := text(value, 3)
		if err != nil {
			return nil, err
		}
		texts[field] = string(bytes)
	}
	if texts[0] != old.Name() || texts[2] != old.text {
		return nil, nil
	}
	return parseKey(texts[1])
}

// judgeExport rebuilds the tree of an export with tlog and compares it with every checkpoint that a known key signed.
func judgeExport(first *key, path string) error {
	rest, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, index := range indexes {
			out = append(out, stored[index])
		}
		return out, nil
	})
	keys := []*key{first}
	notes, changes := map[int64][]string{}, [][]byte{}
	var n, agreed int64
	var bodies absent
	// compare holds the tree so far against the checkpoints of its size, and takes up the keys that they cover.
	compare := func() error {
		for again := true; again; {
			again = false
			for at, signed := range notes[n] {
				tree, by, err := checkpoint(signed, keys...)
				if err != nil {
					continue
				}
				root, err := tlog.TreeHash(n, reader)
				if err != nil || root != tree.Hash {
					return fmt.Errorf("the tree of %d entries is not the one that was signed", n)
				}
				agreed, again = n, true
				bodies.covered()
				notes[n] = slices.Delete(notes[n], at, at+1)
				for _, entry := range changes {
					next, err := nextKey(entry, by)
					if err != nil {
						return err
					}
					if next != nil {
						keys = append(keys, next)
					}
				}
				break
			}
		}
		return nil
	}
	for len(rest) > 0 {
		major, count, after, err := head(rest)
		if err != nil || major != 4 {
			return errCBOR
		}
		kind, after, err := number(after)
		if err != nil {
			return err
		}
		switch {
		case kind == 0 && count == 3:
			format, more, err := text(after, 3)
			if err != nil || string(format) != "ichor-audit-export/1" {
				return errCBOR
			}
			first, more, err := number(more)
			if err != nil || first != uint64(n) {
				return fmt.Errorf("the export goes on at %d, not at %d", first, n)
			}
			rest = more
		case (kind == 1 || kind == 2) && count == 3:
			claimed, more, err := text(after, 2)
			if err != nil {
				return err
			}
			record, more, err := text(more, 2)
			if err != nil {
				return err
			}
			if kind == 1 {
				if parts, err := fields(record); err == nil {
					if content, err := fields(parts[5]); err == nil && content[22] != nil {
						changes = append(changes, record)
					}
				}
				if err := bodies.hear(record, n); err != nil {
					return err
				}
				if record, err = leaf(uint64(n), record); err != nil {
					return err
				}
			} else {
				bodies.add(n)
			}
			if own := tlog.RecordHash(record); string(own[:]) != string(claimed) {
				return fmt.Errorf("entry %d does not have the hash that stands beside it", n)
			}
			more2, err := tlog.StoredHashes(n, record, reader)
			if err != nil {
				return err
			}
			stored = append(stored, more2...)
			n++
			rest = more
			if err := compare(); err != nil {
				return err
			}
		case kind == 3 && count == 2:
			signed, more, err := text(after, 3)
			if err != nil {
				return err
			}
			size, err := sizeOf(string(signed))
			if err != nil {
				return err
			}
			notes[size] = append(notes[size], string(signed))
			rest = more
			if err := compare(); err != nil {
				return err
			}
		default:
			return errCBOR
		}
	}
	if agreed != n {
		return fmt.Errorf("the export has %d entries, of which %d are signed", n, agreed)
	}
	if err := bodies.unexplained(); err != nil {
		return err
	}
	fmt.Printf("export: %d entries, %d without body, %d keys, all as signed\n", n, bodies.count, len(keys))
	return nil
}
