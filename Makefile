# Everything a developer does here. `make help` lists it; CI runs `make test` and nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

BIN := $(CURDIR)/bin
export PATH := $(BIN):$(PATH)
export GOFLAGS := -buildvcs=false

# The real Jaeger, built from its module with that module's own pins.
JAEGER_VERSION := $(shell cat tools/jaeger.version)
FUZZTIME ?= 20s
BENCHTIME ?= 1s
FUZZ_PACKAGES = $(shell grep -rl --include='*_test.go' 'func Fuzz' . | xargs -n1 dirname | sort -u)

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

.PHONY: demo
demo: ## watch a fragile back-end being protected, all on this machine
	@go run ./cmd/capguard demo $(ARGS)

.PHONY: build
build: ## build bin/capguard
	go build -o $(BIN)/capguard ./cmd/capguard

.PHONY: test
test: prerequisites lint tools build ## all checks: lint, unit, property and end-to-end tests with the race detector
	go test -race -timeout 25m ./...
	@$(MAKE) --no-print-directory off proofs

# With the race detector a twentieth of the calls is sent; here it is the whole million.
.PHONY: off
off: ## a million calls under 64 callers while the flag flips: off means off
	go test -count=1 -run 'TestOffMeansOff' -v ./internal/e2e

# With the race detector a few of the scenarios are played; here all of them, with several seeds.
.PHONY: proofs
proofs: ## the guard in every scenario of overload, in virtual time, held to what each wants
	go test -count=1 -timeout 20m -run 'TestProofs' ./loadtest/scenario ./loadtest/scenario/live

.PHONY: lint
lint: prerequisites $(BIN)/staticcheck $(BIN)/buf ## format, vet, staticcheck, modernizers, proto lint, breaking changes, generated code
	@test -z "$$(gofmt -l $$(git ls-files '*.go' | grep -v '^gen/'))" || { gofmt -l $$(git ls-files '*.go' | grep -v '^gen/'); echo 'not gofmt-ed'; exit 1; }
	go vet ./...
	staticcheck ./...
	@test -z "$$(go fix -diff ./... 2>/dev/null)" || { go fix -diff ./...; echo 'run go fix ./...'; exit 1; }
	buf lint
	buf breaking --against proto/released.binpb
	@go mod tidy -diff
	@$(MAKE) --no-print-directory check-generated

.PHONY: check-generated
check-generated: $(BIN)/buf
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	buf generate --output "$$dir"; \
	buf build -o "$$dir/descriptors.binpb" --as-file-descriptor-set --path proto/capguard/v1; \
	diff -r gen "$$dir/gen" && cmp server/admin/descriptors.binpb "$$dir/descriptors.binpb" || { echo 'generated code is not current: run make generate'; exit 1; }

.PHONY: generate
generate: $(BIN)/buf ## write gen/ and the descriptors anew from proto/
	buf generate
	buf build -o server/admin/descriptors.binpb --as-file-descriptor-set --path proto/capguard/v1

.PHONY: release-proto
release-proto: $(BIN)/buf
	buf build -o proto/released.binpb

.PHONY: bench
bench: build ## speed of a decision beside other libraries, of a flag, and of the whole hop against a direct call
	go run -C benchmarks/admission . $(DECISIONS)
	go test -run '^$$' -bench 'Floor|AdmitDone|Refuse' -benchmem -benchtime $(BENCHTIME) ./internal/guard
	go test -run '^$$' -bench 'FeatureOn' -benchmem -benchtime $(BENCHTIME) ./client
	go run ./loadtest/hop -guard $(BIN)/capguard $(ARGS)

# ARGS="-scenarios S2,S4 -seeds 1" plays some of them and writes nothing; docs/benchmarks.md has more.
.PHONY: scenarios
scenarios: ## the guard and its rivals in every scenario of overload, in virtual time; writes docs/benchmarks.md and docs/scenarios
	go test -C benchmarks/admission -count=1 -timeout 60m -run '^TestTable$$' -v ./scenarios -args -table $(or $(ARGS),-write ../../../docs) \
	  | grep -vE '^ *(=== |--- PASS|PASS|ok)'

# The suites of others. Their tools are pinned in conformance/go.mod and conformance/foreign/js/package-lock.json; grpcio is Debian's.

CONNECT_TOOLS := $(addprefix $(BIN)/,connectconformance grpcserver grpcclient referenceserver referenceclient)
PARTS ?=

# PARTS="connect h2spec foreign" runs some of them; MIDDLE=haproxy or none tries the suites themselves.
.PHONY: conformance
conformance: build interop $(CONNECT_TOOLS) $(BIN)/h2spec foreign ## connectconformance, h2spec, gRPC interop, Node.js and Python through the guard
	go vet -C conformance ./...
	go test -C conformance ./...
	go build -C conformance -o $(BIN)/conformance ./cmd/conformance
	go build -C conformance -o $(BIN)/echo ./foreign/echo
	conformance -bin $(BIN) -scripts conformance/foreign -middle $(or $(MIDDLE),guard) $(PARTS)

# Replaces the present recipe of `interop`, so that each of the four runs ends with its sum and a run of no case fails.
.PHONY: interop
interop: build $(BIN)/interop_client $(BIN)/interop_server ## gRPC's own interoperability suite through the guard, plain and TLS
	go test -count=1 -run 'TestInterop' -v ./internal/e2e | awk ' \
	  /--- (PASS|FAIL): TestInterop[A-Za-z]*\// { split($$3, name, "/"); ok[name[1]] += $$2 == "PASS:" } \
	  !/^ *(===|---) |^ *--- PASS|^(PASS|ok)/ || /--- FAIL/ { print } \
	  END { for (t in ok) { printf "interop, %s: %d of 14\n", t, ok[t]; bad += ok[t] != 14; runs++ } exit bad > 0 || runs < 4 }'

.PHONY: foreign
foreign: conformance/foreign/js/node_modules
	@/usr/bin/python3 -c 'import grpc' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-grpcio; \
	  else echo 'the foreign clients need grpcio for /usr/bin/python3: install python3-grpcio'; exit 1; fi; }

conformance/foreign/js/node_modules: conformance/foreign/js/package-lock.json
	@command -v npm >/dev/null || { \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nodejs npm; \
	  else echo 'the foreign clients need Node.js: install nodejs and npm'; exit 1; fi; }
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund
	@touch $@

$(CONNECT_TOOLS): conformance/go.mod
	go build -C conformance -o $@ connectrpc.com/conformance/cmd/$(@F)

$(BIN)/h2spec: conformance/go.mod
	go build -C conformance -o $@ github.com/summerwind/h2spec/cmd/h2spec

.PHONY: abuse
abuse: build ## attacks on the real guard: what they cost it, and what its other callers notice
	go test -count=1 -timeout 15m -run 'TestAbuse' -v ./internal/e2e | grep -vE '^(=== |\s*$$)'

.PHONY: bench-proxies
bench-proxies: build $(BIN)/bench/caddy ## what a call costs here, and through grpc-go, nginx, HAProxy and Caddy
	@if ! command -v nginx >/dev/null || ! command -v haproxy >/dev/null; then \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx-light haproxy; \
	  else echo 'the rivals nginx and HAProxy are missing: install nginx-light and haproxy'; exit 1; fi; \
	fi
	go build -C benchmarks -o $(BIN)/bench/ ./...
	@$(BIN)/bench/benchmarks $(ARGS)

$(BIN)/bench/caddy: benchmarks/caddy/go.mod
	@mkdir -p $(@D)
	go build -C benchmarks/caddy -o $@ github.com/caddyserver/caddy/v2/cmd/caddy

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each
	@for p in $(FUZZ_PACKAGES); do \
	  for f in $$(grep -hoE 'func Fuzz[A-Za-z0-9_]*' $$p/*_test.go | cut -d' ' -f2); do \
	    echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$p; \
	  done; \
	done

# What the checks need. Go tools come through the module proxy, pinned in tools/go.mod; the rest is Debian's.

.PHONY: grpcurl
grpcurl: $(BIN)/grpcurl ## build bin/grpcurl

.PHONY: tools
tools: $(BIN)/buf $(BIN)/staticcheck $(BIN)/grpcurl $(BIN)/interop_client $(BIN)/interop_server $(BIN)/jaeger

.PHONY: prerequisites
prerequisites:
	@if ! command -v gcc >/dev/null; then \
	  if [ "$$(id -u)" = 0 ]; then apt-get update -qq && apt-get install -y -qq gcc libc6-dev; \
	  else echo 'the race detector needs gcc: install it'; exit 1; fi; \
	fi

$(BIN)/buf: tools/go.mod
	go build -C tools -o $@ github.com/bufbuild/buf/cmd/buf

$(BIN)/staticcheck: tools/go.mod
	go build -C tools -o $@ honnef.co/go/tools/cmd/staticcheck

$(BIN)/grpcurl: tools/go.mod
	go build -C tools -o $@ github.com/fullstorydev/grpcurl/cmd/grpcurl

$(BIN)/interop_client: tools/go.mod
	go build -C tools -o $@ google.golang.org/grpc/interop/client

$(BIN)/interop_server: tools/go.mod
	go build -C tools -o $@ google.golang.org/grpc/interop/server

$(BIN)/jaeger: tools/jaeger.version
	dir=$$(go mod download -json github.com/jaegertracing/jaeger@$(JAEGER_VERSION) | sed -n 's/^\s*"Dir": "\(.*\)",$$/\1/p'); \
	go build -C "$$dir" -o $@ ./cmd/all-in-one
