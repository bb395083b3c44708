//! Names that the processes of a fleet share beside the custom resources: labels, annotations, leases.

/// The label that ties an `EndpointSlice` to its pool. Its value is the pool's name: at most 63 characters.
pub const POOL_LABEL: &str = "portolan.dev/pool";

/// The label that says who writes an object: [`AGENT`] or [`CONTROLLER`].
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// The agent: its field manager, its `ServiceAccount` and its `Lease` in the tenant namespace, and its namespace in the member cluster.
pub const AGENT: &str = "portolan-agent";

/// The controller: its field manager, its `ServiceAccount` and its `Lease` in the system namespace.
pub const CONTROLLER: &str = "portolan-controller";

/// The proxy: its `ServiceAccount`, and what the names of its replicas' `Lease`s start with.
pub const PROXY: &str = "portolan-proxy";

/// The `Secret` in the agent's namespace with its credential for the LB cluster: `cluster`, `namespace`, `server`, `ca.crt`, `token`.
pub const CREDENTIAL: &str = "portolan-agent-credential";

/// The annotation of an agent's `Lease` that has its version.
pub const VERSION_ANNOTATION: &str = "portolan.dev/version";

/// The annotation of an agent's `Lease` that says which member cluster it is of: the uid of that cluster's namespace `kube-system`.
pub const MEMBER_ANNOTATION: &str = "portolan.dev/member";

/// The annotation of an agent's `Lease` that says what the API server refuses of its writes; empty where that
/// is not known yet, and not there where it refuses nothing.
pub const REFUSED_ANNOTATION: &str = "portolan.dev/refused";

/// The label of the replicas' `Lease`s in the system namespace; its value is `proxy`.
pub const REPLICA_LABEL: &str = "portolan.dev/replica";

/// The annotation of a replica's `Lease` that says what it serves: a JSON object with, for each kind, the highest
/// `metadata.resourceVersion` of its objects in the configuration in force, as a decimal string.
pub const SERVES_ANNOTATION: &str = "portolan.dev/serves";
