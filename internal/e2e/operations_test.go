package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/metadata"

	fragilev1 "github.com/capguard/capguard/gen/capguard/fragile/v1"
	capguardv1 "github.com/capguard/capguard/gen/capguard/v1"
)

// shellBlocks are the commands of a document: what stands in its fenced sh blocks, line by line.
func shellBlocks(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		joined := strings.ReplaceAll(block[1], "\\\n", " ")
		for line := range lines(strings.NewReader(joined)) {
			if strings.TrimSpace(line) != "" {
				commands = append(commands, line)
			}
		}
	}
	return commands
}

// shell types commands one after another into one shell, in which the real grpcurl is found, and returns what each printed and how it
// ended.
func shell(t *testing.T, g guardProcess, commands []string) (outputs []string, exits []string) {
	t.Helper()
	const mark = "=====capguard====="
	var script strings.Builder
	for _, c := range commands {
		c = strings.NewReplacer("127.0.0.1:7071", g.admin, "127.0.0.1:7070", g.data).Replace(c)
		fmt.Fprintf(&script, "%s\necho %s $?\n", c, mark)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash")
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(tool(t, "grpcurl"))+":"+os.Getenv("PATH"))
	cmd.Stdin = strings.NewReader(script.String())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("the shell ended with %v:\n%s", err, out)
	}
	for part := range strings.SplitSeq(string(out), mark) {
		if len(outputs) > 0 {
			exit, rest, _ := strings.Cut(part, "\n")
			exits, part = append(exits, strings.TrimSpace(exit)), rest
		}
		outputs = append(outputs, part)
	}
	return outputs[:len(commands)], exits
}

// seenRecs lets the guard see a call of the feature, as the documents assume.
func seenRecs(t *testing.T, g guardProcess) {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "capguard-feature", "recs")
	if _, err := fragilev1.NewStockServiceClient(dial(t, g.data)).Recommend(ctx, &fragilev1.RecommendRequest{}); err != nil {
		t.Fatal(err)
	}
}

// refusedOne lets the guard refuse a call of the trace that the document asks for: an operator held the breaker open for a moment.
func refusedOne(t *testing.T, g guardProcess) {
	t.Helper()
	guards := capguardv1.NewGuardServiceClient(dial(t, g.admin))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	for _, state := range []string{"open", "auto"} {
		if _, err := guards.ForceBreaker(t.Context(), &capguardv1.ForceBreakerRequest{State: state}); err != nil {
			t.Fatal(err)
		}
		if _, err := fragilev1.NewStockServiceClient(dial(t, g.data)).Recommend(ctx, &fragilev1.RecommendRequest{}); (err != nil) != (state == "open") {
			t.Fatalf("breaker %s: %v", state, err)
		}
	}
}

// TestNightSession types every command of docs/operations.md with the real grpcurl, in the order in which they stand there.
func TestNightSession(t *testing.T) {
	g := serve(t, nil, fragileBackend(t))
	seenRecs(t, g)
	refusedOne(t, g)
	commands := shellBlocks(t, "../../docs/operations.md")
	if len(commands) < 30 {
		t.Fatalf("the document has only %d commands", len(commands))
	}
	outputs, exits := shell(t, g, commands)
	for i, c := range commands {
		want := "0"
		if strings.Contains(c, "-max-time") {
			want = "68" // the stream was still open when the time was over
		}
		if exits[i] != want {
			t.Errorf("exit code %s, want %s: %s\n%s", exits[i], want, c, outputs[i])
		}
	}
	said(t, commands, outputs)
}

// said checks a few answers for what the operator has to read in them.
func said(t *testing.T, commands, outputs []string) {
	t.Helper()
	for _, want := range []struct{ command, pattern string }{
		{`"ttl":"7200s"`, `(?s)"name": "flags/recs".*"state": "STATE_OFF".*"reason": "stock DB at 95%, INC-4821".*"actor": "anna".*"expireTime".*"etag".*"revision"`},
		{`describe capguard.v1.FlagService`, `(?s)after the answer to DisableFlag no further call of the feature reaches a back-end.*rpc DisableFlag`},
		{`"percent":20`, `"state": "STATE_DIMMED"`},
		{`"parent":"recs","pageSize":5`, `(?s)ACTION_ENABLE.*ACTION_DIM.*ACTION_DISABLE`},
		{`"validate_only":true`, `"percent": 50`},
		{`RollbackFlag`, `"reason": "that was better"`},
		{`"state":"open"`, `(?s)STATE_FORCED_OPEN.*"reason": "restart of the stock DB".*"actor": "anna"`},
		{`"mode":"observe"`, `MODE_OBSERVE`},
		{`Health/List`, `"default": \{\s*"status": "SERVING"`},
		{`WatchFlags`, `KIND_SNAPSHOT`},
		{`StockService/Recommend","feature"`, `(?s)"summary": "a first attempt of \S+ passes now".*"kind": "KIND_FLAG".*"kind": "KIND_ENDPOINT"`},
		{`"trace_id":`, `(?s)"summary": "a call of \S+/Recommend was refused .*\(BREAKER_OPEN\).*"rule": "KIND_BREAKER"`},
	} {
		found := false
		for i, c := range commands {
			found = found || strings.Contains(c, want.command) && regexp.MustCompile(want.pattern).MatchString(outputs[i])
		}
		if !found {
			t.Errorf("no command with %s has answered %s", want.command, want.pattern)
		}
	}
}

// TestREADME types every grpcurl command of the README. The one that calls the feature which was switched off before it is refused.
func TestREADME(t *testing.T) {
	g := serve(t, nil, fragileBackend(t))
	seenRecs(t, g)
	var commands []string
	for _, c := range shellBlocks(t, "../../README.md") {
		if c, ours := strings.CutPrefix(c, "bin/grpcurl"); ours || strings.HasPrefix(c, "grpcurl") {
			commands = append(commands, "grpcurl"+strings.TrimPrefix(c, "grpcurl"))
		}
	}
	outputs, exits := shell(t, g, commands)
	refused := 0
	for i, c := range commands {
		want := "0"
		if strings.Contains(c, ":7070 capguard.fragile.v1.StockService/Recommend") {
			want, refused = "73", refused+1 // FAILED_PRECONDITION
		}
		if exits[i] != want {
			t.Errorf("exit code %s, want %s: %s\n%s", exits[i], want, c, outputs[i])
		}
	}
	if refused != 1 || len(commands) < 6 {
		t.Errorf("the README has %d commands and %d refused calls", len(commands), refused)
	}
}

// Typos and second thoughts, as they happen at half past one at night.
func TestTypos(t *testing.T) {
	g := serve(t, nil, fragileBackend(t))
	seenRecs(t, g)
	at := " 127.0.0.1:7071 capguard.v1.FlagService/"
	typed := []struct{ command, exit, pattern string }{
		{`grpcurl -plaintext -d '{"name":"rec"}'` + at + `DisableFlag`, "69", `did you mean "recs"`},
		{`grpcurl -plaintext -d '{"nam":"recs"}'` + at + `DisableFlag`, "1", `nam`},
		{`grpcurl -plaintext -d '{"name":"recs","percent":120}'` + at + `DimFlag`, "67", `percent`},
		{`grpcurl -plaintext -d '{"name":"recs"}'` + at + `DimFlag`, "67", `percent`},
		{`grpcurl -plaintext -d '{"name":"recs","ttl":"-5s"}'` + at + `DisableFlag`, "67", `ttl`},
		{`grpcurl -plaintext -d '{"name":"Recs of the day!","allow_missing":true}'` + at + `DisableFlag`, "67", `1 to 63`},
		{`grpcurl -plaintext -d '{"name":"recs"}'` + at + `DisableFlag`, "0", `STATE_OFF`},
		{`grpcurl -plaintext -d '{"name":"recs","etag":"beef"}'` + at + `EnableFlag`, "74", `ETAG_MISMATCH`},
		{`grpcurl -plaintext -d '{"flag":{"name":"recs","percent":0},"update_mask":{"paths":["enabled"]}}'` + at + `UpdateFlag`, "67", `enabled`},
		{`grpcurl -plaintext -d '{"filter":"sate = STATE_ON"}'` + at + `ListFlags`, "67", `state`},
		{`grpcurl -plaintext -d '{"name":"flags/recs/revisions/99"}'` + at + `RollbackFlag`, "69", `REVISION_NOT_FOUND`},
		{`grpcurl -plaintext -d '{"name":"stock"}' 127.0.0.1:7071 capguard.v1.GuardService/GetBackend`, "69", `default`},
		{`grpcurl -plaintext -d '{"mode":"on"}' 127.0.0.1:7071 capguard.v1.GuardService/SetMode`, "67", `enforce`},
		{`grpcurl -plaintext 127.0.0.1:7070 list`, "0", `capguard.fragile.v1.StockService`},
	}
	var commands []string
	for _, c := range typed {
		commands = append(commands, c.command)
	}
	outputs, exits := shell(t, g, commands)
	for i, c := range typed {
		if exits[i] != c.exit || !regexp.MustCompile(c.pattern).MatchString(outputs[i]) {
			t.Errorf("%s\nexit code %s, want %s, and %q in:\n%s", c.command, exits[i], c.exit, c.pattern, outputs[i])
		}
	}
}
