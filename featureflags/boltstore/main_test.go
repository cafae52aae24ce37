package boltstore_test

import (
	"fmt"
	"os"
	"testing"
)

// childEnv makes the test binary a guard that only changes flags in the directory that it names, until it is killed.
const childEnv = "BOLTSTORE_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		fmt.Fprintln(os.Stderr, changeFlagsForEver(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}
