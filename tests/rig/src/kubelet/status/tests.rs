use super::*;
use serde_json::Value;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;
const HOST: Ipv4Addr = Ipv4Addr::new(172, 30, 1, 2);

fn pod(spec: Value, status: Value) -> Pod {
    let mut spec = spec;
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "a", "image": "echo"}, {"name": "b", "image": "echo"}]);
    }
    let meta = json!({"name": "web", "namespace": "shop", "uid": "u", "generation": 3});
    serde_json::from_value(json!({"metadata": meta, "spec": spec, "status": status})).expect("a pod")
}

/// `w` waits, `c` waits after a crash, `r` runs, `R` runs and is ready, `0` and `1` have ended with that code.
fn view(letter: char) -> View {
    let exit = |code| Exit { code, started: Some(NOW), finished: NOW, message: None };
    let mut view = View::waiting("ContainerCreating");
    match letter {
        'w' => {}
        'c' => (view.last, view.restarts) = (Some(exit(1)), 1),
        'r' | 'R' => {
            view.state = State::Running { since: NOW };
            (view.started, view.ready) = (true, letter == 'R');
        }
        '0' => view.state = State::Ended(exit(0)),
        '1' => view.state = State::Ended(exit(1)),
        other => panic!("{other}"),
    }
    view
}

fn board(views: &str, over: bool) -> Board {
    // "i:" names an init container.
    let names = ["a", "b", "i"];
    let containers = names.iter().zip(views.chars()).map(|(name, letter)| ((*name).to_owned(), view(letter)));
    Board {
        since: Some(NOW),
        address: Some(Ipv4Addr::new(10, 244, 1, 2)),
        containers: containers.collect(),
        over,
        ..Default::default()
    }
}

#[test]
fn phases() {
    use Phase::{Failed, Pending, Running, Succeeded};
    let rows = [
        ("Always", "ww", false, Pending),
        ("Always", "Rw", false, Pending),
        ("Always", "rR", false, Running),
        ("Always", "Rc", false, Running),
        ("Always", "R1", false, Running),
        ("Always", "00", false, Running),
        ("Always", "00", true, Succeeded),
        ("Always", "01", true, Failed),
        ("Always", "Rw", true, Failed),
        ("OnFailure", "00", false, Succeeded),
        ("OnFailure", "01", false, Running),
        ("OnFailure", "0c", false, Running),
        ("Never", "01", false, Failed),
        ("Never", "0R", false, Running),
        ("Never", "00", false, Succeeded),
    ];
    for (policy, views, over, wanted) in rows {
        let pod = pod(json!({"restartPolicy": policy}), json!({}));
        assert_eq!(phase(&pod, &board(views, over)), wanted, "{policy} {views} {over}");
    }
    let rows = [
        ("Always", "www", Pending),
        ("Always", "wwr", Pending),
        ("Always", "wwc", Pending),
        ("Always", "ww0", Pending),
        ("Always", "RR0", Running),
        ("Never", "ww1", Failed),
        ("OnFailure", "ww1", Pending),
    ];
    for (policy, views, wanted) in rows {
        let spec = json!({"restartPolicy": policy, "initContainers": [{"name": "i", "image": "echo"}]});
        assert_eq!(phase(&pod(spec, json!({})), &board(views, false)), wanted, "{policy} init {views}");
    }
    let mut given_up = board("00", true);
    given_up.given_up = Some(("Terminated".to_owned(), "shutdown".to_owned()));
    assert_eq!(phase(&pod(json!({}), json!({})), &given_up), Failed);
}

/// The conditions that hold, and the reasons of the others.
fn held(pod: &Pod, board: &Board) -> String {
    let status = status(pod, board, HOST, NOW);
    let conditions = status["status"]["conditions"].as_array().expect("conditions").clone();
    let short = |condition: &Value| {
        let reason = condition["reason"].as_str().unwrap_or("-");
        let name = condition["type"].as_str().expect("a type");
        if condition["status"] == "True" { name.to_owned() } else { format!("!{name}:{reason}") }
    };
    conditions.iter().map(short).collect::<Vec<_>>().join(" ")
}

#[test]
fn conditions_of_a_pod() {
    let plain = pod(json!({}), json!({}));
    assert_eq!(
        held(&plain, &board("RR", false)),
        "PodReadyToStartContainers Initialized Ready ContainersReady PodScheduled"
    );
    assert_eq!(
        held(&plain, &board("Rr", false)),
        "PodReadyToStartContainers Initialized !Ready:ContainersNotReady !ContainersReady:ContainersNotReady PodScheduled"
    );
    assert_eq!(
        held(&plain, &Board { address: None, ..board("ww", false) }),
        "!PodReadyToStartContainers:- Initialized !Ready:ContainersNotReady !ContainersReady:ContainersNotReady PodScheduled"
    );
    assert_eq!(
        held(&plain, &board("00", true)),
        "!PodReadyToStartContainers:- Initialized !Ready:PodCompleted !ContainersReady:PodCompleted PodScheduled"
    );
    let init = pod(json!({"initContainers": [{"name": "i", "image": "echo"}]}), json!({}));
    assert!(held(&init, &board("wwr", false)).contains("!Initialized:ContainersNotInitialized"));
    assert!(held(&init, &board("ww0", false)).contains(" Initialized "));
}

#[test]
fn gates_are_for_others_to_open() {
    let spec = json!({"readinessGates": [{"conditionType": "example.com/in-use"}]});
    let gate = |status: &str| json!({"conditions": [{"type": "example.com/in-use", "status": status}]});
    for (status, wanted) in [
        (json!({}), "!Ready:ReadinessGatesNotReady ContainersReady"),
        (gate("False"), "!Ready:ReadinessGatesNotReady ContainersReady"),
        (gate("True"), " Ready ContainersReady"),
    ] {
        assert!(held(&pod(spec.clone(), status.clone()), &board("RR", false)).contains(wanted), "{status}");
    }
}

#[test]
fn a_condition_keeps_the_time_of_its_last_change() {
    let before = "2026-01-01T00:00:00Z";
    let status_before = json!({"conditions": [
        {"type": "Initialized", "status": "True", "lastTransitionTime": before},
        {"type": "Ready", "status": "False", "lastTransitionTime": before},
    ]});
    let status = status(&pod(json!({}), status_before), &board("RR", false), HOST, NOW);
    let time = |at: usize| status["status"]["conditions"][at]["lastTransitionTime"].clone();
    assert_eq!((time(1), time(2)), (json!(before), json!("1970-01-01T00:00:00Z")));
    assert_eq!(status["status"]["observedGeneration"], 3);
    assert_eq!(status["status"]["podIPs"], json!([{"ip": "10.244.1.2"}]));
}
