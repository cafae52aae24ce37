package meter_test

import (
	"bufio"
	"os/exec"
	"testing"
	"time"

	"github.com/capguard/capguard/benchmarks/meter"
)

// TestMeterReadsAFamily starts a shell that does nothing but wait for another one, which works.
func TestMeterReadsAFamily(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; read _'; true`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	m, err := meter.Of(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if cpu, err := m.CPU(); err != nil || cpu < 10*time.Millisecond {
		t.Errorf("CPU of the family is %v, error %v", cpu, err)
	}
	if err := m.ResetPeak(); err != nil {
		t.Error(err)
	}
	if peak, err := m.Peak(); err != nil || peak < 100<<10 || peak > 100<<20 {
		t.Errorf("peak of the family is %d bytes, error %v", peak, err)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := m.CPU(); err == nil {
		t.Error("processes that are gone have a clock")
	}
}

func TestNoProcessCostsNothing(t *testing.T) {
	var m meter.Meter
	cpu, err := m.CPU()
	peak, err2 := m.Peak()
	if cpu != 0 || peak != 0 || err != nil || err2 != nil {
		t.Errorf("got %v, %v, %d, %v", cpu, err, peak, err2)
	}
}
