// Package featureflags holds the runtime switches of features: the model, its commands, its history, and how changes spread.
//
// A feature is a named piece of load; its flag says what share of its calls passes: all (on), none (off), or a random part (dimmed). A
// feature without a flag passes. A flag has a standing setting, without an end, and may have an override, with one. Turning the switch for
// a time sets the override; when that ends, the standing setting is in force again by itself. Turning it without an end sets the standing
// setting and drops the override. So "off for two hours, because of this incident" is one command, and needs no second one to be undone.
//
// # Usage
//
// A Registry is the authority. Open it on a Store, let Run keep time, change it through Apply, and read it:
//
//	store, err := boltstore.Open(dir) // or featureflags.NewMemory()
//	registry, err := featureflags.Open(ctx, store)
//	go registry.Run(ctx)
//	result, err := registry.Apply(ctx, featureflags.Command{Action: featureflags.Disable, Name: "recs", TTL: 2 * time.Hour}, nil)
//	flag, ok := registry.Snapshot().Flag("recs")
//
// Whoever decides on calls watches, and keeps for each feature its Gate: one number, one comparison for a call. Watch yields a snapshot
// when a setting has ended, too; who decides without Run must look at the clock, and ask Flag.Effective.
//
// # Order
//
// A command is checked, stored, published, and then answered, one at a time. Whoever loads a Snapshot after the answer sees the change; no
// snapshot shows a change that is not stored. Every change has a revision, a number one higher than that of the change before, and is one
// entry of the history, written in the same transaction. A snapshot is all flags at one revision and never changes. The end of an override
// is a change like others, by the actor Schedule. What ended while nobody ran the registry is written down when Run starts.
//
// # Repetition
//
// A second identical command is answered like the first and changes nothing; Command says what identical means. It has no revision. A
// command with a request id gets the first answer again within 24 hours, whatever has happened since, so that a repetition that comes late
// undoes nothing; this holds also for a command that changed nothing. With an etag, a command is carried out only on that version of the
// flag. ValidateOnly makes all checks and answers as if, with the etag that the real command then needs.
//
// # Durability
//
// What was answered is in the store, for good as far as the store promises that: see package boltstore. When the store fails, Apply
// answers StoreDown, nothing is half changed, the flags in force stay in force, and reading goes on; StoreError says since when. Commands
// that would change nothing succeed also then, unless they carry a request id. An override ends on time all the same, and its end is
// written down once the store is back.
//
// Flags, history and request ids are bounded: see MaxFlags, HistoryPerFlag, HistoryTotal, RequestWindow, MaxRequests.
//
// # Slow watchers
//
// Nobody waits for a watcher. Publishing wakes all of them, and each loads the latest snapshot when it comes round: a slow one skips what
// was between and misses only intermediate states, never the last. What it costs to be slow is one snapshot kept in memory.
//
// # Testing
//
// Memory is a real Store without a disk. Nothing here has a clock of its own to be replaced: in a testing/synctest bubble, a setting with
// an hour to go ends in no time. Package storetest checks other stores.
//
// # What this package does not do
//
// It knows no calls: it neither counts them nor refuses any. It does not choose by caller, user or tenant, sticks to nobody, ramps nothing,
// asks nobody for approval, and logs nothing. One registry is one authority; several do not share. There is no emergency override that
// switches off in memory alone while the store is down: such a command is refused with StoreDown, and whoever must have the load gone then
// frees the disk or forces the breaker.
package featureflags
