package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
)

func TestLoadtestListsScenarios(t *testing.T) {
	var out, complaints bytes.Buffer
	if err := run(t.Context(), []string{"loadtest", "--list"}, &out, &complaints); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"S1a ", "S2/10 ", "S19 ", "S20c ", "S21a ", "flip at all clients <= 1s", "goodput >= 0.970"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the list has no %q:\n%s", want, out.String())
		}
	}
}

func TestLoadtestSaysWhatIsWrong(t *testing.T) {
	for _, tc := range []struct {
		args string
		want string
	}{
		{"", "--scenario is missing"},
		{"--scenario S99", `no scenario "S99"; --list names them all`},
		{"--scenario S2 --guard on", `--guard is "on"`},
		{"--scenario S2 --seeds 0", "--seeds is 0"},
		{"--scenario S2 --width 7", `no variant "7"`},
		{"S2", "takes only flags"},
	} {
		var out, complaints bytes.Buffer
		err := run(t.Context(), append([]string{"loadtest"}, strings.Fields(tc.args)...), &out, &complaints)
		if !errors.Is(err, errUsage) || !strings.Contains(complaints.String(), tc.want) {
			t.Errorf("loadtest %s: %v, %q; want %q", tc.args, err, complaints.String(), tc.want)
		}
	}
}

// TestLoadtestStops: Ctrl-C is no fault.
func TestLoadtestStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, complaints bytes.Buffer
	if err := run(ctx, []string{"loadtest", "--scenario", "S2/2"}, &out, &complaints); err != nil || !strings.Contains(out.String(), "stopped") {
		t.Errorf("%v; it says %q", err, out.String())
	}
}
