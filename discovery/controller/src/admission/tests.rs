use super::*;

fn text(reserved: &[&str]) -> String {
    let reserved: Vec<IpNet> = reserved.iter().map(|range| range.parse().unwrap()).collect();
    serde_json::to_string_pretty(&policy(&reserved)).unwrap()
}

/// What it does is seen by real API servers in tests/fleet; here that it stays what they saw.
#[test]
fn the_policy_is_as_written() {
    insta::assert_snapshot!(text(&["10.96.0.0/12", "fd00:10::1/64"]));
}

#[test]
fn every_variable_that_is_used_is_there() {
    let policy = serde_json::to_value(policy(&[])).unwrap();
    let text = policy.to_string();
    let variables = policy.pointer("/spec/variables").unwrap().as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    for used in text.split("variables.").skip(1) {
        let end = used.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(used.len());
        assert!(names.contains(&&used[..end]), "{}", &used[..end]);
    }
    for name in names {
        assert!(text.contains(&format!("variables.{name}")), "{name} is not used");
    }
}
