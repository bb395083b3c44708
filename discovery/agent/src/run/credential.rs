//! With what does the agent go to the LB cluster, and until when?
//!
//! A `Secret` beside the agent has the address, the CA and a token. It is watched: another one is taken without a restart. A token says itself
//! from when to when it is good; after a seventh of that a new one is asked for with it, and written back. The clock here need not be right for that.

use std::time::{Duration, Instant};

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use portolan_api::contract::{AGENT, CREDENTIAL as SECRET};
use serde::Deserialize;
use serde_json::json;

use super::cause;

/// A way into the LB cluster.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) cluster: String,
    pub(super) namespace: String,
    pub(super) server: String,
    /// PEM; the machine's own trust store without.
    ca: Option<Vec<u8>>,
    token: String,
}

/// Why a credential is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum CredentialError {
    #[error("the Secret {SECRET} has no {0}")]
    Missing(&'static str),
    #[error("{0} of the Secret {SECRET} is not text")]
    NotText(&'static str),
    #[error("the credential for {server} cannot be used")]
    Unusable { server: String, source: Box<dyn std::error::Error + Send + Sync> },
}

impl Credential {
    pub(super) fn read(secret: &Secret) -> Result<Self, CredentialError> {
        let bytes = |name: &'static str| {
            let value = secret.data.as_ref().and_then(|data| data.get(name)).map(|value| value.0.clone());
            value.filter(|value| !value.is_empty()).ok_or(CredentialError::Missing(name))
        };
        let text = |name| {
            let text = String::from_utf8(bytes(name)?).map_err(|_| CredentialError::NotText(name))?;
            Ok(text.trim().to_owned())
        };
        Ok(Self {
            cluster: text("cluster")?,
            namespace: text("namespace")?,
            server: text("server")?,
            ca: bytes("ca.crt").ok(),
            token: text("token")?,
        })
    }

    /// Whether the other leads to the same place.
    pub(super) fn same_place(&self, other: &Self) -> bool {
        (&self.cluster, &self.namespace, &self.server) == (&other.cluster, &other.namespace, &other.server)
    }

    pub(super) fn with_token(&self, token: String) -> Self {
        Self { token, ..self.clone() }
    }

    /// A client that uses it. Nothing is asked yet.
    pub(super) async fn client(&self) -> Result<Client, CredentialError> {
        let unusable = |source: Box<dyn std::error::Error + Send + Sync>| CredentialError::Unusable {
            server: self.server.clone(),
            source,
        };
        let kubeconfig: Kubeconfig = serde_json::from_value(json!({
            "clusters": [{ "name": "lb", "cluster": {
                "server": self.server, "certificate-authority-data": self.ca.clone().map(ByteString) } }],
            "users": [{ "name": AGENT, "user": { "token": self.token } }],
            "contexts": [{ "name": "lb", "context": {
                "cluster": "lb", "user": AGENT, "namespace": self.namespace } }],
            "current-context": "lb",
        }))
        .map_err(|error| unusable(error.into()))?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let config = config.map_err(|error| unusable(error.into()))?;
        portolan_source::client(config).map_err(|error| unusable(error.into()))
    }

    /// Whether it is for the same place, by a token that was given before the other one's.
    pub(super) fn is_older(&self, than: &Self) -> bool {
        let given = |it: &Self| it.claims().map(|claims| claims.iat);
        self.same_place(than)
            && self.ca == than.ca
            && given(self).zip(given(than)).is_some_and(|(own, other)| own < other)
    }

    /// When it had better be renewed, and when it ends; nothing where the token does not say.
    pub(super) fn term(&self) -> Option<Term> {
        let claims = self.claims()?;
        let seventh = claims.exp.checked_sub(claims.iat)? / 7;
        let at = |seconds: i64| Timestamp::from_second(seconds).ok();
        Some(Term {
            renew: at(claims.iat.checked_add(seventh)?)?,
            end: at(claims.exp)?,
            seventh: Duration::from_secs(u64::try_from(seventh).ok()?),
        })
    }

    fn claims(&self) -> Option<Claims> {
        let claims = self.token.split('.').nth(1)?;
        serde_json::from_slice(&base64url(claims)?).ok()
    }
}

/// How long a token is good, by the clock of the LB cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Term {
    /// When it had better be renewed.
    pub(super) renew: Timestamp,
    /// When it ends.
    pub(super) end: Timestamp,
    /// What is to pass until it is renewed.
    seventh: Duration,
}

/// A token is asked for no sooner than so long after another, whatever the clock says.
const APART: Duration = Duration::from_secs(600);

/// When to ask for another token: when the clock says so, or when the one there is was held for that long, lest a clock that is behind lets it
/// end; and not before some time has passed since the last one, lest a clock that is ahead asks without end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewal {
    term: Option<Term>,
    since: Instant,
    not_before: Instant,
}

impl Renewal {
    /// For a token that is held from now on.
    pub(super) fn of(term: Option<Term>, now: Instant) -> Self {
        Self { term, since: now, not_before: now }
    }

    /// It is time, as soon as it may be.
    pub(super) fn hurry(&mut self) {
        if let Some(term) = &mut self.term {
            term.renew = Timestamp::UNIX_EPOCH;
        }
    }

    /// Another token is held from now on.
    pub(super) fn take(&mut self, term: Option<Term>, now: Instant) {
        (self.term, self.since) = (term, now);
    }

    /// One was asked for and given.
    pub(super) fn done(&mut self, now: Instant) {
        self.not_before = now + self.term.map_or(APART, |term| term.seventh.min(APART));
    }

    /// None was given: when to try on. A hundredth of what is left, and at least ten seconds.
    pub(super) fn put_off(&mut self, clock: Timestamp, now: Instant) {
        let left = self.term.map_or(0, |term| term.end.as_second().saturating_sub(clock.as_second()));
        let pause = u64::try_from(left / 100).unwrap_or_default().clamp(10, 600);
        self.not_before = now + Duration::from_secs(pause);
    }

    /// Whether it is time.
    pub(super) fn is_due(&self, clock: Timestamp, now: Instant) -> bool {
        let due =
            |term: Term| clock >= term.renew || now.saturating_duration_since(self.since) >= term.seventh;
        now >= self.not_before && self.term.is_some_and(due)
    }
}

#[derive(Deserialize)]
struct Claims {
    iat: i64,
    exp: i64,
}

/// RFC 7515 §2. `Secret`s bring a reader of the other alphabet.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let mut plain = text.replace('-', "+").replace('_', "/");
    while !plain.len().is_multiple_of(4) {
        plain.push('=');
    }
    let bytes: ByteString = serde_json::from_value(plain.into()).ok()?;
    Some(bytes.0)
}

/// Why there is no other token.
#[derive(Debug, thiserror::Error)]
pub(super) enum RenewError {
    #[error("the LB cluster gives no token: {}", cause(.0))]
    Refused(kube::Error),
    #[error("the LB cluster does not answer")]
    Unreachable,
    #[error("the LB cluster gave an empty token")]
    Empty,
}

/// How long a request about tokens may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Another token, from the LB cluster. It is kept beside the agent; where that fails it is used all the same.
pub(super) async fn renew(
    lb: Client,
    credential: Credential,
    lifetime: Duration,
    member: Client,
    namespace: String,
) -> Result<String, RenewError> {
    let accounts: Api<ServiceAccount> = Api::namespaced(lb, &credential.namespace);
    let spec = TokenRequestSpec {
        expiration_seconds: i64::try_from(lifetime.as_secs()).ok(),
        ..TokenRequestSpec::default()
    };
    let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
    let params = PostParams::default();
    let answer = tokio::time::timeout(LIMIT, accounts.create_token_request(AGENT, &params, &request)).await;
    let answer = answer.map_err(|_| RenewError::Unreachable)?.map_err(RenewError::Refused)?;
    let token = answer.status.and_then(|status| status.token).filter(|token| !token.is_empty());
    let token = token.ok_or(RenewError::Empty)?;
    match tokio::time::timeout(LIMIT, keep(&member, &namespace, &credential, &token)).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) => {
            tracing::info!("the new token is not kept: the credential is for another place by now")
        }
        Ok(Err(error)) => tracing::error!(%error, "the new token cannot be kept beside the agent"),
        Err(_) => tracing::error!(
            "the new token cannot be kept beside the agent: the member cluster does not answer"
        ),
    }
    Ok(token)
}

/// Keeps a token where the credential is that it belongs to, and says whether it is.
async fn keep(member: &Client, namespace: &str, of: &Credential, token: &str) -> kube::Result<bool> {
    let secrets: Api<Secret> = Api::namespaced(member.clone(), namespace);
    let found = secrets.get(SECRET).await?;
    let Some(patch) = patch(&found, of, token) else { return Ok(false) };
    let params = PatchParams { field_manager: Some(AGENT.to_owned()), ..PatchParams::default() };
    secrets.patch(SECRET, &params, &Patch::Merge(&patch)).await.map(|_| true)
}

/// What has to change in the `Secret` as it was found, if nobody changes it in between; nothing where it leads to another place.
fn patch(found: &Secret, of: &Credential, token: &str) -> Option<serde_json::Value> {
    Credential::read(found).ok().filter(|found| found.same_place(of))?;
    Some(json!({
        "metadata": { "resourceVersion": found.metadata.resource_version },
        "data": { "token": ByteString(token.as_bytes().to_vec()) },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credential(token: &str) -> Credential {
        let secret: Secret = serde_json::from_value(json!({ "data": {
            "cluster": "cGFyaXM=", "namespace": "dGVuYW50LXBhcmlz", "server": "aHR0cHM6Ly9sYgo=", "ca.crt": "Y2E=",
            "token": ByteString(token.as_bytes().to_vec()),
        } }))
        .unwrap();
        Credential::read(&secret).unwrap()
    }

    #[test]
    fn a_credential_says_where_to_and_until_when() {
        // {"iat":1700000000,"exp":1700000700,"x":"??>"}
        let read = credential("e30.eyJpYXQiOjE3MDAwMDAwMDAsImV4cCI6MTcwMDAwMDcwMCwieCI6Ij8_PiJ9.c2ln");
        assert_eq!(
            (&*read.cluster, &*read.namespace, &*read.server),
            ("paris", "tenant-paris", "https://lb")
        );
        let Term { renew, end, seventh } = read.term().unwrap();
        assert_eq!((renew.as_second(), end.as_second()), (1_700_000_100, 1_700_000_700));
        assert_eq!(seventh, Duration::from_secs(100));
        // The last one ends before it begins.
        for odd in ["", "x", "a.b.c", "a.e30.c", "a.eyJpYXQiOjF9.c", "a.eyJpYXQiOjksImV4cCI6MX0.c"] {
            assert_eq!(credential(&format!("t{odd}")).term(), None, "{odd}");
        }
    }

    /// Regression: a saved output of `portolan join` that was applied again took the place of a token that was good for longer.
    #[test]
    fn a_token_that_was_given_before_is_older() {
        let (old, new, short) = (
            credential("e30.eyJpYXQiOjEwMDAsImV4cCI6OTAwMH0.c2ln"),
            credential("e30.eyJpYXQiOjIwMDAsImV4cCI6OTAwMH0.c2ln"),
            credential("e30.eyJpYXQiOjMwMDAsImV4cCI6MzYwMH0.c2ln"),
        );
        assert!(old.is_older(&new) && old.is_older(&short));
        assert!(!new.is_older(&old) && !new.is_older(&new) && !short.is_older(&old));
        let elsewhere = Credential { cluster: "tokyo".to_owned(), ..new.clone() };
        assert!(!old.is_older(&elsewhere) && !credential("x").is_older(&new));

        let start = Instant::now();
        let mut renewal = Renewal::of(new.term(), start);
        let given = Timestamp::from_second(2000).unwrap();
        assert!(!renewal.is_due(given, start));
        renewal.hurry();
        assert!(renewal.is_due(given, start));
        renewal.done(start);
        assert!(!renewal.is_due(given, start), "not one after another");
    }

    /// Regression: a clock that was ahead by a seventh of a token's time had one asked for every second, and all watches begun anew; one that was
    /// behind let it end.
    #[test]
    fn tokens_are_renewed_in_time_whatever_the_clock_says() {
        let day = 86_400;
        let start = Instant::now();
        for (what, skew, first, renewals) in [
            ("right", 0, day, 7),
            ("behind by a year", -365 * day, day, 7),
            ("ahead by half a day", day / 2, day / 2, 14),
            ("ahead by a year", 365 * day, 0, 7 * day / 600),
        ] {
            let term = |iat: i64| {
                let at = |seconds| Timestamp::from_second(seconds).unwrap();
                let seventh = Duration::from_secs(day as u64);
                Term { renew: at(iat + day), end: at(iat + 7 * day), seventh }
            };
            let begin = 1_700_000_000;
            let mut renewal = Renewal::of(Some(term(begin)), start);
            let mut renewed = Vec::new();
            for second in 0..=7 * day {
                let now = start + Duration::from_secs(second as u64);
                let there = begin + second;
                if renewal.is_due(Timestamp::from_second(there + skew).unwrap(), now) {
                    renewed.push(second);
                    renewal.take(Some(term(there)), now);
                    renewal.done(now);
                }
            }
            assert_eq!(renewed[0], first, "{what}");
            assert!((renewals..=renewals + 1).contains(&(renewed.len() as i64)), "{what}: {}", renewed.len());
        }
    }

    #[test]
    fn a_token_that_cannot_be_renewed_is_tried_on() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let term = Term { renew: at(100), end: at(700), seventh: Duration::from_secs(100) };
        let start = Instant::now();
        let mut renewal = Renewal::of(Some(term), start);
        for (clock, pause) in [(100, 10), (-10_000_000, 600), (10_000, 10)] {
            renewal.put_off(at(clock), start);
            assert!(!renewal.is_due(at(10_000), start + Duration::from_secs(pause - 1)), "{clock}");
            assert!(renewal.is_due(at(10_000), start + Duration::from_secs(pause)), "{clock}");
        }
    }

    /// Regression: a token that was on its way while the cluster joined another fleet took the place of the other's.
    #[test]
    fn a_token_is_kept_with_the_credential_that_it_belongs_to() {
        let secret = |server: &str| -> Secret {
            let text = |text: &str| ByteString(text.as_bytes().to_vec());
            serde_json::from_value(json!({ "metadata": { "resourceVersion": "7" }, "data": {
                "cluster": text("paris"), "namespace": text("tenant-paris"), "server": text(server),
                "ca.crt": text("ca"), "token": text("old"),
            } }))
            .unwrap()
        };
        let of = Credential::read(&secret("https://lb")).unwrap();
        assert_eq!(
            patch(&secret("https://lb"), &of, "new"),
            Some(json!({ "metadata": { "resourceVersion": "7" }, "data": { "token": "bmV3" } }))
        );
        assert_eq!(patch(&secret("https://other"), &of, "new"), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let secret: Secret =
            serde_json::from_value(json!({ "data": { "cluster": "cGFyaXM=", "namespace": "" } })).unwrap();
        let error = Credential::read(&secret).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("the Secret portolan-agent-credential has no namespace"));
    }
}
