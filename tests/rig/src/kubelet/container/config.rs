//! What does a run of a container need? Its program, arguments, environment, and what stands where in its file system.

use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, VolumeMount};

use crate::addresses::API_SERVICE;
use crate::kubelet::env;
use crate::kubelet::instance;
use crate::kubelet::objects;
use crate::kubelet::pod::Pod;
use crate::kubelet::root::{Mount, Root};
use crate::kubelet::shim::Spec;

/// The address that a cluster's name server has by convention.
const DNS: &str = "10.96.0.10";

/// All of it, or the sentence that says what is missing.
pub(crate) fn spec(
    pod: &Pod,
    container: &Container,
    binary: PathBuf,
    dir: &Path,
    number: i32,
) -> Result<Spec, String> {
    let snapshot = objects::snapshot(&pod.watched)?;
    let facts = pod.facts();
    let env = env::environment(container, &facts, &snapshot, API_SERVICE)?;
    let name = binary.file_name().map(|name| name.to_string_lossy().into_owned());
    let own = format!("/{}", name.ok_or_else(|| format!("{} is no program", binary.display()))?);
    let command = container.command.clone().unwrap_or_else(|| vec![own]);
    let argv = command.iter().chain(container.args.iter().flatten()).map(|text| env::expand(text, &env));
    let argv = argv.collect();
    let mounts = container.volume_mounts.iter().flatten();
    let mounts = mounts.map(|wanted| mount(pod, wanted, &env)).collect::<Result<_, _>>()?;
    let own = container.security_context.as_ref();
    let whole = pod.spec().security_context.as_ref();
    let user = own.and_then(|own| own.run_as_user).or_else(|| whole.and_then(|whole| whole.run_as_user));
    let group = own.and_then(|own| own.run_as_group).or_else(|| whole.and_then(|whole| whole.run_as_group));
    Ok(Spec {
        root: Root {
            dir: instance::dir(dir, number).join("root"),
            binary,
            mounts,
            files: vec![("/etc/hosts".to_owned(), hosts(pod)), ("/etc/resolv.conf".to_owned(), names(pod))],
            hostname: pod.network().map(|_| pod.hostname()),
        },
        argv,
        env,
        folder: container.working_dir.clone().unwrap_or_else(|| "/".to_owned()),
        user: user.and_then(|id| u32::try_from(id).ok()),
        group: group.and_then(|id| u32::try_from(id).ok()),
    })
}

fn mount(pod: &Pod, wanted: &VolumeMount, env: &[(String, String)]) -> Result<Mount, String> {
    let volumes = pod.spec().volumes.iter().flatten();
    let volume = volumes.into_iter().find(|volume| volume.name == wanted.name);
    let volume = volume.ok_or_else(|| format!("no volume {:?}", wanted.name))?;
    let mut source = match &volume.host_path {
        Some(host) => PathBuf::from(&host.path),
        None => pod.volume_dir(&volume.name),
    };
    let part = match &wanted.sub_path_expr {
        Some(text) => Some(env::expand(text, env)),
        None => wanted.sub_path.clone(),
    };
    if let Some(part) = part.filter(|part| !part.is_empty()) {
        if !Path::new(&part).components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(format!("{part:?} is no path within a volume"));
        }
        source.push(&part);
        if !source.exists() && (volume.empty_dir.is_some() || volume.host_path.is_some()) {
            std::fs::create_dir_all(&source).map_err(|error| format!("{}: {error}", source.display()))?;
        }
        // A part stays what it is now, even when the volume changes.
        source = source
            .canonicalize()
            .map_err(|error| format!("no {part:?} in volume {:?}: {error}", volume.name))?;
    }
    let writable = volume.empty_dir.is_some() || volume.host_path.is_some();
    Ok(Mount {
        source,
        target: PathBuf::from(&wanted.mount_path),
        read_only: !writable || wanted.read_only == Some(true),
    })
}

/// `/etc/hosts`. There may be no name server, so the name that every client of the API server knows stands here.
fn hosts(pod: &Pod) -> String {
    let mut text = format!("127.0.0.1 localhost\n{} {}\n", pod.address(), pod.hostname());
    let names = "kubernetes kubernetes.default kubernetes.default.svc kubernetes.default.svc.cluster.local";
    text += &format!("{API_SERVICE} {names}\n");
    for alias in pod.spec().host_aliases.iter().flatten() {
        text += &format!(
            "{} {}\n",
            alias.ip,
            alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join(" ")
        );
    }
    text
}

/// `/etc/resolv.conf`.
fn names(pod: &Pod) -> String {
    let spec = pod.spec();
    let own = spec.dns_config.clone().unwrap_or_default();
    let mut servers = own.nameservers.unwrap_or_default();
    let mut searches = own.searches.unwrap_or_default();
    let mut options: Vec<String> = Vec::new();
    if spec.dns_policy.as_deref() != Some("None") {
        servers.insert(0, DNS.to_owned());
        let ours = [&format!("{}.svc.cluster.local", pod.namespace()), "svc.cluster.local", "cluster.local"]
            .map(str::to_owned);
        searches.splice(0..0, ours);
        options.push("ndots:5".to_owned());
    }
    options.extend(own.options.unwrap_or_default().into_iter().map(|option| {
        match (option.name, option.value) {
            (name, Some(value)) => format!("{}:{value}", name.unwrap_or_default()),
            (name, None) => name.unwrap_or_default(),
        }
    }));
    let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    for (word, list) in [("search", searches), ("options", options)] {
        if !list.is_empty() {
            text += &format!("{word} {}\n", list.join(" "));
        }
    }
    text
}
