package course

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/capguard/capguard/benchmarks/load"
	"github.com/capguard/capguard/benchmarks/rival"
)

// Course is what the rivals are taken through.
type Course struct {
	Ground *rival.Ground
	Rivals []rival.Rival // the first is the direct way
	Round  time.Duration
	Rounds int       // repetitions of each cell
	Told   io.Writer // a line for each cell that is done
}

// warm is how long each load runs before it is measured: connections are made, windows and tables are filled.
const warm = 200 * time.Millisecond

// Run measures cells. What a rival cannot do becomes the error of its figures; only an interruption ends the course.
func (c Course) Run(ctx context.Context, cells []Cell) (rows []Row, _ error) {
	for i := 0; i < len(cells); {
		end := i
		for end < len(cells) && cells[end].Link == cells[i].Link {
			end++
		}
		some, err := c.link(ctx, cells[i:end])
		rows = append(rows, some...)
		if err != nil {
			return rows, err
		}
		i = end
	}
	return rows, nil
}

// link measures cells that have their link in common, with the same processes.
func (c Course) link(ctx context.Context, cells []Cell) (rows []Row, _ error) {
	running := make(map[string]*rival.Running)
	defer stop(running)
	for i, cell := range cells {
		row, err := c.cell(ctx, cell, running)
		if err != nil {
			return rows, err
		}
		rows = append(rows, row)
		_, _ = fmt.Fprintf(c.Told, "%s  %s  %d of %d on this link\n", time.Now().Format(time.TimeOnly), cell, i+1, len(cells))
	}
	return rows, nil
}

// takes tells whether a rival can do what the cell wants.
func (c Cell) takes(r rival.Rival) bool {
	if c.Kind == load.Refusal {
		return r.Refuses
	}
	return r.Passes
}

// cell measures all rivals in one cell, one after the other in each repetition, each time with another one as the first.
func (c Course) cell(ctx context.Context, cell Cell, running map[string]*rival.Running) (Row, error) {
	row := Row{Cell: cell}
	var part []rival.Rival
	for _, r := range c.Rivals {
		if cell.takes(r) {
			part = append(part, r)
			row.Rivals = append(row.Rivals, &Figures{Rival: r.Name})
		}
	}
	for repetition := range c.Rounds {
		for i := range part {
			i = (i + repetition) % len(part)
			s, err := c.turn(ctx, cell, part[i], running)
			if err != nil {
				return row, err
			}
			row.Rivals[i].Samples = append(row.Rivals[i].Samples, s)
		}
	}
	row.share()
	return row, nil
}

// turn measures one rival once, and starts it first if it does not run. A round that fails ends the rival: what is wrong in its connections
// is not to spoil the next round.
func (c Course) turn(ctx context.Context, cell Cell, r rival.Rival, running map[string]*rival.Running) (s Sample, err error) {
	p := running[r.Name]
	if p == nil {
		if p, err = r.Start(ctx, c.Ground, cell.Link); err != nil {
			return s, err
		}
		running[r.Name] = p
	}
	if s, err = c.round(ctx, cell, p); err != nil {
		p.Stop()
		delete(running, r.Name)
	}
	s.Err = err
	return s, context.Cause(ctx)
}

// share notes the shares of the direct way in the same repetition.
func (r Row) share() {
	direct := r.Of(rival.Direct.Name)
	if direct == nil {
		return
	}
	for _, f := range r.Rivals {
		for i, d := range direct.Samples {
			if d.Err == nil {
				f.Samples[i].Share = f.Samples[i].PerSecond / d.PerSecond
			}
		}
	}
}

// grace is how long the calls in flight may take when a round is over.
const grace = 3 * time.Second

// round measures a running rival once.
func (c Course) round(ctx context.Context, cell Cell, p *rival.Running) (Sample, error) {
	if err := p.Meter.ResetPeak(); err != nil {
		return Sample{}, err
	}
	result, err := load.Run(ctx, p.Endpoint, cell.Shape, load.Round{Warm: warm, Length: c.Round, Grace: grace, CPU: p.Meter.CPU})
	if err != nil {
		return Sample{}, err
	}
	if result.Calls == 0 {
		return Sample{}, errors.New("no call ended within the round")
	}
	peak, err := p.Meter.Peak()
	return sample(result, peak), err
}

// large is how long messages of 100 MiB pass.
const large = 6 * time.Second

// Large passes messages of 100 MiB through a fresh process of each rival, and notes its memory.
func (c Course) Large(ctx context.Context) (Row, error) {
	c.Round, c.Rounds = large, 1
	running := make(map[string]*rival.Running)
	defer stop(running)
	return c.cell(ctx, Large, running)
}

func stop(running map[string]*rival.Running) {
	for _, p := range running {
		p.Stop()
	}
}
