package featureflags_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/capguard/capguard/featureflags"
)

// Switch a feature off for two hours, and ask what is in force.
func Example() {
	ctx := context.Background()
	reg, err := featureflags.Open(ctx, featureflags.NewMemory())
	if err != nil {
		fmt.Println(err)
		return
	}
	result, err := reg.Apply(ctx, featureflags.Command{
		Action: featureflags.Disable, Name: "recs", Reason: new("stock DB at 95%"), TTL: 2 * time.Hour, Actor: "ann", AllowMissing: true,
	}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	now := time.Now()
	setting, until := result.Flag.Effective(now)
	fmt.Println(setting.State(), "by", setting.Actor+":", setting.Reason)
	fmt.Println("back to", result.Flag.Standing.State(), "in", until.Sub(now).Round(time.Hour))
	fmt.Println("a call passes:", result.Flag.Gate(now).Pass(rand.Uint32()))
	// Output:
	// off by ann: stock DB at 95%
	// back to on in 2h0m0s
	// a call passes: false
}

func ExampleRegistry_Watch() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	reg, err := featureflags.Open(ctx, featureflags.NewMemory())
	if err != nil {
		fmt.Println(err)
		return
	}
	for snapshot := range reg.Watch(ctx) {
		fmt.Println("revision", snapshot.Revision)
		for f := range snapshot.All() {
			fmt.Println(f.Name, f.Standing.State(), f.Standing.Percent)
		}
		if snapshot.Revision == 1 {
			break
		}
		percent := 20.0
		dim := featureflags.Command{Action: featureflags.Dim, Name: "recs", Percent: &percent, AllowMissing: true}
		if _, err := reg.Apply(ctx, dim, nil); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// revision 0
	// revision 1
	// recs dimmed 20
}

func ExampleRegistry_Apply_unknownName() {
	ctx := context.Background()
	reg, err := featureflags.Open(ctx, featureflags.NewMemory())
	if err != nil {
		fmt.Println(err)
		return
	}
	if _, err := reg.Apply(ctx, featureflags.Command{Action: featureflags.Create, Name: "recs"}, nil); err != nil {
		fmt.Println(err)
	}
	_, err = reg.Apply(ctx, featureflags.Command{Action: featureflags.Disable, Name: "rcs"}, nil)
	fmt.Println(err)
	// Output: no flag and no feature seen in calls is named "rcs"; did you mean recs? allow_missing creates it
}
