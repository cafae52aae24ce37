package admin

import (
	"cmp"
	"math"
	"slices"
	"strings"

	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/proxy"
)

const backendPrefix = "backends/"

// fleet is the guarded back-ends by name.
type fleet []*proxy.Backend

func newFleet(bs []*proxy.Backend) fleet {
	return slices.SortedFunc(slices.Values(bs), func(a, b *proxy.Backend) int { return cmp.Compare(a.Name(), b.Name()) })
}

// find returns the back-end of that name, with or without the prefix; no name means the only one.
func (f fleet) find(name string) (*proxy.Backend, error) {
	if name == "" && len(f) == 1 {
		return f[0], nil
	}
	if name == "" {
		return nil, invalid("name", "say which back-end; this guard has %s", quoted(f.names()))
	}
	id := strings.TrimPrefix(name, backendPrefix)
	for _, b := range f {
		if b.Name() == id {
			return b, nil
		}
	}
	return nil, backendNotFound(id, f.names())
}

func (f fleet) names() []string {
	names := make([]string, len(f))
	for i, b := range f {
		names[i] = b.Name()
	}
	return names
}

// costs is what each feature seen in calls asks of all back-ends together.
type costs map[string]*capguardv1.Flag_Cost

// costs adds up the features of all back-ends.
func (f fleet) costs() costs {
	sum := costs{}
	total := 0.0
	for _, b := range f {
		total += b.Guard().Status().InFlightTime
		for _, s := range b.Guard().Features() {
			if s.Passed+s.Blocked > 0 { // else it has, or had, a flag, and no call
				sum.add(s)
			}
		}
	}
	for _, c := range sum {
		c.CallsPerSecond, c.RefusedPerSecond = legible(c.GetCallsPerSecond()), legible(c.GetRefusedPerSecond())
		if total > 0 {
			c.InFlightShare = legible(min(c.GetInFlightShare()/total, 1))
		}
	}
	return sum
}

// legible rounds a figure for people: thousandths are finer than any of them is exact.
func legible(f float64) float64 { return math.Round(f*1000) / 1000 }

// add adds one back-end's figures; the share is in seconds per second yet.
func (c costs) add(s guard.FeatureStatus) {
	if c[s.Name] == nil {
		c[s.Name] = &capguardv1.Flag_Cost{}
	}
	sum := c[s.Name]
	sum.CallsPerSecond += s.CallsPerSecond
	sum.RefusedPerSecond += s.RefusedPerSecond
	sum.InFlight += int64(s.InFlight + s.OpenStreams)
	sum.InFlightShare += s.InFlightTime
}

// of returns the cost of one feature; of one that was not seen it is nothing.
func (c costs) of(name string) *capguardv1.Flag_Cost {
	return cmp.Or(c[name], &capguardv1.Flag_Cost{})
}

// seen tells whether a call of that feature was seen.
func (c costs) seen(name string) bool { return c[name] != nil }
