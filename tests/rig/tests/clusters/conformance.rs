//! The conformance suite of the Gateway API runs in a cluster: its pods come up, and its tests come to their assertions.
//!
//! Nothing serves a GatewayClass here. A stand-in says yes to every class and every Gateway of the suite's, which is what the suite wants to hear
//! before its first test, and does nothing else: one test asks for no more and passes, any that sends a request fails.

use clap::Parser;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams};
use kube::{Api, Client};
use portolan_rig::conformance::{self, Verdict};
use portolan_rig::gateway_api::{self, Channel};
use portolan_rig::{Fleet, Options};
use serde_json::{Value, json};

/// The class that the stand-in accepts.
const CLASS: &str = "stand-in";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs clusters: make test"]
async fn the_conformance_suite_comes_to_its_assertions() {
    let fleet = Fleet::up(Options::new(["conformance"]).coredns(true)).await.expect("a fleet");
    let cluster = fleet.cluster("conformance").expect("there");
    gateway_api::install(cluster, Channel::Standard).await.expect("definitions");
    let folder = tempfile::tempdir().expect("a folder");
    let options = |test: &str| {
        let output = format!("--output={}", folder.path().join(test).display());
        conformance::Options::parse_from([
            "conformance",
            "--class=stand-in",
            "--minutes=5",
            "--timeouts=GWCMustBeAccepted:5;NamespacesMustBeReady:60;GatewayMustHaveAddress:1;RouteMustHaveParents:1",
            &format!("--test={test}"),
            &output,
        ])
    };

    // Without anybody who accepts the class, the first question has a negative answer and no test begins.
    let alone = conformance::suite(cluster, &options("HTTPRouteSimpleSameNamespace")).await.expect("a run");
    let said = alone.unfinished().expect("no report");
    assert!(said.contains("Ensuring GatewayClass has been accepted") && said.contains("not found"), "{said}");
    assert_eq!((alone.base.pods, alone.tally.results.len()), (0, 0));

    let client = cluster.client().await.expect("a client");
    class(&client).await;
    let stand_in = tokio::spawn(say_yes(client));

    // It asks for a status alone.
    let outcome = conformance::suite(cluster, &options("GatewayClassObservedGenerationBump")).await;
    let outcome = outcome.expect("a run");
    println!("{outcome}");
    assert_eq!(outcome.unfinished(), None);
    assert_eq!(outcome.tally.all(Verdict::Passed), ["GatewayClassObservedGenerationBump"]);
    assert!(outcome.tally.all(Verdict::Failed).is_empty());
    assert!(outcome.tally.all(Verdict::Skipped).len() > 100, "the others");
    // CoreDNS is one of them.
    assert_eq!((outcome.base.pods, outcome.base.ready), (23, 23), "{}", outcome.base);
    let report = std::fs::read_to_string(outcome.report.expect("one")).expect("a file");
    let report: Value = serde_saphyr::from_str(&report).expect("YAML");
    assert_eq!(report["kind"], "ConformanceReport");
    assert_eq!(report["gatewayAPIChannel"], "standard");

    // It wants a Gateway with an address, and an answer from there.
    let outcome = conformance::suite(cluster, &options("HTTPRouteSimpleSameNamespace")).await;
    let outcome = outcome.expect("a run");
    println!("{outcome}");
    assert_eq!(outcome.tally.all(Verdict::Failed), ["HTTPRouteSimpleSameNamespace"]);
    assert!(outcome.tally.all(Verdict::Passed).is_empty());
    assert_eq!(outcome.unfinished(), None, "a test that failed is a result");
    stand_in.abort();
    fleet.down().expect("nothing stays");
}

async fn class(client: &Client) {
    let class = json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": CLASS},
        "spec": {"controllerName": "portolan.dev/stand-in"},
    });
    let class: DynamicObject = serde_json::from_value(class).expect("an object");
    api(client, "GatewayClass").create(&Default::default(), &class).await.expect("created");
}

/// Accepts every class and every Gateway, in whatever generation they are.
async fn say_yes(client: Client) {
    loop {
        for (kind, conditions) in
            [("GatewayClass", &["Accepted"][..]), ("Gateway", &["Accepted", "Programmed"][..])]
        {
            let objects = api(&client, kind);
            for object in objects.list(&Default::default()).await.into_iter().flatten() {
                agree(&client, kind, &object, conditions).await;
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn agree(client: &Client, kind: &str, object: &DynamicObject, conditions: &[&str]) {
    let generation = object.metadata.generation;
    let known = object.data["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let held = |name: &str| {
        known.iter().any(|its| {
            its["type"] == name && its["status"] == "True" && its["observedGeneration"].as_i64() == generation
        })
    };
    if conditions.iter().all(|name| held(name)) {
        return;
    }
    let conditions = conditions.iter().map(|name| {
        json!({
            "type": name,
            "status": "True",
            "reason": name,
            "message": "so says the stand-in",
            "observedGeneration": generation,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    });
    let status = json!({"status": {"conditions": conditions.collect::<Vec<_>>()}});
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let objects = match &object.metadata.namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource(kind)),
        None => api(client, kind),
    };
    // It may be gone by now; else it is tried again.
    let _: Result<DynamicObject, _> =
        objects.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await;
}

fn api(client: &Client, kind: &str) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource(kind))
}

fn resource(kind: &str) -> ApiResource {
    let plural = if kind == "Gateway" { "gateways" } else { "gatewayclasses" };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", kind), plural)
}
