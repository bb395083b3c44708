//! `portolan join`: what a member cluster needs, printed or applied.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use portolan_controller::join::leave::Membership;
use portolan_controller::join::{Credential, Server, credential, manifests};

use crate::kubernetes::{LbArgs, block_on, cluster_name};
use crate::print;

#[derive(Args)]
pub(crate) struct JoinArgs {
    /// The name of its Cluster in the LB cluster.
    #[arg(value_parser = cluster_name)]
    cluster: String,
    #[command(flatten)]
    lb: LbArgs,
    /// The image of the agent.
    #[arg(long, default_value = concat!("portolan-agent:", env!("CARGO_PKG_VERSION")), value_parser = image)]
    image: String,
    /// The credential alone: the agent is there already, by its chart or from before.
    #[arg(long)]
    credential_only: bool,
    /// Apply it in the member cluster, instead of printing it.
    #[arg(long, requires = "member_kubeconfig")]
    apply: bool,
    /// How to reach the member cluster.
    #[arg(long, value_name = "FILE", requires = "apply")]
    member_kubeconfig: Option<PathBuf>,
    /// A context of it other than its current one.
    #[arg(long, value_name = "CONTEXT", requires = "member_kubeconfig")]
    member_context: Option<String>,
    /// Apply it though the member cluster has joined as another Cluster, or by another URL, which may be that of another LB cluster; or though another
    /// member cluster is served as this Cluster.
    #[arg(long, requires = "apply")]
    replace: bool,
}

fn image(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(
            "expected the name of an image, such as registry.example.net/portolan-agent:0.1.0".to_owned()
        );
    }
    Ok(text.to_owned())
}

pub(crate) fn join(args: JoinArgs) -> anyhow::Result<ExitCode> {
    block_on(run(args))
}

async fn run(args: JoinArgs) -> anyhow::Result<ExitCode> {
    let member = match args.apply {
        true => Some(Server::of(args.member_kubeconfig, args.member_context).await?),
        false => None,
    };
    let lb_cluster = args.lb.connect().await?;
    let warn = |doubt: &str| print::err(&format!("portolan: {doubt}\n"));
    let credential = credential(&lb_cluster, &args.cluster, args.lb.server.as_ref(), warn).await?;
    let mut manifests = manifests(&credential, &args.image)?;
    if args.credential_only {
        manifests.retain(|manifest| manifest["kind"] == "Secret");
    }
    let Some(member) = member else {
        print::out(&portolan_api::to_yaml(&manifests))?;
        return Ok(ExitCode::SUCCESS);
    };
    belongs_nowhere_else(&member, &credential, args.replace).await?;
    if let Some(taken) = lb_cluster.taken(&args.cluster, &member).await? {
        anyhow::ensure!(
            args.replace,
            "{taken}; join this one as another Cluster, or say --replace: it is served once that one has been silent for a minute",
        );
        print::err(&format!(
            "portolan: {taken}; this one is served once that has been silent for a minute\n"
        ));
    }
    member.apply(&manifests, |what| print::err(&format!("applied {what}\n"))).await?;
    Ok(ExitCode::SUCCESS)
}

/// Whoever mixes up two clusters would have all hosts of one move to the names of the other, or to another LB cluster.
async fn belongs_nowhere_else(member: &Server, to: &Credential, replace: bool) -> anyhow::Result<()> {
    let Some(before) = member.membership().await? else { return Ok(()) };
    if before.is(&to.cluster, Some(&to.server)) {
        return Ok(());
    }
    let now = Membership { cluster: to.cluster.clone(), server: to.server.clone() };
    anyhow::ensure!(
        replace,
        "this member cluster has joined as {before}, not as {now}; `portolan leave {}` first, or say --replace: it is served as the latter alone \
         then",
        before.cluster
    );
    print::err(&format!("portolan: until now it was {before}, from now on {now}\n"));
    Ok(())
}
