// The rivals that the guard is measured against, and what measures them, pinned outside the product's module graph.
module github.com/capguard/capguard/benchmarks

go 1.26.0

require (
	github.com/capguard/capguard v0.0.0
	golang.org/x/sys v0.48.0
	google.golang.org/grpc v1.85.0
)

require (
	github.com/sony/gobreaker/v2 v2.4.0 // indirect
	golang.org/x/net v0.60.0 // indirect
	golang.org/x/text v0.43.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20261104224025-d1e00e9f33ab // indirect
	google.golang.org/protobuf v1.36.12 // indirect
)

replace github.com/capguard/capguard => ../
