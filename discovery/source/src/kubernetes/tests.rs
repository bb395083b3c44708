use portolan_model::intent::{CertificateFacts, KeyAlgorithm};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::item::Item;
use super::*;

const CHECKS: Checks = Checks {
    regex: |_| Ok(()),
    certificate: |_, _| {
        let key = KeyAlgorithm::Ecdsa;
        Ok(CertificateFacts { names: Vec::new(), not_before: 0, not_after: 1, key, serial: String::new() })
    },
    ca_bundle: |_| Ok(()),
    cipher_suite: |_| Ok(()),
};

/// A supervisor whose tasks never get to run, and what keeps it alive.
struct Stage {
    supervisor: Supervisor,
    _inbox: mpsc::Receiver<Word>,
    _outage: watch::Sender<Option<Instant>>,
}

impl Stage {
    fn new() -> Self {
        // Nobody is there.
        let config = kube::Config::new("http://127.0.0.1:1/".parse().unwrap());
        let client = kube::Client::try_from(config).unwrap();
        let server = ApiServer { client, url: "http://127.0.0.1:1/".to_owned() };
        let (words, _inbox) = mpsc::channel(WORDS);
        let (_outage, outages) = watch::channel(None);
        let supervisor = Supervisor::new(server, KubernetesOptions::new(CHECKS), words, outages);
        Self { supervisor, _inbox, _outage }
    }

    /// One whose server answers.
    fn answered() -> Self {
        let mut stage = Self::new();
        stage.supervisor.server_is(Health::Answers);
        stage
    }

    /// One that has sent its first batch.
    fn listed() -> Self {
        let mut stage = Self::answered();
        stage.rest_is_empty();
        assert!(stage.supervisor.batch().first);
        stage
    }

    fn say(&mut self, collection: &Collection, news: News) {
        let task = self.supervisor.tasks.get(collection).map_or(0, |task| task.id);
        self.supervisor.hear(Word { task, collection: collection.clone(), news });
    }

    /// Every collection of which nothing was said is empty.
    fn rest_is_empty(&mut self) {
        for collection in self.followed() {
            if !self.supervisor.tasks[&collection].listed {
                self.list(&collection, []);
            }
        }
    }

    fn list<const N: usize>(&mut self, collection: &Collection, items: [Item; N]) {
        self.say(collection, News::Begin);
        items.into_iter().for_each(|item| self.say(collection, News::Object(item)));
        self.say(collection, News::Whole);
    }

    fn followed(&self) -> Vec<Collection> {
        let mut followed: Vec<_> = self.supervisor.tasks.keys().cloned().collect();
        followed.sort();
        followed
    }

    fn namespaces(&self) -> Vec<String> {
        let mut namespaces: Vec<_> =
            self.followed().into_iter().filter_map(|of| of.namespace).map(|it| it.to_string()).collect();
        namespaces.dedup();
        namespaces.sort();
        namespaces.dedup();
        namespaces
    }

    /// The deltas of the batch that is due, in a few letters.
    fn deltas(&mut self) -> Vec<String> {
        let deltas = self.supervisor.batch().deltas;
        let short = |delta| match delta {
            Delta::Apply(object) => format!("apply {}", object.meta.id),
            Delta::Delete(id) => format!("delete {id}"),
            Delta::Invalid(id, _) => format!("invalid {id}"),
        };
        deltas.into_iter().map(short).collect()
    }
}

fn all_of(kind: Kind) -> Collection {
    Collection { kind, namespace: None }
}

fn within(namespace: &str, kind: Kind) -> Collection {
    Collection { kind, namespace: Some(namespace.into()) }
}

fn item(object: &Value) -> Item {
    let text = object.to_string();
    Item::of(serde_json::from_str::<&RawValue>(&text).unwrap()).unwrap().0
}

fn cluster(name: &str, version: u64) -> Item {
    item(&json!({
        "apiVersion": "portolan.dev/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": name, "uid": "u", "resourceVersion": version.to_string()},
        "spec": {},
    }))
}

fn secret(namespace: &str, kind: &str, version: u64) -> Item {
    item(&json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": {"namespace": namespace, "name": "site", "uid": "u", "resourceVersion": version.to_string()},
        "data": {"tls.crt": "YQ==", "tls.key": "YQ=="},
    }))
}

#[tokio::test]
async fn the_first_batch_comes_when_everything_was_listed() {
    let mut stage = Stage::answered();
    let began = stage.supervisor.began;
    assert_eq!(stage.followed().len(), 9);
    stage.say(&all_of(Kind::Cluster), News::Begin);
    stage.say(&all_of(Kind::Cluster), News::Object(cluster("paris", 1)));
    assert_eq!(stage.followed().len(), 11, "its namespace is followed from here on");
    for collection in stage.followed() {
        assert_ne!(stage.supervisor.due(), Some(began), "{collection} is lacking");
        stage.say(&collection, News::Whole);
    }
    assert_eq!(stage.supervisor.due(), Some(began), "nothing is lacking");
    assert_eq!(stage.deltas(), ["apply Cluster paris"]);
    assert_eq!(stage.supervisor.due(), None);
}

#[tokio::test]
async fn a_namespace_that_may_not_be_read_holds_nothing_up() {
    let mut stage = Stage::answered();
    let began = stage.supervisor.began;
    for collection in stage.followed().iter().filter(|of| of.namespace.is_none()) {
        stage.say(collection, News::Whole);
    }
    assert_eq!(stage.supervisor.due(), Some(began + PATIENCE), "it may take a moment");
    for kind in [Kind::Secret, Kind::ConfigMap] {
        stage.say(&within(SYSTEM_NAMESPACE, kind), News::Denied("403: no".to_owned()));
    }
    assert_eq!(stage.supervisor.due(), Some(began));
    let troubles: Vec<_> = stage.supervisor.status.troubles().into_iter().map(|it| it.subject).collect();
    assert_eq!(troubles, ["secrets in portolan-system", "configmaps in portolan-system"]);

    // Not so where a kind is missing in the whole cluster.
    let mut stage = Stage::answered();
    stage.rest_is_empty();
    stage.supervisor.renewing = true;
    stage.supervisor.follow(all_of(Kind::NodeSet));
    stage.say(&all_of(Kind::NodeSet), News::Denied("404: no".to_owned()));
    assert_eq!(stage.supervisor.due(), None);
}

#[tokio::test]
async fn namespaces_come_and_go_with_clusters() {
    let mut stage = Stage::listed();
    assert_eq!(stage.namespaces(), ["portolan-system"]);
    let clusters = all_of(Kind::Cluster);
    let secrets = within("tenant-paris", Kind::Secret);
    stage.say(&clusters, News::Object(cluster("paris", 1)));
    assert_eq!(stage.namespaces(), ["portolan-system", "tenant-paris"]);
    stage.say(&secrets, News::Object(secret("tenant-paris", "kubernetes.io/tls", 2)));
    assert_eq!(stage.deltas(), ["apply Cluster paris", "apply Secret tenant-paris/site"]);

    let before = stage.supervisor.tasks[&secrets].id;
    stage.say(&clusters, News::Gone(cluster("paris", 3)));
    assert_eq!(stage.namespaces(), ["portolan-system"]);
    assert_eq!(stage.deltas(), ["delete Secret tenant-paris/site", "delete Cluster paris"]);

    stage.say(&clusters, News::Object(cluster("paris", 4)));
    let news = News::Object(secret("tenant-paris", "kubernetes.io/tls", 2));
    stage.supervisor.hear(Word { task: before, collection: secrets, news });
    assert_eq!(stage.deltas(), ["apply Cluster paris"], "what the old task said is not heard");
}

#[tokio::test(start_paused = true)]
async fn what_comes_on_the_heels_of_a_batch_is_gathered() {
    let mut stage = Stage::listed();
    for version in 1..=3 {
        stage.say(&all_of(Kind::Cluster), News::Object(cluster("paris", version)));
    }
    assert_eq!(stage.supervisor.due(), Some(Instant::now() + SPACING));
    let batch = stage.supervisor.batch();
    assert_eq!((batch.deltas.len(), batch.first), (3, false));
    assert_eq!(batch.versions.of(Kind::Cluster), Some(3));
    assert_eq!(stage.supervisor.due(), None);
}

#[tokio::test(start_paused = true)]
async fn a_change_after_some_quiet_goes_at_once() {
    let mut stage = Stage::listed();
    tokio::time::advance(SPACING).await;
    stage.say(&all_of(Kind::Cluster), News::Object(cluster("paris", 1)));
    assert_eq!(stage.supervisor.due(), Some(Instant::now()));
}

/// What is on disk is served where the server does not answer, and gives way to what it says.
#[tokio::test]
async fn the_last_good_state_gives_way_to_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let stage = || {
        let mut stage = Stage::new();
        stage.supervisor.options.state_dir = Some(folder.path().join("state"));
        stage
    };
    let clusters = all_of(Kind::Cluster);
    let secrets = within("tenant-paris", Kind::Secret);
    let tls = "kubernetes.io/tls";

    let mut first = stage();
    first.supervisor.restore().await;
    assert_eq!(first.supervisor.due(), None, "there is nothing on disk: it is waited for");
    first.supervisor.server_is(Health::Answers);
    first.list(&clusters, [cluster("paris", 1), cluster("tokyo", 1)]);
    first.list(&secrets, [secret("tenant-paris", tls, 2)]);
    first.rest_is_empty();
    drop(first);

    // Its journal's thread ends in its own time.
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut second = loop {
        let mut second = stage();
        second.supervisor.restore().await;
        if second.supervisor.pending.len() == 3 {
            break second;
        }
        assert!(Instant::now() < deadline, "{:?}", second.supervisor.pending);
        tokio::task::yield_now().await;
    };
    let began = second.supervisor.began;
    assert_eq!(second.supervisor.due(), Some(began + PATIENCE));
    let mut deltas = second.deltas();
    deltas.sort();
    assert_eq!(deltas, ["apply Cluster paris", "apply Cluster tokyo", "apply Secret tenant-paris/site"]);
    let stale = |stage: &Stage| -> Vec<String> {
        let troubles = stage.supervisor.status.troubles().into_iter();
        troubles.filter(|it| it.stale).map(|it| it.subject).take(1).collect()
    };
    assert_eq!(stale(&second), ["the last good state"]);

    second.supervisor.server_is(Health::Answers);
    assert_eq!(second.namespaces(), ["portolan-system", "tenant-paris", "tenant-tokyo"]);
    second.list(&clusters, [cluster("paris", 1)]);
    assert_eq!(second.deltas(), ["delete Cluster tokyo"], "paris is as it was");
    second.list(&secrets, [secret("tenant-paris", tls, 3)]);
    second.rest_is_empty();
    assert_eq!(second.deltas(), ["apply Secret tenant-paris/site"]);
    assert_eq!(stale(&second), Vec::<String>::new());
}

/// Regression: where a `Cluster` went before its namespace was listed, what was in force counted as from the disk for ever, and a new
/// journal never counted.
#[tokio::test]
async fn a_cluster_that_goes_is_waited_for_no_more() {
    let mut stage = Stage::answered();
    stage.supervisor.renewing = true;
    stage.supervisor.restored = true;
    let clusters = all_of(Kind::Cluster);
    stage.say(&clusters, News::Object(cluster("paris", 1)));
    for collection in stage.followed() {
        if collection.namespace.as_deref() != Some("tenant-paris") {
            stage.say(&collection, News::Whole);
        }
    }
    assert!(stage.supervisor.batch().first);
    let troubles = |stage: &Stage| -> Vec<String> {
        stage.supervisor.status.troubles().into_iter().map(|it| it.subject).collect()
    };
    assert_eq!(troubles(&stage)[0], "the last good state");
    assert!(stage.supervisor.renewing);
    stage.say(&clusters, News::Gone(cluster("paris", 2)));
    assert_eq!(troubles(&stage), Vec::<String>::new());
    assert!(!stage.supervisor.renewing);
}

#[tokio::test]
async fn a_secret_that_is_none_of_ours_any_more_leaves_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let mut stage = Stage::new();
    stage.supervisor.options.state_dir = Some(path.clone());
    stage.supervisor.restore().await;
    stage.supervisor.server_is(Health::Answers);
    let secrets = within(SYSTEM_NAMESPACE, Kind::Secret);
    stage.list(&secrets, [secret(SYSTEM_NAMESPACE, "kubernetes.io/tls", 1)]);
    stage.say(&secrets, News::Object(secret(SYSTEM_NAMESPACE, "Opaque", 2)));
    stage.rest_is_empty();
    let deadline = Instant::now() + Duration::from_secs(20);
    let objects = loop {
        match journal::read(&path, "http://127.0.0.1:1/", |_| {}) {
            Ok(summary) => break summary.objects,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(objects, 0);
}
