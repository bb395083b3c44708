//! `portolan leave`: a cluster leaves the fleet, and nothing of ours stays in it.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use portolan_controller::join::Server;

use crate::kubernetes::{LbArgs, block_on, cluster_name};
use crate::print;

/// Take a cluster out of the fleet: out of the LB cluster, and what the agent made out of the member cluster.
///
/// The LB cluster comes first. With its Cluster go the namespace tenant-CLUSTER, the account and all rights; hosts that other clusters serve too go
/// on there, and its own are not found any more. In the member cluster then go the agent, the node ports that it made, the generated names in
/// the statuses of Ingresses, and its namespace, rights and IngressClass. Ingresses stay, and what others wrote. No request is lost of hosts that
/// are served elsewhere: those under way have ten seconds before node ports go. What is gone already is passed over, so that it can be done again; where
/// there was nothing at all, that is an error.
///
/// Without --member-kubeconfig and --member-context only the LB cluster's part is done.
#[derive(Args)]
pub(crate) struct LeaveArgs {
    /// The name of its Cluster in the LB cluster.
    #[arg(value_parser = cluster_name)]
    cluster: String,
    #[command(flatten)]
    lb: LbArgs,
    /// How to reach the member cluster. Without it, as kubectl does.
    #[arg(long, value_name = "FILE")]
    member_kubeconfig: Option<PathBuf>,
    /// A context of it other than its current one.
    #[arg(long, value_name = "CONTEXT")]
    member_context: Option<String>,
    /// The member cluster alone: the LB cluster has forgotten it already, or is lost. Its hosts are not served from then on.
    #[arg(long, conflicts_with_all = ["kubeconfig", "context"])]
    member_only: bool,
}

pub(crate) fn leave(args: LeaveArgs) -> anyhow::Result<ExitCode> {
    block_on(run(args))
}

async fn run(args: LeaveArgs) -> anyhow::Result<ExitCode> {
    let cluster = &args.cluster;
    let member = if args.member_kubeconfig.is_some() || args.member_context.is_some() {
        Some(Server::of(args.member_kubeconfig, args.member_context).await?)
    } else {
        None
    };
    anyhow::ensure!(
        !args.member_only || member.is_some(),
        "--member-only: say which with --member-kubeconfig or --member-context"
    );
    let lb_cluster = match args.member_only {
        true => None,
        false => Some(args.lb.connect().await?),
    };
    if let Some(member) = &member {
        // Before anything goes: either may be the kubeconfig of another one.
        let said = args.lb.server.as_ref().map(|url| url.to_string());
        let server = said.as_deref().or_else(|| lb_cluster.as_ref().map(Server::url));
        let joined = member.membership().await.map_err(|error| {
            let error = portolan_source::one_line(&error);
            anyhow::anyhow!(
                "{error}; nothing is done yet, and without --member-kubeconfig and --member-context the LB cluster's part is done alone"
            )
        })?;
        if let Some(joined) = joined {
            anyhow::ensure!(
                joined.is(cluster, None),
                "this member cluster has joined as {joined}, not {cluster:?}"
            );
            anyhow::ensure!(
                joined.is(cluster, server),
                "this member cluster has joined as {joined}, not of {}; if both lead to the same LB cluster, say --server {}",
                server.unwrap_or_default(),
                joined.server
            );
        }
    }
    if let (Some(lb_cluster), Some(member)) = (&lb_cluster, &member)
        && let Some(taken) = lb_cluster.taken(cluster, member).await?
    {
        anyhow::bail!(
            "{taken}; --member-only takes this one out and leaves that one as it is, and without --member-kubeconfig and --member-context that one leaves"
        );
    }
    let any = Cell::new(false);
    let gone = |what: &str| {
        any.set(true);
        // Where nobody can be told any more, the rest goes all the same.
        drop(print::out(&format!("gone: {what}\n")));
    };
    let stays = |what: &String| {
        print::err(&format!("{what} stays: it bears the name, but no Cluster {cluster} owns it\n"));
    };
    let mut domain = None;
    if let Some(lb_cluster) = &lb_cluster {
        domain = lb_cluster.lb_domain().await.unwrap_or_else(|error| {
            let error = portolan_source::one_line(&error);
            print::err(&format!(
                "portolan: {error}: names that it had as another Cluster may stay in statuses\n"
            ));
            None
        });
        lb_cluster.forget(cluster, gone, stays).await?;
        if !any.get() {
            print::err(&format!("the LB cluster has nothing of a Cluster {cluster}\n"));
        }
    }
    match member {
        Some(member) => member.clear(cluster, domain.as_deref(), gone).await?,
        None if any.get() => print::err(&format!(
            "the agent and what it made stay in the member cluster until: portolan leave {cluster} --member-only --member-kubeconfig <file>\n"
        )),
        None => {}
    }
    if !any.get() {
        let there = match &lb_cluster {
            Some(lb_cluster) => lb_cluster.clusters().await?.join(", "),
            None => String::new(),
        };
        let known = if there.is_empty() { there } else { format!("; the LB cluster has {there}") };
        anyhow::bail!("there was nothing of a Cluster {cluster:?}{known}");
    }
    Ok(ExitCode::SUCCESS)
}
