//! `portolan explain`: what would become of a request, from the manifests or objects alone.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use portolan_admin::{ExplainRequest, to_text};

use crate::kubernetes::{self, ServerArgs};
use crate::{check, print, verdict};

/// What is said where the answer leads to endpoints.
const HEALTH: &str =
    "not known here: every endpoint counts as healthy; /explain on the admin port of a proxy knows better";

#[derive(Args)]
#[group(id = "from", required = true, args = ["config", "kubernetes"])]
pub(crate) struct ExplainArgs {
    /// The folder of manifests.
    #[arg(long, conflicts_with_all = kubernetes::IDS)]
    config: Option<PathBuf>,
    /// Read the objects of an API server in place of a folder.
    #[arg(long)]
    kubernetes: bool,
    #[command(flatten)]
    server: ServerArgs,
    /// The URL, as a client would ask for it, such as `http://shop.paris.lb.example.net/cart`.
    url: String,
    /// A header of the request, "Name: value". A Host takes the place of the URL's.
    #[arg(short = 'H', long = "header")]
    headers: Vec<String>,
    /// The method.
    #[arg(short = 'X', long = "request", default_value = "GET")]
    method: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn explain(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let request =
        ExplainRequest::parse(&args.url, Some(&args.method), args.headers.iter().map(String::as_str))?;
    let compiler = match &args.config {
        Some(folder) => check::compile(folder)?.0,
        None => kubernetes::compile(&args.server)?,
    };
    // Nobody has probed these endpoints: those listed count as fit.
    let refused = compiler.refused(&request.host);
    let mut verdict = verdict::explain(compiler.plan(), &request, &refused, |_| None);
    if verdict["clusters"].is_array() {
        verdict["health"] = HEALTH.into();
    }
    print::out(&if args.json { serde_json::to_string_pretty(&verdict)? + "\n" } else { to_text(&verdict) })?;
    Ok(ExitCode::SUCCESS)
}
