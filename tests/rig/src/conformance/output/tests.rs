use super::*;

/// Hears all of it, and says what was new.
fn heard(text: &str) -> (Tally, Vec<News>) {
    let mut tally = Tally::default();
    let news = text.lines().filter_map(|line| tally.hear(line)).collect();
    (tally, news)
}

#[test]
fn tests_begin_and_end() {
    let (tally, news) = heard(
        "=== RUN   TestConformance/GatewayClassObservedGenerationBump\n\
         \n\
         conformance: running GatewayClassObservedGenerationBump\n\
         \x20   apply.go:200: 2026-11-27T23:00:00Z: Creating gatewayclass GatewayClass\n\
         \n\
         conformance: passed GatewayClassObservedGenerationBump\n\
         \n\
         conformance: skipped HTTPRouteRetry\n\
         \n\
         conformance: running HTTPRouteSimpleSameNamespace\n\
         \n\
         conformance: failed HTTPRouteSimpleSameNamespace\n\
         \n\
         conformance: running HTTPRouteTimeoutRequest\n\
         panic: test timed out after 1m0s\n",
    );
    let name = |text: &str| text.to_owned();
    assert_eq!(
        news,
        [
            News::Began(name("GatewayClassObservedGenerationBump")),
            News::Ended(name("GatewayClassObservedGenerationBump"), Verdict::Passed),
            News::Ended(name("HTTPRouteRetry"), Verdict::Skipped),
            News::Began(name("HTTPRouteSimpleSameNamespace")),
            News::Ended(name("HTTPRouteSimpleSameNamespace"), Verdict::Failed),
            News::Began(name("HTTPRouteTimeoutRequest")),
        ]
    );
    assert_eq!(tally.all(Verdict::Passed), ["GatewayClassObservedGenerationBump"]);
    assert_eq!(tally.all(Verdict::Failed), ["HTTPRouteSimpleSameNamespace"]);
    assert_eq!(tally.running.as_deref(), Some("HTTPRouteTimeoutRequest"));
}

#[test]
fn what_ends_the_suite_is_kept_and_what_fails_a_test_is_not() {
    let block = |test: &str| {
        format!(
            "    helpers.go:108: \n\
             \x20       \tError Trace:\tsigs.k8s.io/gateway-api/conformance@v1.6.1/utils/kubernetes/helpers.go:141\n\
             \x20       \t            \t\t\t\tportolan/tests/rig/conformance/conformance_test.go:46\n\
             \x20       \tError:      \tReceived unexpected error:\n\
             \x20       \t            \terror fetching GatewayClass: gatewayclasses \"x\" not found\n\
             \x20       \tTest:       \t{test}\n\
             \x20       \tMessages:   \terror waiting for x GatewayClass\n"
        )
    };
    let (tally, news) = heard(&format!(
        "    conformance.go:135:   GatewayClass: x\n\
         \x20   suite.go:382: 2026-11-28T00:06:51.179862308Z: Test Setup: Ensuring GatewayClass has been accepted\n{}",
        block("TestConformance")
    ));
    let step = "Ensuring GatewayClass has been accepted".to_owned();
    assert_eq!(tally.error.as_deref(), Some("error fetching GatewayClass: gatewayclasses \"x\" not found"));
    assert_eq!(tally.step.as_ref(), Some(&step));
    assert_eq!(news, [News::Step(step)]);

    let (tally, _) = heard(&block("TestConformance/HTTPRouteSimpleSameNamespace"));
    assert_eq!(tally.error, None);
}
