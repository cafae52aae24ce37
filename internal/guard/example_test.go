package guard_test

import (
	"context"
	"fmt"

	"github.com/capguard/capguard/internal/guard"
)

func Example() {
	g := guard.New(guard.Default())
	call := guard.Call{Method: "/shop.Stock/Check", Feature: "stock-hints"}

	permit, decision := g.Admit(context.Background(), call)
	fmt.Println("admitted:", decision.Admitted)
	permit.Answered()          // the back-end sent headers
	permit.Done(guard.Success) // it answered well; a data path defers this

	// An operator switches the feature off.
	g.SetFeatures(map[string]guard.Feature{"stock-hints": {Percent: 0, Why: "INC-4711", Who: "alice"}})
	fmt.Println("still on their way:", g.Quiesce(context.Background()))

	_, decision = g.Admit(context.Background(), call)
	fmt.Println("admitted:", decision.Admitted, "off:", decision.Reason == guard.FeatureOff, "why:", decision.Feature.Why)
	// Output:
	// admitted: true
	// still on their way: 0
	// admitted: false off: true why: INC-4711
}
