//! Where is something, and what is nearer?

use std::sync::Arc;

use serde::Serialize;

/// Where a cluster is, or the proxies are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Locality {
    /// Such as `eu-west`.
    pub region: Option<Arc<str>>,
    /// Such as `eu-west-1`.
    pub zone: Option<Arc<str>>,
}

/// How far it is from one place to another, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Distance {
    /// Both are in the same zone.
    SameZone,
    /// Both are in the same region, and not known to be in the same zone.
    SameRegion,
    /// They are in different regions, or nobody said where one of them is.
    Elsewhere,
}

impl Locality {
    /// How far it is to another place. What was not said is the same as nothing.
    pub fn distance(&self, to: &Self) -> Distance {
        let same = |one: &Option<Arc<str>>, other: &Option<Arc<str>>| one.is_some() && one == other;
        if same(&self.zone, &to.zone) && self.region == to.region {
            Distance::SameZone
        } else if same(&self.region, &to.region) {
            Distance::SameRegion
        } else {
            Distance::Elsewhere
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_nearer_than_regions() {
        let place = |region: &str, zone: &str| {
            let [region, zone] = [region, zone].map(|name| Some(name).filter(|name| !name.is_empty()));
            Locality { region: region.map(Arc::from), zone: zone.map(Arc::from) }
        };
        for (one, other, expected) in [
            (("eu", "a"), ("eu", "a"), Distance::SameZone),
            (("", "a"), ("", "a"), Distance::SameZone),
            (("eu", "a"), ("eu", "b"), Distance::SameRegion),
            (("eu", ""), ("eu", ""), Distance::SameRegion),
            (("eu", "a"), ("eu", ""), Distance::SameRegion),
            (("eu", "a"), ("us", "a"), Distance::Elsewhere),
            (("eu", "a"), ("", "a"), Distance::Elsewhere),
            (("eu", ""), ("us", ""), Distance::Elsewhere),
            (("", ""), ("", ""), Distance::Elsewhere),
        ] {
            let (one, other) = (place(one.0, one.1), place(other.0, other.1));
            assert_eq!(one.distance(&other), expected, "{one:?} {other:?}");
            assert_eq!(other.distance(&one), expected, "{other:?} {one:?}");
        }
    }
}
