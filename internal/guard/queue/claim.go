package queue

import (
	"cmp"
	"time"
)

// Claim is what a waiter may ask of the line. The zero Claim is one call of nobody in particular, of rank 0, with the patience of the
// settings.
type Claim struct {
	Rank   int    // criticality: lower is served first
	Tenant string // whose call it is; "" is a tenant like any other
	// Weight is the share of the tenant beside the others that are known. A weight other than 0 says that it is known, and gives it an
	// account of its own however many strangers there are: who sets weights bounds the number of such tenants. 0 is a stranger: its
	// weight is 1, but all of them together have 10 at most beside the known, and equal shares of it.
	Weight   float64
	Cost     float64       // work of the call in units of the cheapest usual one; 0 is 1
	Deadline time.Time     // the last moment at which being served still helps; zero is none
	Patience time.Duration // how long to wait at most, in place of MaxWait; 0 is MaxWait, negative is not at all
}

// charge is what the tenant pays for being served.
func (c Claim) charge() float64 { return cmp.Or(c.Cost, 1) / cmp.Or(c.Weight, 1) }
