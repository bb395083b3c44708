// Package conformance is the Gateway API's conformance suite as a program.
package conformance

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/tests"
)

// TestConformance runs one test after another: the suite's report calls a parallel test passed as soon as it pauses.
func TestConformance(t *testing.T) {
	for i := range tests.ConformanceTests {
		tests.ConformanceTests[i].Parallel = false
	}
	conformance.RunConformance(t)
}
