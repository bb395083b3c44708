//! The sign of life in the LB cluster: a `Lease` that says which member cluster it is of, with the agent's version, and with what is refused of
//! its writes, which nobody would see there otherwise.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use portolan_api::contract::{AGENT, MEMBER_ANNOTATION, REFUSED_ANNOTATION, VERSION_ANNOTATION};
use portolan_source::member::{self, Taken};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::cause;
use super::credential::Credential;
use crate::keeper::{CLUSTER_TAKEN, CREDENTIAL_REFUSED, Input, LB_CLUSTER_AWAY, Watched};
use crate::meta::metadata;

/// How often it is given, and for how long it counts.
const EVERY: Duration = Duration::from_secs(10);
const LASTS: i32 = 30;
/// How often it is looked whether another member cluster gives it still.
const LOOK: Duration = Duration::from_secs(5);
/// After somebody else wrote it meanwhile.
const AGAIN: Duration = Duration::from_secs(1);
/// The credential is no good where it was refused so often in a row: an API server that is ill refuses it now and then.
const REFUSALS: u64 = 2;
/// It is away where it did not answer so often in a row.
const AWAY: u64 = 3;

/// Gives it.
pub(super) struct Sign {
    leases: Api<Lease>,
    cluster: String,
    server: String,
    /// The name of this agent.
    identity: String,
    /// Of which member cluster; `None` where that cannot be found out.
    member: Option<String>,
    /// Nothing while it is not known: then what was said before stands.
    refused: watch::Receiver<Option<Refused>>,
    /// Where it is told that nothing gets there.
    inputs: mpsc::Sender<Input>,
    tries: Tries,
    rival: Rival,
}

/// How often in a row it was not given, for what cause.
#[derive(Default)]
struct Tries {
    /// With 401.
    refused: u64,
    /// Without an answer, or with 403 or 5xx; and why, once that is told.
    away: u64,
    why: String,
    /// Whether the log has it.
    told: bool,
}

/// How a try ended.
enum Try {
    Given,
    Another(Taken),
    Conflict,
    Failed,
}

/// What the LB cluster refuses, if anything.
pub(super) type Refused = Option<String>;

impl Sign {
    pub(super) fn new(
        client: Client,
        credential: &Credential,
        identity: String,
        member: Option<String>,
        refused: watch::Receiver<Option<Refused>>,
        inputs: mpsc::Sender<Input>,
    ) -> Self {
        Self {
            leases: Api::namespaced(client, &credential.namespace),
            cluster: credential.cluster.clone(),
            server: credential.server.clone(),
            identity,
            member,
            refused,
            inputs,
            tries: Tries::default(),
            rival: Rival::default(),
        }
    }

    /// Waits until no other member cluster gives it, and gives it. Where this one `was_served` before, another is served in its place, and that is
    /// the answer.
    pub(super) async fn take(&mut self, was_served: bool) -> Option<Taken> {
        let mut told = false;
        loop {
            let pause = match self.attempt().await {
                Try::Given => break,
                Try::Another(taken) if was_served => return Some(taken),
                Try::Another(taken) => {
                    if !told {
                        told = true;
                        self.tell_taken(Some(taken)).await;
                    }
                    LOOK
                }
                Try::Conflict => AGAIN,
                Try::Failed => LOOK,
            };
            sleep(pause).await;
        }
        self.tell_taken(None).await;
        None
    }

    /// Gives it on until another member cluster does.
    pub(super) async fn keep(&mut self) -> Taken {
        let mut pause = EVERY;
        loop {
            sleep(pause).await;
            pause = match self.attempt().await {
                Try::Another(taken) => return taken,
                Try::Conflict => AGAIN,
                Try::Given | Try::Failed => EVERY,
            };
        }
    }

    async fn attempt(&mut self) -> Try {
        let given = match timeout(EVERY, self.give()).await {
            Ok(given) => given.map_err(Some),
            Err(_) => Err(None),
        };
        let error = match given {
            Ok(taken) => {
                self.tries = Tries::default();
                self.tell(false, false).await;
                return taken.map_or(Try::Given, Try::Another);
            }
            Err(error) => error,
        };
        // Nobody could be heard either.
        self.rival = Rival::default();
        let tries = &mut self.tries;
        let code = match &error {
            Some(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        };
        tries.refused = if code == Some(401) { tries.refused + 1 } else { 0 };
        tries.away = if code.is_none_or(|code| code == 403 || code >= 500) { tries.away + 1 } else { 0 };
        let why = error.as_ref().map_or_else(|| "no answer".to_owned(), cause);
        if tries.away == AWAY {
            // The first one stands: each that differs would be another event.
            tries.why.clone_from(&why);
        }
        let told = std::mem::replace(&mut tries.told, code != Some(409));
        let (refused, away) = (tries.refused >= REFUSALS, tries.away >= AWAY);
        self.tell(refused, away).await;
        if code == Some(409) {
            // Somebody else wrote it meanwhile: who?
            return Try::Conflict;
        }
        if !told {
            tracing::warn!(server = %self.server, error = %why, "no sign of life can be given in the LB cluster");
        }
        Try::Failed
    }

    /// That nothing gets there any more takes a person perhaps, and nobody in the LB cluster can be told.
    async fn tell(&self, refused: bool, away: bool) {
        let Self { server, cluster, tries: Tries { why: cause, .. }, .. } = self;
        let why = if refused {
            let message = format!(
                "the LB cluster at {server} does not take the credential any more (401): join again, `portolan join {cluster}`"
            );
            Some((CREDENTIAL_REFUSED.into(), message.into()))
        } else if away {
            let message = format!(
                "no write gets to the LB cluster at {server}: {cause}; what changes here reaches it later"
            );
            Some((LB_CLUSTER_AWAY.into(), message.into()))
        } else {
            None
        };
        let _ = self.inputs.send(Input::Watched(Watched { there: true, kind: "Lease".into() }, why)).await;
    }

    /// Tells people here that another member cluster is served as this one, or is not.
    async fn tell_taken(&self, taken: Option<Taken>) {
        let why = taken.map(|taken| {
            let silent = member::SILENT.as_secs();
            let message =
                format!("{taken}; nothing is synced from here until that has been silent for {silent} s");
            tracing::error!("{message}");
            (CLUSTER_TAKEN.into(), message.into())
        });
        let _ = self.inputs.send(Input::Watched(Watched { there: true, kind: "Cluster".into() }, why)).await;
    }

    /// Gives it once, if nobody else does.
    async fn give(&mut self) -> kube::Result<Option<Taken>> {
        let mut metadata = metadata(AGENT);
        // With the first sign of life that not everything was written yet.
        let mut said = Some(String::new());
        if let Some(lease) = self.leases.get_opt(AGENT).await? {
            let another = |member| member::another(&lease, &self.cluster, member, Timestamp::now());
            match self.member.as_deref().and_then(another) {
                Some((taken, renewed)) if !self.rival.is_silent(&renewed, Instant::now()) => {
                    return Ok(Some(taken));
                }
                _ => {}
            }
            metadata.resource_version = lease.metadata.resource_version;
            if lease.spec.is_some_and(|spec| spec.renew_time.is_some()) {
                said = lease.metadata.annotations.and_then(|mut it| it.remove(REFUSED_ANNOTATION));
            }
        }
        let refused = self.refused.borrow().clone().unwrap_or(said);
        let refused = refused.map(|refused| (REFUSED_ANNOTATION.to_owned(), refused));
        let member = self.member.clone().map(|member| (MEMBER_ANNOTATION.to_owned(), member));
        let version = (VERSION_ANNOTATION.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        metadata.annotations = Some([version].into_iter().chain(member).chain(refused).collect());
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(LASTS),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        };
        let lease = Lease { metadata, spec: Some(spec) };
        let params = PatchParams::apply(AGENT).force();
        self.leases.patch(AGENT, &params, &Patch::Apply(&lease)).await.map(|_| None)
    }
}

/// Another member cluster that gives it, as far as it was listened to. Its clock may be any: it is silent if what it says does not change.
#[derive(Default)]
struct Rival {
    renewed: Option<(MicroTime, Instant)>,
}

impl Rival {
    /// Whether that is all that it said for as long as another may take its place.
    fn is_silent(&mut self, renewed: &MicroTime, now: Instant) -> bool {
        match &self.renewed {
            Some((known, since)) if known == renewed => now.duration_since(*since) >= member::SILENT,
            _ => {
                self.renewed = Some((renewed.clone(), now));
                false
            }
        }
    }
}

/// Which member cluster this is, asked until there is an answer. Nothing where it may not be known, as by the rights of an older version.
pub(super) async fn member_of(client: &Client) -> Option<String> {
    let mut told = false;
    loop {
        let found = timeout(EVERY, member::member_of(client)).await;
        if !matches!(found, Ok(Ok(_))) && !told {
            told = true;
            tracing::warn!("the API server of the member cluster does not say which cluster this is yet");
        }
        match found {
            Ok(Ok(found)) => return found,
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 403 | 404) => {
                tracing::warn!(error = %status.message, "which cluster this is cannot be known; another that joins by its name is not noticed");
                return None;
            }
            Ok(Err(_)) | Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Regression: one that could not renew while the LB cluster was away was taken for silent by the clock, and so was any whose clock was behind.
    #[test]
    fn who_says_something_else_is_not_silent() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let said = |text: &str| MicroTime(text.parse().unwrap());
        let (old, new) = (said("2020-01-01T00:00:00Z"), said("2020-01-01T00:00:10Z"));
        let mut rival = Rival::default();
        assert!(!rival.is_silent(&old, at(0)));
        assert!(!rival.is_silent(&old, at(59)));
        assert!(!rival.is_silent(&new, at(60)));
        assert!(!rival.is_silent(&new, at(119)));
        assert!(rival.is_silent(&new, at(120)));
        assert!(!rival.is_silent(&old, at(121)), "a clock that was set back");
    }
}
