//! What needs clusters: root, Go, and seconds or minutes a scenario, so all of it is ignored unless asked for (`make test`, `make test-slow`).
//! All scenarios of a run share one world, which the first one brings up; each takes away what it made.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on says so and fails")]

#[path = "clusters/agents.rs"]
mod agents;
#[path = "clusters/arrival.rs"]
mod arrival;
#[path = "clusters/backends.rs"]
mod backends;
#[path = "clusters/charts.rs"]
mod charts;
#[path = "clusters/health.rs"]
mod health;
#[path = "clusters/ingress.rs"]
mod ingress;
#[path = "clusters/join.rs"]
mod join;
#[path = "clusters/large.rs"]
mod large;
#[path = "clusters/nodes.rs"]
mod nodes;
#[path = "clusters/proxies.rs"]
mod proxies;
#[path = "clusters/reach.rs"]
mod reach;
#[path = "clusters/rights.rs"]
mod rights;
#[path = "clusters/secrets.rs"]
mod secrets;
#[path = "clusters/shared.rs"]
mod shared;
#[path = "clusters/slow.rs"]
mod slow;
#[path = "clusters/stage.rs"]
mod stage;
#[path = "clusters/tenants.rs"]
mod tenants;
#[path = "clusters/witness.rs"]
mod witness;

use std::process::ExitCode;

/// Scenarios by their paths, for the harness.
macro_rules! scenarios {
    ($($module:ident :: { $($name:ident),* $(,)? })*) => {
        [$($((concat!(stringify!($module), "::", stringify!($name)), {
            fn boxed(world: &portolan_fleet::World) -> stage::Outcome<'_> {
                Box::pin($module::$name(world))
            }
            boxed as stage::Scenario
        })),*),*]
    };
}

fn main() -> ExitCode {
    stage::play(scenarios! {
        charts::{
            manifests_are_what_charts_come_to,
            helm_finds_no_fault,
            an_api_server_takes_every_chart,
            an_api_server_takes_what_prometheus_reads,
            images_come_from_where_values_say,
            a_wrong_value_is_named,
        }
        join::{
            an_operator_sees_the_fleet,
            refused_nodes_are_told_on_both_sides,
            a_cluster_leaves_and_comes_back,
            of_two_by_one_name_the_first_is_served,
            ports_follow_listeners,
        }
        reach::{
            the_lb_cluster_is_its_own_member,
            a_gateway_of_the_cluster_is_used,
            a_reach_that_is_refused_changes_nothing,
        }
        tenants::{
            a_credential_opens_one_namespace,
            addresses_outside_the_allowed_ranges_are_refused,
            a_host_belongs_to_the_first,
            forged_origins_take_nothing,
            what_is_beyond_a_limit_is_left_out,
            a_namespace_that_is_deleted_is_made_anew,
        }
        ingress::{
            a_host_comes_changes_and_goes,
            a_customer_points_a_name_here,
            a_default_backend_takes_every_path,
            a_large_ingress_is_served_whole,
            paths_and_hosts_lead_to_their_backends,
            classes_decide,
            a_class_is_adopted_and_dropped,
            the_same_name_in_two_clusters,
            names_that_look_alike_stay_apart,
            headers_say_who_asks,
            upgrades_go_through,
        }
        backends::{
            services_of_all_kinds,
            a_service_is_a_name,
            a_backend_speaks_tls,
            a_shared_backend_outlives_one_of_its_users,
        }
        secrets::{
            a_certificate_may_come_later,
            one_name_in_two_clusters_is_two_secrets,
            what_no_ingress_names_is_not_copied,
        }
        shared::{
            one_host_over_two_clusters,
            weights_are_shares,
        }
        rights::{
            a_proxy_writes_its_own_lease,
            // After all others.
            nobody_asks_for_what_it_may_not,
        }
        slow::{
            pods_are_rolled,
            nodes_come_and_go,
            a_node_is_not_ready,
            a_node_is_cordoned_and_one_dies,
            an_application_falls_ill,
            an_agent_dies,
            a_credential_is_renewed,
            a_controller_fails_over,
            proxies_are_rolled,
            proxies_come_and_go,
            a_proxy_starts_without_the_api_server,
            the_api_server_of_the_lb_cluster_is_away,
            the_api_server_of_a_member_is_away,
            a_link_is_cut,
            a_cluster_is_away_for_long,
            rules_are_edited,
            a_thousand_services,
            a_cluster_joins_as_another_and_leaves,
            of_two_by_one_name_the_first_outlasts_an_outage,
            a_quota_stands_behind_the_limit,
            changes_arrive,
        }
    })
}
