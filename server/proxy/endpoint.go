package proxy

import (
	"sync"

	"github.com/capguard/capguard/internal/guard"
	"github.com/capguard/capguard/server/relay"
)

// address is one address of a target, connected to. The guard knows it as an endpoint, and chooses between them.
type address struct {
	endpoint *relay.Endpoint
	guarded  *guard.Endpoint
	where    string

	mu      sync.Mutex
	calls   int  // on it, whatever they are
	retired bool // its name does not lead there any more; it is closed when its last call has ended
}

// addressOf returns the address that the guard knows as e; nil for none.
func addressOf(e *guard.Endpoint) *address {
	if e == nil {
		return nil
	}
	a, _ := e.Value.(*address) // An endpoint of the guard's own has none.
	return a
}

func (a *address) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls++
}

// end ends a call that begin has counted.
func (a *address) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls--
	a.closeLocked()
}

// retire closes the address when its last call has ended.
func (a *address) retire() {
	a.guarded.Remove()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.retired = true
	a.closeLocked()
}

func (a *address) closeLocked() {
	if a.retired && a.calls == 0 {
		a.retired = false
		go a.endpoint.Close() // Ends at once: no call is left.
	}
}

// endpoints are all addresses of one back-end.
type endpoints struct {
	targets []*target
}

func (es *endpoints) close() {
	for _, t := range es.targets {
		t.close()
	}
}
