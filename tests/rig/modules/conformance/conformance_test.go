// Package conformance is the Gateway API's conformance suite as a program.
package conformance

import (
	"fmt"
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

// TestConformance runs one test after another: the suite's report calls a parallel test passed as soon as it pauses.
//
// What begins and what comes of it is said at once, in lines for the rig: Go says it when all are done, which a run that takes too long never
// is, and the report names what failed only.
func TestConformance(t *testing.T) {
	var running *testing.T
	for i := range tests.ConformanceTests {
		test := &tests.ConformanceTests[i]
		name, manifests, run := test.ShortName, test.Manifests, test.Test
		test.Parallel = false
		// Applied here as the suite would, so that a test has begun if any of it has.
		test.Manifests = nil
		test.Test = func(t *testing.T, s *suite.ConformanceTestSuite) {
			running = t
			say("running", name)
			for _, manifest := range manifests {
				s.Applier.MustApplyWithCleanup(t, s.Client, s.TimeoutConfig, manifest, s.CleanupTestResources)
			}
			run(t, s)
		}
	}
	options := conformance.DefaultOptions(t)
	options.Hook = func(_ *testing.T, test suite.ConformanceTest, _ *suite.ConformanceTestSuite) {
		switch {
		case running == nil || running.Skipped():
			say("skipped", test.ShortName)
		case running.Failed():
			say("failed", test.ShortName)
		default:
			say("passed", test.ShortName)
		}
		running = nil
	}
	conformance.RunConformanceWithOptions(t, options)
}

// Begins a line: what was printed before may not have ended its own.
func say(what, name string) {
	fmt.Printf("\nconformance: %s %s\n", what, name)
}
