// Package course takes rivals through all that is compared, cell by cell: the same load in rounds of one rival after the other, so that
// what disturbs the machine disturbs them all.
//
// What this package does not do: it does not judge; that is package report.
package course

import (
	"fmt"

	"github.com/capguard/capguard/benchmarks/load"
	"github.com/capguard/capguard/benchmarks/rival"
)

// Cell is one load in one setting.
type Cell struct {
	Link rival.Link
	load.Shape
}

// String returns the name of the cell, as tcp/unary/16/1KiB.
func (c Cell) String() string {
	return fmt.Sprintf("%s/%s/%d/%s", c.Link, c.Kind, c.Callers, Bytes(c.Size))
}

// Bytes writes a number of bytes as 16B, 1KiB or 1MiB.
func Bytes(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%dMiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%dKiB", n>>10)
	}
	return fmt.Sprintf("%dB", n)
}

// Large is the cell of messages that no proxy should hold. It runs once, with fresh processes, for their memory.
var Large = Cell{rival.TCP, load.Shape{Kind: load.Unary, Callers: 2, Size: 100 << 20}}

// Cells returns all cells but Large, those of a link together.
func Cells() []Cell {
	const small, middle, big = 16, 1 << 10, 1 << 20
	all := cells(rival.TCP, load.Unary, []int{1, 16, 64}, small, middle, big)
	all = append(all, cells(rival.TCP, load.Chat, []int{16}, small, middle)...)
	all = append(all, cells(rival.TCP, load.Download, []int{16}, small, middle, big)...)
	all = append(all, cells(rival.TCP, load.Refusal, []int{1, 16, 64}, small)...)
	for _, l := range []rival.Link{rival.TLS, rival.Unix} {
		all = append(all, cells(l, load.Unary, []int{1, 16, 64}, middle)...)
		all = append(all, cells(l, load.Chat, []int{16}, middle)...)
	}
	return all
}

func cells(l rival.Link, k load.Kind, callers []int, sizes ...int) (all []Cell) {
	for _, size := range sizes {
		for _, n := range callers {
			all = append(all, Cell{l, load.Shape{Kind: k, Callers: n, Size: size}})
		}
	}
	return all
}
