//! Which `metadata.resourceVersion`s does a configuration contain?
//!
//! For each kind the highest of any object that was applied, refused or deleted. Versions of one kind grow with time, and a watch
//! of the whole cluster hands them out in order: whatever is at or below is contained. `Secret`s and `ConfigMap`s are watched by
//! namespace, where one watch may be behind another: they are not counted, since their highest says nothing of the others.

use std::fmt::Write as _;

use portolan_model::id::Kind;

/// See the module's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions([u64; Kind::ALL.len()]);

impl Versions {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An object of that kind and version is contained.
    pub fn raise(&mut self, kind: Kind, version: u64) {
        if !matches!(kind, Kind::Secret | Kind::ConfigMap) {
            let highest = &mut self.0[kind as usize];
            *highest = version.max(*highest);
        }
    }

    /// All that `other` contains is contained as well.
    pub fn merge(&mut self, other: &Self) {
        for (mine, other) in self.0.iter_mut().zip(other.0) {
            *mine = other.max(*mine);
        }
    }

    /// Nothing of that kind is said to be contained.
    pub fn without(mut self, kind: Kind) -> Self {
        self.0[kind as usize] = 0;
        self
    }

    /// The highest of a kind, if there is any.
    pub fn of(&self, kind: Kind) -> Option<u64> {
        Some(self.0[kind as usize]).filter(|version| *version > 0)
    }

    /// As [`portolan_api::contract::SERVES_ANNOTATION`] has them.
    pub fn to_json(&self) -> String {
        let mut json = String::from("{");
        for kind in Kind::ALL {
            if let Some(version) = self.of(kind) {
                let comma = if json.len() > 1 { "," } else { "" };
                let _ = write!(json, "{comma}\"{kind}\":\"{version}\"");
            }
        }
        json.push('}');
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_of_each_kind_counts() {
        let mut versions = Versions::new();
        assert_eq!(versions.to_json(), "{}");
        for (kind, version) in
            [(Kind::Cluster, 3), (Kind::EndpointSlice, 9), (Kind::EndpointSlice, 7), (Kind::Secret, 11)]
        {
            versions.raise(kind, version);
        }
        let mut other = Versions::new();
        other.raise(Kind::Cluster, 2);
        other.raise(Kind::Proxy, 1);
        versions.merge(&other);
        assert_eq!(versions.to_json(), r#"{"Proxy":"1","Cluster":"3","EndpointSlice":"9"}"#);
        assert_eq!((versions.of(Kind::EndpointSlice), versions.of(Kind::Secret)), (Some(9), None));
    }
}
