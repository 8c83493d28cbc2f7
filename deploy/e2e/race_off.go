//go:build !race

package e2e

// raceEnabled says that the programs are built with the race detector, as the tests are.
const raceEnabled = false
