package demo

import (
	"fmt"
	"time"
)

// How long the story takes: by itself, and at least, because the back-end needs its time to crash.
const (
	DefaultDuration = 90 * time.Second
	MinDuration     = 20 * time.Second
)

// script is how long each part of the story takes.
type script struct {
	calm1  time.Duration // without the guard: the base load alone
	storm1 time.Duration // without the guard: with the feature
	calm2  time.Duration // with the guard: the base load alone
	storm2 time.Duration // with the guard: with the feature
	wait   time.Duration // for an operator to type the command
	off    time.Duration // the ttl of the feature's being off; whole seconds
	back   time.Duration // with the feature again
}

// write divides a duration. What can be shortened is shortened in proportion; the operator gets what is left, which is 25 s of 90.
func write(total time.Duration) (script, error) {
	if total < MinDuration {
		return script{}, fmt.Errorf("a demo of %v is too short to tell anything: use --duration %v or more", total, MinDuration)
	}
	part := func(seconds int, least time.Duration) time.Duration {
		d := total * time.Duration(seconds) / 90
		return min(max(d, least), time.Duration(seconds)*time.Second).Truncate(time.Second)
	}
	s := script{
		calm1:  part(5, 1*time.Second),
		storm1: part(17, 8*time.Second),
		calm2:  part(4, 1*time.Second),
		storm2: part(9, 3*time.Second),
		off:    part(15, 3*time.Second),
		back:   part(15, 3*time.Second),
	}
	s.wait = total - s.calm1 - s.storm1 - s.calm2 - s.storm2 - s.off - s.back
	return s, nil
}
