use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use portolan_api::contract::{REFUSED_ANNOTATION, SERVES_ANNOTATION, VERSION_ANNOTATION};
use portolan_api::{Checks, Converted, Names, Resource, from_api, kinds};
use portolan_model::condition::{Condition, ConditionType, Reason};
use portolan_model::intent::Delta;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;

const CHECKS: Checks = Checks {
    regex: |_| Ok(()),
    certificate: |_, _| Err("no certificates here".into()),
    ca_bundle: |_| Ok(()),
    cipher_suite: |_| Ok(()),
};

/// An API server, a compiler and a ledger that see the same.
struct World {
    ledger: Ledger,
    compiler: Compiler,
    names: Names,
    start: Instant,
    /// Seconds since the start.
    time: u64,
    version: u64,
    objects: HashMap<ObjectRef, Value>,
}

impl World {
    /// With `lb.net`, and a replica that serves nothing yet.
    fn new() -> Self {
        let mut world = Self {
            ledger: Ledger::default(),
            compiler: Compiler::new(),
            names: Names::default(),
            start: Instant::now(),
            time: 0,
            version: 100,
            objects: HashMap::new(),
        };
        let listeners = json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
        world.put::<kinds::Proxy>("", "default", json!({"lbDomain": "lb.net", "listeners": listeners}));
        world.serves(0);
        world.ledger.agents_are(&HashSet::new(), world.now());
        world
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.time)
    }

    fn clock(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + i64::try_from(self.time).unwrap()).unwrap()
    }

    /// Somebody writes an object: both watches see it, and the compiler judges it.
    fn put<R: Resource + DeserializeOwned>(&mut self, namespace: &str, name: &str, spec: Value) -> ObjectRef {
        let id = self.see::<R>(namespace, name, spec);
        self.judge::<R>(&id);
        id
    }

    fn see<R: Resource>(&mut self, namespace: &str, name: &str, spec: Value) -> ObjectRef {
        let id = ObjectRef::new(R::KIND, namespace, name);
        self.version += 1;
        let generation = self.objects.get(&id).map_or(1, |object| {
            object["metadata"]["generation"].as_i64().unwrap() + i64::from(object["spec"] != spec)
        });
        let status = self.objects.get(&id).map(|object| object["status"].clone()).unwrap_or_default();
        let object = json!({
            "metadata": {
                "name": name, "namespace": namespace, "uid": name, "generation": generation,
                "resourceVersion": self.version.to_string(),
            },
            "spec": spec,
            "status": status,
        });
        self.objects.insert(id.clone(), object);
        self.show(&id);
        id
    }

    fn show(&mut self, id: &ObjectRef) {
        let object = &self.objects[id];
        let meta: ObjectMeta = serde_json::from_value(object["metadata"].clone()).unwrap();
        let status = Some(object["status"].clone()).filter(|status| !status.is_null());
        self.ledger.object(Seen::of(id.kind, meta, status).unwrap(), self.now());
    }

    fn judge<R: Resource + DeserializeOwned>(&mut self, id: &ObjectRef) {
        let mut object = self.objects[id].clone();
        object["apiVersion"] = json!(R::KIND.api_version());
        object["kind"] = json!(R::KIND.as_str());
        if object["status"].is_null() {
            object.as_object_mut().unwrap().remove("status");
        }
        let delta = match from_api::<R>(&serde_json::from_value(object).unwrap(), &CHECKS, &mut self.names) {
            Ok(Converted::Object(object)) => Delta::Apply(Arc::new(object)),
            Ok(Converted::Ignored(why)) => panic!("{why}"),
            Err(errors) => {
                let told = |error: &portolan_api::FieldError| {
                    let message = error.message.clone();
                    Condition::new(ConditionType::Accepted, Reason::Invalid, error.path.to_string(), message)
                };
                Delta::Invalid(id.clone(), errors.iter().map(told).collect())
            }
        };
        let mut versions = Versions::new();
        versions.raise(id.kind, self.version);
        let update = self.compiler.apply([delta]);
        self.ledger.judged(&update, [id], &versions, self.now());
    }

    /// The replica says that it serves everything up to that version.
    fn serves(&mut self, version: u64) {
        let json: serde_json::Map<_, _> =
            KINDS.iter().map(|kind| (kind.to_string(), json!(version.to_string()))).collect();
        let mut lease = self.lease(SERVES_ANNOTATION, &Value::from(json).to_string());
        lease.metadata.name = Some("portolan-proxy-a".into());
        self.ledger.replica(&lease, self.now(), self.clock());
    }

    fn agent(&mut self, version: &str) {
        self.agent_with(version, None);
    }

    fn agent_with(&mut self, version: &str, refused: Option<&str>) {
        let mut lease = self.lease(VERSION_ANNOTATION, version);
        let annotations = lease.metadata.annotations.get_or_insert_default();
        annotations.extend(refused.map(|refused| (REFUSED_ANNOTATION.to_owned(), refused.to_owned())));
        self.ledger.agent(&"paris".into(), &lease, self.now(), self.clock());
    }

    fn lease(&self, annotation: &str, value: &str) -> Lease {
        Lease {
            metadata: ObjectMeta {
                annotations: Some([(annotation.to_owned(), value.to_owned())].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                renew_time: Some(MicroTime(self.clock())),
                lease_duration_seconds: Some(15),
                ..LeaseSpec::default()
            }),
        }
    }

    /// A few seconds pass, second by second; the replica lives on. What is written meanwhile.
    fn pass(&mut self, seconds: u64, version_served: u64) -> Vec<Write> {
        let mut written = Vec::new();
        for _ in 0..seconds {
            self.time += 1;
            self.ledger.reached(self.now());
            self.serves(version_served);
            self.ledger.tick(self.now());
            written.extend(self.write());
        }
        written
    }

    /// Writes what is due.
    fn write(&mut self) -> Vec<Write> {
        let mut written = Vec::new();
        while let Some(write) = self.ledger.due(&self.compiler, self.now(), self.clock()) {
            written.push(write.clone());
            self.version += 1;
            let object = self.objects.get_mut(&write.id).unwrap();
            object["status"] = serde_json::to_value(&write.standing).unwrap();
            object["metadata"]["resourceVersion"] = json!(self.version.to_string());
            self.ledger.wrote(write.clone(), Outcome::Written, self.now());
            self.show(&write.id);
            let mut versions = Versions::new();
            versions.raise(write.id.kind, self.version);
            self.ledger.judged(&Update::default(), [], &versions, self.now());
        }
        written
    }

    /// Type, status, reason, generation of the conditions of an object's status.
    fn conditions(&self, id: &ObjectRef) -> Vec<String> {
        let conditions = self.objects[id]["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let told = conditions.iter().map(|condition| {
            let text = |field: &str| condition[field].as_str().unwrap_or_default();
            format!(
                "{}={} {}@{}",
                text("type"),
                text("status"),
                text("reason"),
                condition["observedGeneration"]
            )
        });
        told.collect()
    }

    fn paris(&mut self) -> ObjectRef {
        self.put::<kinds::Cluster>("", "paris", json!({"allowedDomains": [{"suffix": "a.com"}]}))
    }

    fn pool(&mut self, addresses: &[&str]) -> ObjectRef {
        let endpoints: Vec<_> =
            addresses.iter().map(|address| json!({"address": address, "port": 80})).collect();
        self.put::<kinds::UpstreamPool>("tenant-paris", "shop", json!({"endpoints": endpoints}))
    }

    fn shop(&mut self, host: &str) -> ObjectRef {
        let spec = json!({"hosts": [host], "rules": [{"backends": [{"pool": "shop"}]}]});
        self.put::<kinds::HTTPLoadBalancer>("tenant-paris", "shop", spec)
    }
}

#[test]
fn a_load_balancer_gets_its_name_addresses_and_conditions_in_one_write() {
    let mut world = World::new();
    world.paris();
    world.pool(&["10.0.0.1"]);
    let shop = world.shop("shop.a.com");
    world.ledger.addresses(vec!["203.0.113.9".into()], world.now());
    let written = world.pass(6, u64::MAX);
    assert_eq!(written.iter().filter(|write| write.id == shop).count(), 1);
    let status = &world.objects[&shop]["status"];
    assert_eq!(
        (&status["host"], &status["addresses"]),
        (&json!("shop.paris.lb.net"), &json!(["203.0.113.9"]))
    );
    let expected =
        ["Accepted=True Accepted@1", "ResolvedRefs=True ResolvedRefs@1", "Programmed=True Programmed@1"];
    assert_eq!(world.conditions(&shop), expected);
    let counts = &world.objects[&ObjectRef::cluster_scoped(Kind::Cluster, "paris")]["status"]["counts"];
    assert_eq!(
        *counts,
        json!({"nodes": 0, "loadBalancers": 1, "routes": 1, "hosts": 1, "endpoints": 1, "faults": 0})
    );
    assert_eq!(world.pass(60, u64::MAX), [], "nothing is written that stands there");
}

#[test]
fn a_generation_is_programmed_once_most_replicas_serve_it() {
    let mut world = World::new();
    world.paris();
    let pool = world.pool(&["10.0.0.1"]);
    let first = world.version;
    world.pass(2, first - 1);
    assert_eq!(world.conditions(&pool)[2], "Programmed=False Pending@1");
    world.pass(2, first);
    assert_eq!(world.conditions(&pool)[2], "Programmed=True Programmed@1");
    // Its status was written meanwhile: that is no new generation.
    assert_eq!(world.pass(5, first).len(), 0);
    world.pool(&["10.0.0.2"]);
    let second = world.version;
    world.pass(2, second - 1);
    assert_eq!(world.conditions(&pool)[2], "Programmed=False Pending@2");
    world.pass(2, second);
    assert_eq!(world.conditions(&pool)[2], "Programmed=True Programmed@2");
    // Nobody renews any more.
    for _ in 0..17 {
        world.time += 1;
        world.ledger.reached(world.now());
        world.ledger.tick(world.now());
        world.write();
    }
    assert_eq!(world.conditions(&pool)[2], "Programmed=False NoReplicas@2");
}

#[test]
fn nothing_is_said_of_what_is_not_judged_yet() {
    let mut world = World::new();
    world.paris();
    let pool = world.pool(&["10.0.0.1"]);
    world.pass(2, u64::MAX);
    let spec = json!({"endpoints": [{"address": "no name!", "port": 80}]});
    world.see::<kinds::UpstreamPool>("tenant-paris", "shop", spec);
    assert_eq!(world.pass(3, u64::MAX), []);
    world.judge::<kinds::UpstreamPool>(&pool);
    world.pass(2, u64::MAX);
    let expected =
        ["Accepted=False Invalid@2", "ResolvedRefs=Unknown Invalid@2", "Programmed=False Invalid@2"];
    assert_eq!(world.conditions(&pool), expected);
}

#[test]
fn a_host_that_is_not_allowed_is_told_and_what_is_right_is_served() {
    let mut world = World::new();
    world.paris();
    world.pool(&["10.0.0.1"]);
    let shop = world.shop("shop.b.com");
    world.pass(6, u64::MAX);
    let expected = [
        "Accepted=False DomainNotAllowed@1",
        "ResolvedRefs=True ResolvedRefs@1",
        "Programmed=True Programmed@1",
    ];
    assert_eq!(world.conditions(&shop), expected);
    assert_eq!(world.objects[&shop]["status"]["host"], "shop.paris.lb.net");
    // The operator allows it.
    let spec = json!({"allowedDomains": [{"suffix": "b.com"}]});
    world.put::<kinds::Cluster>("", "paris", spec);
    world.pass(2, u64::MAX);
    assert_eq!(world.conditions(&shop)[0], "Accepted=True Accepted@1");
}

#[test]
fn a_cluster_is_ready_while_its_agent_shows_signs_of_life() {
    let mut world = World::new();
    let paris = world.paris();
    world.pass(2, u64::MAX);
    assert_eq!(world.conditions(&paris)[3], "Ready=False NeverJoined@1");
    assert_eq!(world.objects[&paris]["status"]["hostSuffix"], "paris.lb.net");
    let mut seen = Vec::new();
    for _ in 0..180 {
        world.agent("1.0");
        let writes = world.pass(1, u64::MAX);
        seen.extend(writes.into_iter().filter(|write| write.id == paris));
    }
    assert_eq!(world.conditions(&paris)[3], "Ready=True Connected@1");
    assert_eq!(seen.len(), 3, "once a minute: {seen:?}");
    assert_eq!(world.objects[&paris]["status"]["agent"]["version"], "1.0");
    let silent = world.pass(62, u64::MAX);
    assert_eq!(silent.len(), 1);
    assert_eq!(world.conditions(&paris)[3], "Ready=False AgentSilent@1");
    assert_eq!(world.pass(600, u64::MAX), []);
    world.agent("1.1");
    world.pass(1, u64::MAX);
    assert_eq!(world.conditions(&paris)[3], "Ready=True Connected@1");
    assert_eq!(world.objects[&paris]["status"]["agent"]["version"], "1.1");
}

/// Regression: where somebody deleted the namespace, it was said that what the agent had written stayed in force.
#[test]
fn an_agent_whose_namespace_was_deleted_has_to_join_again() {
    let mut world = World::new();
    let paris = world.paris();
    world.agent("1.0");
    world.pass(6, u64::MAX);
    let message = |world: &World| world.objects[&paris]["status"]["conditions"][3]["message"].to_string();
    let counted = |world: &World| {
        let figures = world.ledger.agent_figures(world.now());
        (figures.alive, figures.silent)
    };
    assert_eq!(counted(&world), (1, 0));
    world.ledger.agent_gone(&"paris".into(), world.now());
    world.pass(6, u64::MAX);
    assert_eq!(world.conditions(&paris)[3], "Ready=False AgentSilent@1");
    assert!(message(&world).contains("portolan join paris"), "{}", message(&world));
    assert_eq!(counted(&world), (0, 1), "an alert is to tell of it");
    // The controller has made it anew, with a `Lease` that nobody renews.
    let mut lease = world.lease(VERSION_ANNOTATION, "1.0");
    lease.spec = None;
    world.ledger.agent(&"paris".into(), &lease, world.now(), world.clock());
    world.pass(6, u64::MAX);
    assert!(message(&world).contains("portolan join paris"), "{}", message(&world));
    assert_eq!(counted(&world), (0, 1));
    world.agent("1.0");
    world.pass(6, u64::MAX);
    assert_eq!(world.conditions(&paris)[3], "Ready=True Connected@1");
}

/// Regression: a controller that started said of every cluster that its namespace had been deleted.
#[test]
fn nothing_is_said_of_agents_that_are_not_listed_yet() {
    let mut world = World::new();
    let paris = world.paris();
    world.agent("1.0");
    world.pass(6, u64::MAX);
    assert_eq!(world.conditions(&paris)[3], "Ready=True Connected@1");
    // Another replica starts: it has seen the Cluster, and no `Lease` yet.
    world.ledger = Ledger::default();
    world.show(&paris);
    world.judge::<kinds::Cluster>(&paris);
    world.ledger.leads(world.now());
    assert_eq!(world.pass(6, u64::MAX), []);
    world.ledger.agents_are(&HashSet::new(), world.now());
    world.pass(6, u64::MAX);
    assert_eq!(world.conditions(&paris)[3], "Ready=False AgentSilent@1", "its `Lease` is really not there");
}

#[test]
fn a_cluster_says_what_is_left_out_for_its_limits() {
    let mut world = World::new();
    let limits = |most: u32| json!({"limits": {"loadBalancers": most}});
    let paris = world.put::<kinds::Cluster>("", "paris", limits(0));
    world.pool(&["10.0.0.1"]);
    world.shop("shop.a.com");
    world.pass(10, u64::MAX);
    assert_eq!(world.conditions(&paris)[5], "WithinLimits=False LimitReached@1");
    world.put::<kinds::Cluster>("", "paris", limits(1));
    world.pass(10, u64::MAX);
    assert_eq!(world.conditions(&paris)[5], "WithinLimits=True WithinLimits@2");
}

#[test]
fn a_cluster_whose_writes_are_refused_is_not_synced_and_says_which() {
    let mut world = World::new();
    let paris = world.paris();
    world.agent("1.0");
    world.pass(6, u64::MAX);
    let synced = |world: &World| {
        let condition = &world.objects[&paris]["status"]["conditions"][4];
        let text = |field: &str| condition[field].as_str().unwrap_or_default().to_owned();
        [text("status"), text("reason"), text("message")]
    };
    assert_eq!(synced(&world), ["True", "Synced", ""]);
    world.agent_with("1.0", Some(""));
    world.pass(6, u64::MAX);
    assert_eq!(synced(&world), ["False", "Pending", "its agent has not written everything yet"]);
    world.agent_with("1.0", Some("node n1 lies outside"));
    world.pass(6, u64::MAX);
    assert_eq!(synced(&world), ["False", "WritesRefused", "node n1 lies outside"]);
    assert_eq!(world.conditions(&paris)[3], "Ready=True Connected@1", "what is written is served");
    world.agent("1.0");
    world.pass(6, u64::MAX);
    assert_eq!(synced(&world), ["True", "Synced", ""]);
}

/// Regression: whatever a tenant wrote into its `Lease` was a write of a status at once.
#[test]
fn a_tenant_that_says_ever_new_things_is_written_of_now_and_then() {
    let mut world = World::new();
    let paris = world.paris();
    let mut written = 0;
    for second in 0..60 {
        world.agent(&second.to_string());
        written += world.pass(1, u64::MAX).iter().filter(|write| write.id == paris).count();
    }
    assert_eq!(written, 12);
    world.agent("1.0");
    world.pass(6, u64::MAX);
    assert_eq!(world.objects[&paris]["status"]["agent"]["version"], "1.0");
}

#[test]
fn a_write_that_fails_is_tried_again_ever_more_slowly_and_what_is_gone_is_not() {
    let mut world = World::new();
    world.paris();
    let pool = world.pool(&["10.0.0.1"]);
    let mut tries = Vec::new();
    for second in 0..70 {
        world.time += 1;
        world.serves(u64::MAX);
        world.ledger.tick(world.now());
        // Whatever else changes meanwhile.
        world.show(&pool);
        while let Some(write) = world.ledger.due(&world.compiler, world.now(), world.clock()) {
            if write.id == pool {
                tries.push(second);
            }
            world.ledger.wrote(write, Outcome::Failed, world.now());
        }
    }
    assert_eq!(tries, [0, 1, 3, 7, 15, 31, 63]);
    world.ledger.object_gone(&pool);
    world.time += 200;
    let left = std::iter::from_fn(|| world.ledger.due(&world.compiler, world.now(), world.clock()));
    assert!(left.map(|write| write.id).all(|id| id != pool));
}

#[test]
fn a_new_leader_writes_only_what_is_to_be_changed() {
    let mut world = World::new();
    world.paris();
    world.pool(&["10.0.0.1"]);
    world.shop("shop.a.com");
    world.pass(8, u64::MAX);
    world.ledger.leads(world.now());
    assert_eq!(world.write(), []);
    // Somebody else wrote the status.
    let shop = ObjectRef::new(Kind::HttpLoadBalancer, "tenant-paris", "shop");
    world.objects.get_mut(&shop).unwrap()["status"] = json!({"host": "other.lb.net", "conditions": [
        {"type": "Other", "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ]});
    world.show(&shop);
    let written = world.pass(1, u64::MAX);
    assert_eq!(written.iter().map(|write| &write.id).collect::<Vec<_>>(), [&shop]);
    assert_eq!(world.objects[&shop]["status"]["host"], "shop.paris.lb.net");
}

/// Regression: after an outage of the API server, every replica counted as dead for a moment, and all objects were written twice.
#[test]
fn an_outage_of_the_api_server_makes_nobody_dead() {
    let mut world = World::new();
    world.paris();
    world.pool(&["10.0.0.1"]);
    world.agent("1.0");
    world.pass(8, u64::MAX);
    for _ in 0..300 {
        world.time += 1;
        world.ledger.tick(world.now());
        assert_eq!(world.write(), []);
    }
    assert_eq!(world.ledger.replicas_alive(world.now()), 1);
    world.ledger.reached(world.now());
    world.ledger.leads(world.now());
    assert_eq!(world.write(), []);
    // Now it would be heard, if it lived.
    for _ in 0..4 {
        world.time += 5;
        world.ledger.reached(world.now());
        world.ledger.tick(world.now());
    }
    assert_eq!(world.ledger.replicas_alive(world.now()), 0);
}
