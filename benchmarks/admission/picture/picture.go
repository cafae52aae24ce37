// Package picture draws what a run of a scenario looked like.
//
// Two columns, one for each of two gates: above, what was offered and what was served well, by the moment at which it was due; below, how
// many calls were in flight, and the limit. Both columns have the same scales, so that they can be compared.
//
// What this package does not do: it measures nothing, and smooths only by averaging neighbouring moments where there are too many to see.
package picture

import (
	"bytes"
	"errors"
	"fmt"
	"image/color"
	"math"
	"os"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Run is what one gate did: a value for each moment, Step apart.
type Run struct {
	Gate            string
	Step            time.Duration
	Offered, Served []float64 // calls a second
	InFlight, Limit []float64 // Limit is empty or zero where there is none
}

const (
	width, height = 9 * vg.Inch, 4.2 * vg.Inch
	points        = 150 // of a line; more cannot be seen, and make the file large
)

// The lines' colours, apart for the colour-blind too.
var (
	grey   = color.RGBA{0xa0, 0xa0, 0xa0, 0xff}
	green  = color.RGBA{0x00, 0x86, 0x58, 0xff}
	blue   = color.RGBA{0x1f, 0x6f, 0xb4, 0xff}
	orange = color.RGBA{0xd5, 0x5e, 0x00, 0xff}
)

// Draw writes the picture of the runs, from left to right, as SVG.
func Draw(path, title string, runs ...Run) error {
	rates, calls := make([]*plot.Plot, len(runs)), make([]*plot.Plot, len(runs))
	for i, r := range runs {
		var above, below error
		rates[i], above = panel(r.Gate, "calls a second", r.Step, line{"offered", grey, r.Offered}, line{"served well", green, r.Served})
		calls[i], below = panel("", "calls", r.Step, line{"in flight", blue, r.InFlight}, line{"limit", orange, r.Limit})
		if err := errors.Join(above, below); err != nil {
			return fmt.Errorf("draw %s: %w", path, err)
		}
		calls[i].X.Label.Text = "seconds"
	}
	if len(runs) > 0 {
		rates[0].Title.Text = title + ": " + rates[0].Title.Text
	}
	same(rates, 3*served(runs))
	same(calls, useful(runs))
	return write(path, [][]*plot.Plot{rates, calls})
}

// line is one of a panel.
type line struct {
	name   string
	colour color.Color
	values []float64
}

func panel(title, unit string, step time.Duration, lines ...line) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = title, unit
	p.Y.Tick.Marker = plot.TickerFunc(ticks)
	p.Legend.Top, p.Legend.Left = true, true
	p.Add(plotter.NewGrid())
	for _, l := range lines {
		if !some(l.values) {
			continue
		}
		drawn, err := plotter.NewLine(thin(l.values, step))
		if err != nil {
			return nil, err
		}
		drawn.Color, drawn.Width = l.colour, vg.Points(1)
		p.Add(drawn)
		p.Legend.Add(l.name, drawn)
	}
	return p, nil
}

// ticks are the usual ones, without the zeros behind the point.
func ticks(least, most float64) []plot.Tick {
	all := plot.DefaultTicks{}.Ticks(least, most)
	for i, t := range all {
		if !t.IsMinor() {
			all[i].Label = strconv.FormatFloat(t.Value, 'g', 5, 64)
		}
	}
	return all
}

// some tells whether there is anything to draw.
func some(values []float64) bool {
	for _, v := range values {
		if v != 0 {
			return true
		}
	}
	return false
}

// thin averages neighbours until no more than points are left.
func thin(values []float64, step time.Duration) plotter.XYs {
	n := (len(values) + points - 1) / points
	var out plotter.XYs
	for i := 0; i < len(values); i += n {
		part := values[i:min(i+n, len(values))]
		sum := 0.0
		for _, v := range part {
			sum += v
		}
		out = append(out, plotter.XY{
			X: (float64(i) + float64(len(part))/2) * step.Seconds(),
			Y: math.Round(sum/float64(len(part))*10) / 10,
		})
	}
	return out
}

// served is the highest rate that was served well: what is offered far above it need not be seen whole.
func served(runs []Run) (most float64) {
	for _, r := range runs {
		for _, v := range thin(r.Served, r.Step) {
			most = max(most, v.Y)
		}
	}
	return most
}

// useful is the highest number of calls worth showing: what is far above every limit would make the rest a flat line.
func useful(runs []Run) (most float64) {
	for _, r := range runs {
		for i, v := range r.Limit {
			if i < len(r.InFlight) {
				v = min(v, 4*r.InFlight[i]+16) // a limit that does not bind may be anything
			}
			most = max(most, v)
		}
	}
	return 1.25 * most
}

// same gives all plots the scale of the largest, but for what is above most, if that is more than 0.
func same(plots []*plot.Plot, most float64) {
	top := 1.0
	for _, p := range plots {
		top = max(top, p.Y.Max)
	}
	if most > 0 {
		top = min(top, most)
	}
	for _, p := range plots {
		p.Y.Min, p.Y.Max = 0, top*1.3 // with room for the legend
	}
}

func write(path string, plots [][]*plot.Plot) error {
	canvas := vgsvg.New(width, height)
	tiles := draw.Tiles{
		Rows: len(plots), Cols: len(plots[0]), PadX: vg.Points(12), PadY: vg.Points(6),
		PadTop: vg.Points(4), PadBottom: vg.Points(4), PadLeft: vg.Points(4), PadRight: vg.Points(8),
	}
	for row, cells := range plot.Align(plots, tiles, draw.New(canvas)) {
		for col, cell := range cells {
			plots[row][col].Draw(cell)
		}
	}
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return fmt.Errorf("draw %s: %w", path, err)
	}
	return os.WriteFile(path, b.Bytes(), 0o644)
}
