package breaker

import (
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"
)

// What gobreaker is told of a call that was no success.
var (
	errFailed  = errors.New("call failed")
	errIgnored = errors.New("call tells nothing")
)

// machine is a gobreaker together with the settings that are fixed when it is built.
type machine struct {
	*gobreaker.TwoStepCircuitBreaker[struct{}]

	openFor time.Duration
	probes  int
}

// newMachine returns a closed machine. It opens at the first failure that it is shown, because it is shown only one that tipped the
// window. Its open time ends after Timeout, not at it: a nanosecond less lets half-open begin at OpenFor exactly.
func newMachine(s Settings) machine {
	return machine{
		TwoStepCircuitBreaker: gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			MaxRequests: uint32(s.Probes),
			Timeout:     s.OpenFor - time.Nanosecond,
			ReadyToTrip: func(gobreaker.Counts) bool { return true },
			IsExcluded:  func(err error) bool { return errors.Is(err, errIgnored) },
		}),
		openFor: s.OpenFor,
		probes:  s.Probes,
	}
}

// fits tells whether the machine was built for s.
func (m machine) fits(s Settings) bool { return m.openFor == s.OpenFor && m.probes == s.Probes }

// free tells whether a machine in half-open has a permit left.
func (m machine) free() bool {
	c := m.Counts()
	return int(c.Requests)-int(c.TotalExclusions) < m.probes
}

// trip opens a closed machine.
func (m machine) trip() {
	if done, err := m.Allow(); err == nil {
		done(errFailed)
	}
}
