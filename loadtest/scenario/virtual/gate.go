package virtual

import (
	"time"

	"github.com/capguard/capguard/internal/guard"
)

// Gate decides which calls go to the back-end. The loop calls it from one goroutine. Its answers, Call.Admit and Call.Refuse, may come at
// once or later, and from any goroutine of the bubble.
type Gate interface {
	// Arrive tells of a call that wants to pass: it has to be admitted or refused, each once.
	Arrive(c *Call)
	// Gone tells that the caller of a call without an answer has given up. If it is admitted all the same it ends at once, as guard.Ignored.
	Gone(c *Call)
	// Ended tells how an admitted call ended, and how long it took since it was admitted: guard.Overload after a time-out, which is all that
	// the gate hears of the call then, and when the back-end pushed back; guard.Failure when there was nobody to connect to.
	Ended(c *Call, o guard.Outcome, took time.Duration)
	// Limit returns how many calls it would let be at the back-end now; 0 if it has no such figure. It is for plots.
	Limit() float64
}

// Connected is a Gate that is told about its connections.
type Connected interface {
	// Connection tells that the connection to a replica broke, or that there is one again. At the start there is one to each.
	Connection(replica int, up bool)
}

// Streaming is a Gate that is told about the messages of streams.
type Streaming interface {
	// Message tells that a stream has sent a message to its replica, or has got the answer to one.
	Message(c *Call, answered bool)
}

// Maker makes gates.
type Maker struct {
	Name string
	// Make returns a gate that is ready.
	Make func(w *World) Gate
	// Clocked tells that its gates look at the clock, so that they have to be played in a bubble.
	Clocked bool
}

// World is what a gate may know.
type World struct {
	Replicas  int           // endpoints of the back-end
	Objective time.Duration // up to which response time a success is good; only hindsight uses it
	run       *run
}

// Now returns the time since the start of the run. Only Arrive, Gone and Ended may ask.
func (w *World) Now() time.Duration { return w.run.now }

// Call is one attempt, as a gate sees it.
type Call struct {
	Method, Tenant string
	Criticality    guard.Criticality
	Attempt        int           // how often it was tried before
	Deadline       time.Time     // when its caller gives up, by the clock of the bubble
	Left           time.Duration // the same, since the start of the run; that of an open stream does not count
	Stream         bool
	State          any // whatever the gate wants to remember with it

	run      *run
	gate     Gate
	request  int // its index in the record
	attempt  int // its index in the record
	stage    stage
	replica  int
	admitted time.Duration
	outcome  error // of the back-end that did not take it
	job      job
	talk     *talk // of an open stream
}

// stage is how far a call has come.
type stage uint8

const (
	waiting stage = iota // at the gate
	sent                 // to the back-end
	over
)

// Admit lets the call go to a replica, from 0 up to World.Replicas.
func (c *Call) Admit(replica int) { c.run.say(c, replica) }

// Refuse turns the call away.
func (c *Call) Refuse() { c.run.say(c, refused) }

// Replica returns where the call was sent.
func (c *Call) Replica() int { return c.replica }

// answer is what a gate says of a call.
type answer struct {
	call    *Call
	replica int // or refused
	at      time.Duration
}

const refused = -1
