package main

import (
	"fmt"
	"slices"
)

// absent keeps the places without a body until a signed entry says that they were dropped.
type absent struct {
	places map[int64]bool
	// claimed is what entries name that no checkpoint has covered yet.
	claimed []int64
	count   int
}

// add notes that the entry at this place has no body.
func (a *absent) add(place int64) {
	if a.places == nil {
		a.places = map[int64]bool{}
	}
	a.places[place] = true
	a.count++
}

// hear takes up what an entry says was dropped, if it is of the kind 16; it speaks of what stands before it alone.
func (a *absent) hear(entry []byte, own int64) error {
	parts, err := fields(entry)
	if err != nil {
		return err
	}
	content, err := fields(parts[5])
	if err != nil {
		return err
	}
	if kind, _, err := number(content[0]); err != nil || kind != 16 || content[26] == nil {
		return err
	}
	major, length, rest, err := head(content[26])
	if err != nil || major != 4 || length%2 != 0 {
		return errCBOR
	}
	var end uint64
	for first := true; length > 0; length -= 2 {
		var gap, run uint64
		if gap, rest, err = number(rest); err != nil {
			return err
		}
		if run, rest, err = number(rest); err != nil {
			return err
		}
		start := end + gap
		if end = start + run; start < gap || end < start || run == 0 || gap == 0 && !first {
			return errCBOR
		}
		for place := start; place < min(end, uint64(own)); place++ {
			a.claimed = append(a.claimed, int64(place))
		}
		first = false
	}
	return nil
}

// covered is to be called once a checkpoint of a believed key agrees.
func (a *absent) covered() {
	for _, place := range a.claimed {
		delete(a.places, place)
	}
	a.claimed = nil
}

// unexplained fails where a body is absent and nothing signed says why.
func (a *absent) unexplained() error {
	if len(a.places) == 0 {
		return nil
	}
	var all []int64
	for place := range a.places {
		all = append(all, place)
	}
	return fmt.Errorf("entry %d has no body, and no signed entry says that it was dropped", slices.Min(all))
}
