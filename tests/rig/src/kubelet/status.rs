//! What does a pod's status say? Computed from the board alone, as the real kubelet computes it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, Pod, PodCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::board::{Board, State, View};
use super::shim::Exit;

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// Whether a pod has ended for good, by what its status says.
pub(crate) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// An init container that goes on beside the others.
pub(crate) fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// The status, as a strategic merge patch of the pod. Conditions that are not ours are not touched; those that are keep the time of their last
/// change.
pub(crate) fn status(pod: &Pod, board: &Board, host: Ipv4Addr, now: Timestamp) -> Value {
    let Some(spec) = &pod.spec else { return Value::Null };
    let init: Vec<&Container> = spec.init_containers.iter().flatten().collect();
    let main: Vec<&Container> = spec.containers.iter().collect();
    let phase = phase(pod, board);
    let generation = pod.metadata.generation;
    let conditions: Vec<Value> = conditions(pod, board, phase)
        .into_iter()
        .map(|(kind, held)| condition(pod, kind, held, generation, now))
        .collect();
    let statuses = |containers: &[&Container]| -> Vec<ContainerStatus> {
        containers.iter().map(|container| container_status(pod, container, board)).collect()
    };
    let (reason, message) = board.given_up.clone().unzip();
    let mut status = json!({
        "phase": phase.name(),
        "observedGeneration": generation,
        "conditions": conditions,
        "containerStatuses": statuses(&main),
        "hostIP": host,
        "hostIPs": [{"ip": host}],
        "startTime": board.since.map(Time),
        "reason": reason,
        "message": message,
    });
    if !init.is_empty() {
        status["initContainerStatuses"] = json!(statuses(&init));
    }
    if let Some(address) = board.address {
        status["podIP"] = json!(address);
        status["podIPs"] = json!([{"ip": address}]);
    }
    json!({"metadata": {"uid": pod.metadata.uid}, "status": status})
}

/// Where a pod is, by what its containers do.
pub(crate) fn phase(pod: &Pod, board: &Board) -> Phase {
    let Some(spec) = &pod.spec else { return Phase::Pending };
    let view = |container: &Container| board.containers.get(&container.name);
    let policy = spec.restart_policy.as_deref().unwrap_or("Always");
    let ended = |container: &Container| view(container).and_then(View::ended);
    let failed = |container: &Container| ended(container).is_some_and(|exit| exit.code != 0);
    let inits: Vec<_> =
        spec.init_containers.iter().flatten().filter(|container| !is_sidecar(container)).collect();
    if board.given_up.is_some() && board.over {
        return Phase::Failed;
    }
    if board.over || policy != "Always" {
        if inits.iter().any(|container| failed(container)) && (board.over || policy == "Never") {
            return Phase::Failed;
        }
        if spec.containers.iter().all(|container| ended(container).is_some()) {
            let failed = spec.containers.iter().any(failed);
            if !failed {
                return Phase::Succeeded;
            }
            if board.over || policy == "Never" {
                return Phase::Failed;
            }
        } else if board.over {
            return Phase::Failed;
        }
    }
    if !inits.iter().all(|container| ended(container).is_some_and(|exit| exit.code == 0)) {
        return Phase::Pending;
    }
    let ever = |container: &Container| {
        view(container)
            .is_some_and(|view| view.last.is_some() || !matches!(view.state, State::Waiting { .. }))
    };
    if spec.containers.iter().all(ever) { Phase::Running } else { Phase::Pending }
}

/// Whether a condition holds; if not, why: a reason and a sentence.
type Held = Result<(), (&'static str, String)>;

fn conditions(pod: &Pod, board: &Board, phase: Phase) -> Vec<(&'static str, Held)> {
    let spec = pod.spec.clone().unwrap_or_default();
    let view = |container: &Container| board.containers.get(&container.name);
    let names = |containers: Vec<&Container>| {
        containers.iter().map(|container| container.name.as_str()).collect::<Vec<_>>().join(" ")
    };
    let open: Vec<_> = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| match view(container) {
            Some(view) if is_sidecar(container) => !view.started && phase == Phase::Pending,
            Some(view) => view.ended().is_none_or(|exit| exit.code != 0),
            None => true,
        })
        .collect();
    let initialized = if open.is_empty() {
        Ok(())
    } else {
        Err(("ContainersNotInitialized", format!("containers with incomplete status: [{}]", names(open))))
    };
    let unready: Vec<_> =
        spec.containers.iter().filter(|container| view(container).is_none_or(|view| !view.ready)).collect();
    let containers: Held = match phase {
        Phase::Succeeded => Err(("PodCompleted", String::new())),
        Phase::Failed => Err(("PodFailed", String::new())),
        _ if unready.is_empty() => Ok(()),
        _ => Err(("ContainersNotReady", format!("containers with unready status: [{}]", names(unready)))),
    };
    let ready = containers.clone().and_then(|()| gates(pod));
    let network = if board.address.is_some() && !board.over { Ok(()) } else { Err(("", String::new())) };
    vec![
        ("PodReadyToStartContainers", network),
        ("Initialized", initialized),
        ("Ready", ready),
        ("ContainersReady", containers),
        ("PodScheduled", Ok(())),
    ]
}

/// The conditions that others set and that the pod wants to hold before it is ready.
fn gates(pod: &Pod) -> Held {
    let gates = pod.spec.iter().flat_map(|spec| spec.readiness_gates.iter().flatten());
    let open: Vec<_> = gates
        .filter(|gate| known(pod, &gate.condition_type).is_none_or(|condition| condition.status != "True"))
        .map(|gate| {
            let what = match known(pod, &gate.condition_type) {
                Some(_) => "has status other than \"True\"",
                None => "does not exist",
            };
            format!("corresponding condition of pod readiness gate {:?} {what}.", gate.condition_type)
        })
        .collect();
    if open.is_empty() { Ok(()) } else { Err(("ReadinessGatesNotReady", open.join(", "))) }
}

fn known<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().find(|condition| condition.type_ == kind)
}

fn condition(pod: &Pod, kind: &str, held: Held, generation: Option<i64>, now: Timestamp) -> Value {
    let status = if held.is_ok() { "True" } else { "False" };
    let before = known(pod, kind).filter(|before| before.status == status);
    let changed = before.and_then(|before| before.last_transition_time.clone());
    let (reason, message) = held.err().unzip();
    json!({
        "type": kind,
        "status": status,
        "reason": reason.filter(|reason| !reason.is_empty()),
        "message": message.filter(|message| !message.is_empty()),
        "observedGeneration": generation,
        "lastTransitionTime": changed.unwrap_or(Time(now)),
        "lastProbeTime": null,
    })
}

fn container_status(pod: &Pod, container: &Container, board: &Board) -> ContainerStatus {
    let fallback = View::waiting("PodInitializing");
    let view = board.containers.get(&container.name).unwrap_or(&fallback);
    let image = container.image.clone().unwrap_or_default();
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let id = format!("rig://{uid}/{}/{}", container.name, view.restarts);
    let ran = !matches!(view.state, State::Waiting { .. }) || view.last.is_some();
    let state = match &view.state {
        State::Waiting { reason, message } => ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: Some(reason.clone()),
                message: (!message.is_empty()).then(|| message.clone()),
            }),
            ..Default::default()
        },
        State::Running { since } => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(*since)) }),
            ..Default::default()
        },
        State::Ended(exit) => terminated(exit, &id),
    };
    let before = format!("rig://{uid}/{}/{}", container.name, view.restarts - 1);
    ContainerStatus {
        name: container.name.clone(),
        image_id: if ran { image.clone() } else { String::new() },
        image,
        container_id: ran.then(|| id.clone()),
        ready: view.ready || is_complete(container, view, pod),
        started: Some(view.started),
        restart_count: view.restarts,
        state: Some(state),
        last_state: Some(view.last.as_ref().map(|exit| terminated(exit, &before)).unwrap_or_default()),
        ..Default::default()
    }
}

/// An init container is ready once it has done its work.
fn is_complete(container: &Container, view: &View, pod: &Pod) -> bool {
    let inits = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    inits.into_iter().any(|init| init.name == container.name)
        && view.ended().is_some_and(|exit| exit.code == 0)
}

fn terminated(exit: &Exit, id: &str) -> ContainerState {
    let reason = match (exit.started, exit.code) {
        (None, _) => "StartError",
        (Some(_), 0) => "Completed",
        (Some(_), _) => "Error",
    };
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(id.to_owned()),
            exit_code: exit.code,
            signal: None,
            reason: Some(reason.to_owned()),
            message: exit.message.clone(),
            started_at: Some(Time(exit.started.unwrap_or(Timestamp::UNIX_EPOCH))),
            finished_at: Some(Time(exit.finished)),
        }),
        ..Default::default()
    }
}

/// The board of a pod of which nothing was started.
pub(crate) fn fresh(pod: &Pod, now: Timestamp) -> Board {
    let spec = pod.spec.clone().unwrap_or_default();
    let inits = spec.init_containers.iter().flatten().map(|container| container.name.clone());
    let waits = if spec.init_containers.is_some() { "PodInitializing" } else { "ContainerCreating" };
    let main = spec.containers.iter().map(|container| container.name.clone());
    let containers: BTreeMap<_, _> = inits.chain(main).map(|name| (name, View::waiting(waits))).collect();
    let since = pod.status.as_ref().and_then(|status| status.start_time.as_ref()).map_or(now, |time| time.0);
    Board { since: Some(since), containers, ..Default::default() }
}

#[cfg(test)]
mod tests;
