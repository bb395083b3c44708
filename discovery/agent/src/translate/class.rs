//! Is an `Ingress` ours?
//!
//! The annotation `kubernetes.io/ingress.class` has precedence over `spec.ingressClassName`, as the API says; without both the default class
//! decides. Cost: one look-up, or the number of classes.

use crate::view::{Ingress, Settings, View};

/// The class that is ours, unless an `IngressClass` of that name belongs to somebody else.
pub const CLASS: &str = "portolan";

/// The controller that `IngressClass`es of ours name.
pub const CONTROLLER: &str = "portolan.dev/ingress";

/// Whose an `Ingress` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody of ours.
    Foreign,
    /// Ours, by its own class.
    Own,
    /// Ours too, though another controller may serve it as well.
    Adopted,
}

/// Whose it is.
pub fn owner(view: &View, settings: &Settings, ingress: &Ingress) -> Owner {
    let named = ingress.annotated_class.as_deref().or(ingress.class.as_deref());
    match named {
        Some(name) => owner_of_class(view, settings, name),
        None => {
            let defaults = view.classes.iter().filter(|(_, class)| class.default);
            // Where several are the default the newest counts, as in the API server's admission.
            let newest =
                defaults.max_by_key(|(name, class)| (class.created, std::cmp::Reverse((*name).clone())));
            newest.map_or(Owner::Foreign, |(name, _)| owner_of_class(view, settings, name))
        }
    }
}

/// Whether it is ours.
pub fn is_ours(view: &View, settings: &Settings, ingress: &Ingress) -> bool {
    owner(view, settings, ingress) != Owner::Foreign
}

fn owner_of_class(view: &View, settings: &Settings, name: &str) -> Owner {
    let own = match view.classes.get(&name.into()) {
        Some(class) => *class.controller == *CONTROLLER,
        None => name == CLASS,
    };
    if own {
        Owner::Own
    } else if settings.classes.iter().any(|adopted| **adopted == *name) {
        Owner::Adopted
    } else {
        Owner::Foreign
    }
}
