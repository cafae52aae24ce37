// Package client connects an application to a back-end through its guard.
//
// # Usage
//
// Dial returns a connection to hand to any generated client. A Feature, made once and kept, is the handle of one piece of load-heavy
// functionality. Fallback joins the three: it gives a method of a generated client what to do while its feature is off, or while the guard
// refuses or is gone.
//
//	guard, err := client.Dial("127.0.0.1:7070", client.WithAdmin("127.0.0.1:7071"))
//	shop := pb.NewShopClient(guard)
//	recs := guard.Feature("recs")
//	recommend := client.Fallback(recs, shop.Recommend, bestsellers)
//	books, err := recommend(ctx, request)
//
// Beneath it, Feature.Tag marks the calls of any kind that belong to a feature, Feature.On asks locally for work that needs no call,
// WithCriticality and WithTenant say who is shed first and whose call it is, and Rejected tells what a refusal says.
//
// # Who decides
//
// The guard does. A tagged call goes to the guard whatever the local flags say, and the guard lets it pass, dims it or refuses it; this
// package never guesses a limit: also while the guard is gone it goes by the guard's last word. Only Feature.On is answered here, and only
// a feature that is off here makes Fallback spare the network. On draws lots for a dimmed feature by itself, so a call that was asked for
// with On and then tagged as well would be dimmed twice: 20 % of 20 % is 4 %. Ask On for work that never reaches the guard; for calls use
// Fallback, or Tag and look at the error.
//
// # Flags
//
// The admin port streams all flags, then every change, and heartbeats. Handles read an immutable snapshot of them behind an atomic
// pointer: On is a few nanoseconds, allocates nothing, never blocks and is safe for concurrent use, like everything here. A feature
// without a flag is on. A setting with an end ends here too, by a timer, also when the guard is gone. A stream that falls silent for three
// heartbeats, or a change that does not fit what is known, leads to a new stream and so to the whole set again. With WithFlagFile the last
// flags known are also on disk: checksummed, replaced atomically, read at the next start until the stream speaks.
//
// # When things are down
//
//   - The guard is gone: calls fail at once with an UnreachableError, or go past it with WithDirect; flags keep their last values, both
//     connections are tried again every half second. A guard that accepts or answers nothing at all is given three seconds when a
//     connection is made (with WithDirect calls wait for a tenth of a second of them), and twenty when it is silent with calls in flight.
//   - The admin port alone is gone: calls go on, flags keep their last values, Conn.Health says since when they may be stale.
//   - Nothing was ever known (no stream, no file): features are on, or off for handles made with Feature.OffUntilKnown.
//   - The file is corrupt or the disk full: a log line and Health.DiskError; flags go on from memory and stream.
//
// # Past the guard
//
// With WithDirect a unary call that finds no guard goes to the back-end itself, if it has never been on its way to the guard. A back-end
// that all clients fall upon at once would not live long, so each has a lease: how many of its calls may be there at once. The guard
// grants it in its answers, from the limit and from what all clients have in flight, and all leases together are the limit.
// (docs/design/leases.md)
//
// The older the lease, the less it is worth: from the last word of the guard on it moves to the static share of WithDirect, evenly, in 30
// seconds. A client that never heard of a lease has the share alone. What is less than one call at a time is one call with rests between.
// A call that finds the lease used up waits for up to a tenth of a second, first come first served, and then fails with an UnreachableError
// that says so; its deadline may come first.
//
// Past the guard calls of a feature that is off by the last flags known are refused with FeatureOff, and dimmed ones draw lots; while
// nothing was ever known of flags, calls of features do not go past the guard at all. Only tags count, not features that the guard's
// configuration gives to methods. Criticality, tenants, breaker and retry budget are the guard's, and are not imitated; retries and their
// throttle are as ever. As soon as the guard's connection stands, new calls go to the guard again. Calls with gRPC's wait-for-ready wait
// for it.
//
// # Retries
//
// Unary calls that were refused with a push-back, or answered UNAVAILABLE, are tried again, at most three times in all and never beyond
// their deadline. A push-back is obeyed exactly, with jitter added; a negative one means never, one of more than five seconds is left to
// the application. Without one the pause is 50 ms, doubled each time, and spread from half to one and a half of that.
//
// What holds them back is the token bucket of gRFC A6: of 20 tokens every failure takes one, every success brings a tenth (WithRetryRatio),
// and at half of them and below nothing is retried. So a back-end that fails is soon left alone, and retries never exceed a tenth of the
// calls by more than ten. All Conns of a process to one address share one bucket. Refusals of a feature that is off or dimmed take none.
//
// A gRPC service config takes the place of these rules and never adds to them, for gRPC's own retries are switched off, but for those of
// calls that never left. Its retryPolicy is followed for the methods it names, whether it comes from a resolver or an option, and its
// timeout bounds all attempts together; its retryThrottling is followed where this package can see it: with WithServiceConfig. Whatever
// the codes of a policy, refusals that say when are retried: the back-end never had the call. There is no hedging: nothing multiplies
// load more when a back-end is slow.
//
// # What this package does not do
//
// It does not retry streams, nor calls that may have been carried out when their connection broke, nor calls that neither the guard nor a
// lease lets pass; streams do not go past the guard. It does not touch W3C baggage or any other metadata of the application. It does not
// authenticate beyond TLS. It reports nothing to the guard but, with WithDirect, how many of its calls are under way. It balances no load
// and starts no trace: hand it stats handlers and interceptors with WithGRPC.
package client
