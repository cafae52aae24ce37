package main

import (
	"debug/buildinfo"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"time"

	"google.golang.org/grpc"
)

// head says when, on what, and with which versions.
func (s settings) head() string {
	return fmt.Sprintf("%s, %d cores, %s/%s, medians of %d rounds of %v each. Go %s, grpc-go %s, nginx %s, HAProxy %s, Caddy %s.",
		time.Now().Format(time.DateOnly), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, s.rounds, s.round, runtime.Version()[len("go"):],
		grpc.Version, version("nginx"), version("haproxy"), s.caddy())
}

var number = regexp.MustCompile(`\d+\.\d+\.\d+`)

// version returns the version that a program tells.
func version(program string) string {
	out, _ := exec.Command(program, "-v").CombinedOutput() // Without the program there is no version either.
	return number.FindString(string(out))
}

// caddy returns the version of the module that caddy was built from: the program itself does not know it.
func (s settings) caddy() string {
	info, err := buildinfo.ReadFile(filepath.Join(s.programs, "caddy"))
	if err != nil {
		return ""
	}
	return number.FindString(info.Main.Version)
}
