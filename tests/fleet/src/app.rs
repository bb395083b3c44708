//! An application of a member cluster: the echo server under a Deployment, a Service and an Ingress.

use serde_json::{Value, json};

/// What is to be deployed.
#[derive(Clone, Debug)]
pub struct App {
    name: String,
    namespace: String,
    replicas: u32,
    hosts: Vec<String>,
    service: Value,
}

impl App {
    /// One of that name in the namespace `default`, with two pods behind a ClusterIP Service, and an Ingress without hosts of its own.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            namespace: "default".to_owned(),
            replicas: 2,
            hosts: Vec::new(),
            service: json!({}),
        }
    }

    /// In another namespace, which must be there.
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_owned();
        self
    }

    /// With so many pods.
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.replicas = replicas;
        self
    }

    /// With a host of its own.
    pub fn host(mut self, host: &str) -> Self {
        self.hosts.push(host.to_owned());
        self
    }

    /// With these fields in its Service's spec.
    pub fn service(mut self, fields: Value) -> Self {
        self.service = fields;
        self
    }

    /// The Deployment and the Service.
    pub fn workload(&self) -> Vec<Value> {
        let Self { name, namespace, replicas, .. } = self;
        let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
        let deployment = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {
                    "metadata": {"labels": {"app": name}},
                    "spec": {
                        "terminationGracePeriodSeconds": 30,
                        "containers": [{
                            "name": "echo", "image": "echo",
                            "env": [
                                {"name": "POD_NAME", "valueFrom": field("metadata.name")},
                                {"name": "NAMESPACE", "valueFrom": field("metadata.namespace")},
                                {"name": "SERVICE_NAME", "value": name},
                            ],
                            "ports": [{"containerPort": 3000}],
                            "readinessProbe": {"httpGet": {"path": "/", "port": 3000}, "periodSeconds": 1},
                            // As every application that takes part in roll-outs does: it goes on until its endpoints are forgotten.
                            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
                        }],
                    },
                },
            },
        });
        let mut service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"app": name}, "ports": [{"name": "web", "port": 80, "targetPort": 3000}]},
        });
        for (key, value) in self.service.as_object().into_iter().flatten() {
            service["spec"][key] = value.clone();
        }
        vec![deployment, service]
    }

    /// The Ingress.
    pub fn ingress(&self) -> Value {
        let Self { name, namespace, hosts, .. } = self;
        let backend = json!({"service": {"name": name, "port": {"name": "web"}}});
        let paths = json!({"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]});
        let rules: Vec<_> = hosts.iter().map(|host| json!({"host": host, "http": paths})).collect();
        let rules = if rules.is_empty() { vec![json!({"http": paths})] } else { rules };
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"ingressClassName": "portolan", "rules": rules},
        })
    }

    /// All of it, as kubectl reads it.
    pub fn manifests(&self) -> String {
        let mut items = self.workload();
        items.push(self.ingress());
        json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
    }
}
