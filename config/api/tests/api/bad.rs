//! What wrong manifests are told: every row with its diagnostics, as people see them.

use std::fmt::Write;

use portolan_api::{Diagnostic, Reader, Source};
use portolan_model::id::{Kind, ObjectRef};

use crate::support::{checks, manifest, read};

/// What is wrong, the kind, and a spec of it.
const SPECS: &[(&str, &str, &str)] = &[
    ("a misspelt field", "HTTPLoadBalancer", "rules:\n  - backend: [{pool: shop}]"),
    (
        "a misspelt field deep inside",
        "HTTPLoadBalancer",
        "rules:\n  - backends:\n      - pool: shop\n        wieght: 3",
    ),
    (
        "a misspelt field that must be there",
        "Proxy",
        "lbDomain: lb.example.net\nlistners: [{name: a, port: 80, protocol: HTTP}]",
    ),
    (
        "several things at once",
        "HTTPLoadBalancer",
        "host: [x]\nrules:\n  - backends: [{pool: shop, weight: many}]\n    timeouts: {request: 10}\n  - matches: [{path: {type: prefix, value: /}}]",
    ),
    (
        "a scalar where a list belongs",
        "HTTPLoadBalancer",
        "hosts: www.example.com\nrules: [{backends: [{pool: shop}]}]",
    ),
    (
        "a list where a mapping belongs",
        "HTTPLoadBalancer",
        "rules:\n  - backends: [{pool: shop}]\n    timeouts:\n      - request: 5s",
    ),
    ("no rules", "HTTPLoadBalancer", "hosts: [www.example.com]"),
    ("a rule that leads nowhere", "HTTPLoadBalancer", "rules:\n  - matches: [{path: {value: /a}}]"),
    (
        "a host with scheme and path",
        "HTTPLoadBalancer",
        "hosts: [\"https://www.example.com/shop\"]\nrules: [{backends: [{pool: shop}]}]",
    ),
    (
        "a wildcard in the middle",
        "HTTPLoadBalancer",
        "hosts: [\"www.*.example.com\"]\nrules: [{backends: [{pool: shop}]}]",
    ),
    (
        "a host that is an address",
        "HTTPLoadBalancer",
        "rules: [{hosts: [192.0.2.1], backends: [{pool: shop}]}]",
    ),
    (
        "a path without its slash",
        "HTTPLoadBalancer",
        "rules: [{matches: [{path: {value: api}}], backends: [{pool: shop}]}]",
    ),
    (
        "a path with a query",
        "HTTPLoadBalancer",
        "rules: [{matches: [{path: {type: Exact, value: \"/a?b=c\"}}], backends: [{pool: shop}]}]",
    ),
    (
        "a path that no request has",
        "HTTPLoadBalancer",
        "rules: [{matches: [{path: {value: /a/../b}}], backends: [{pool: shop}]}]",
    ),
    (
        "paths with dots, behind escapes and where one is written",
        "HTTPLoadBalancer",
        "rules:\n  - matches: [{path: {value: /a/%2E.}}, {path: {type: Exact, value: /%2e/a}}]\n    backends: [{pool: shop}]\n    filters:\n      - type: URLRewrite\n        urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /a/../b}}",
    ),
    (
        "a prefix that would match more than it says",
        "HTTPLoadBalancer",
        "rules: [{matches: [{path: {value: /a//}}], backends: [{pool: shop}]}]",
    ),
    (
        "a regular expression that does not compile",
        "HTTPLoadBalancer",
        "rules: [{matches: [{path: {type: RegularExpression, value: \"/(a\"}}], backends: [{pool: shop}]}]",
    ),
    (
        "a method in lower case",
        "HTTPLoadBalancer",
        "rules: [{matches: [{method: get}], backends: [{pool: shop}]}]",
    ),
    (
        "header names that are none",
        "HTTPLoadBalancer",
        "rules: [{matches: [{headers: [{name: \"X Env\", value: a}, {name: \"X-Env:\", value: a}]}], backends: [{pool: shop}]}]",
    ),
    (
        "a header twice in a match",
        "HTTPLoadBalancer",
        "rules: [{matches: [{headers: [{name: X-Env, value: a}, {name: x-env, value: b}]}], backends: [{pool: shop}]}]",
    ),
    (
        "a header value over two lines",
        "HTTPLoadBalancer",
        "rules:\n  - backends: [{pool: shop}]\n    filters:\n      - type: ResponseHeaderModifier\n        responseHeaderModifier:\n          set:\n            - name: X-Env\n              value: \"a\\r\\nSet-Cookie: b\"",
    ),
    (
        "edits of headers that frame the message",
        "HTTPLoadBalancer",
        "rules:\n  - backends: [{pool: shop}]\n    filters:\n      - type: RequestHeaderModifier\n        requestHeaderModifier:\n          set: [{name: Content-Length, value: \"0\"}, {name: Host, value: a}, {name: Expect, value: 100-continue}]\n          remove: [Transfer-Encoding]",
    ),
    (
        "a filter without its settings",
        "HTTPLoadBalancer",
        "rules:\n  - backends: [{pool: shop}]\n    filters: [{type: URLRewrite}]",
    ),
    (
        "a filter with another's settings",
        "HTTPLoadBalancer",
        "rules:\n  - backends: [{pool: shop}]\n    filters: [{type: RequestHeaderModifier, responseHeaderModifier: {remove: [X-A]}}]",
    ),
    (
        "a filter type that does not exist",
        "HTTPLoadBalancer",
        "rules:\n  - backends: [{pool: shop}]\n    filters: [{type: UrlRewrite, urlRewrite: {hostname: a.example}}]",
    ),
    (
        "a filter twice",
        "HTTPLoadBalancer",
        "rules:\n  - backends: [{pool: shop}]\n    filters: [{type: URLRewrite, urlRewrite: {hostname: a.example}}, {type: URLRewrite, urlRewrite: {hostname: b.example}}]",
    ),
    (
        "redirect and rewrite together",
        "HTTPLoadBalancer",
        "rules:\n  - filters: [{type: URLRewrite, urlRewrite: {hostname: a.example}}, {type: RequestRedirect, requestRedirect: {scheme: https}}]",
    ),
    (
        "a redirect with a status that is none",
        "HTTPLoadBalancer",
        "rules:\n  - filters: [{type: RequestRedirect, requestRedirect: {scheme: HTTPS, statusCode: 200}}]",
    ),
    (
        "the status of a redirect",
        "HTTPLoadBalancer",
        "rules:\n  - filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: \"*.example.com\", statusCode: 304}}]",
    ),
    (
        "a prefix replaced where none is matched",
        "HTTPLoadBalancer",
        "rules:\n  - matches: [{path: {type: Exact, value: /a}}]\n    backends: [{pool: shop}]\n    filters:\n      - type: URLRewrite\n        urlRewrite:\n          path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}",
    ),
    (
        "a path modifier with the other's field",
        "HTTPLoadBalancer",
        "rules:\n  - backends: [{pool: shop}]\n    filters:\n      - type: URLRewrite\n        urlRewrite:\n          path: {type: ReplaceFullPath, replacePrefixMatch: /b}",
    ),
    ("a pool name that is none", "HTTPLoadBalancer", "rules: [{backends: [{pool: Shop_V1}]}]"),
    ("a pool twice", "HTTPLoadBalancer", "rules: [{backends: [{pool: shop}, {pool: shop, weight: 5}]}]"),
    ("a weight below zero", "HTTPLoadBalancer", "rules: [{backends: [{pool: shop, weight: -1}]}]"),
    (
        "a try longer than the request",
        "HTTPLoadBalancer",
        "rules: [{backends: [{pool: shop}], timeouts: {request: 5s, backendRequest: 10s}}]",
    ),
    (
        "durations that are none",
        "HTTPLoadBalancer",
        "rules: [{backends: [{pool: shop}], timeouts: {request: 1d, backendRequest: 5 s}}]",
    ),
    (
        "an unreadable time",
        "HTTPLoadBalancer",
        "origin: {kind: Ingress, namespace: a, name: b, creationTimestamp: yesterday}\nrules: [{backends: [{pool: shop}]}]",
    ),
    ("a pool without endpoints", "UpstreamPool", "balancing: RoundRobin"),
    (
        "a pool with two sources",
        "UpstreamPool",
        "endpoints: [{address: 192.0.2.1, port: 80}]\nnodePort: {port: 30080}",
    ),
    (
        "ports out of bounds",
        "UpstreamPool",
        "endpoints:\n  - {address: 192.0.2.1, port: 0}\n  - {address: 192.0.2.1, port: 70000}\n  - {address: 192.0.2.1, port: http}\n  - {address: 192.0.2.1, port: \"80\"}",
    ),
    (
        "addresses that are none",
        "UpstreamPool",
        "endpoints:\n  - {address: \"192.0.2.1:80\", port: 80}\n  - {address: \"http://a.example\", port: 80}\n  - {address: 10.0.0.256, port: 80}",
    ),
    (
        "an endpoint twice",
        "UpstreamPool",
        "endpoints:\n  - {address: 192.0.2.1, port: 80}\n  - {address: 192.0.2.1, port: 80}",
    ),
    (
        "an endpoint twice, in another spelling",
        "UpstreamPool",
        "endpoints:\n  - {address: 192.0.2.1, port: 80}\n  - {address: \"::ffff:192.0.2.1\", port: 80}",
    ),
    (
        "a balancing that does not exist",
        "UpstreamPool",
        "endpoints: []\nbalancing: LeastRequests\nprotocol: h2c",
    ),
    ("TLS that nobody vouches for", "UpstreamPool", "endpoints: []\ntls: {serverName: a.example}"),
    (
        "TLS with two ways to verify",
        "UpstreamPool",
        "endpoints: []\ntls: {serverName: a.example, caRef: {name: ca}, insecureSkipVerify: true}",
    ),
    ("TLS without a server name", "UpstreamPool", "endpoints: []\ntls: {systemTrust: yes}"),
    ("a health check that asks nothing", "UpstreamPool", "endpoints: []\nhealthCheck: {interval: 5s}"),
    (
        "a health check out of bounds",
        "UpstreamPool",
        "endpoints: []\nhealthCheck:\n  http: {path: healthz, expectedStatuses: {from: 300, to: 200}}\n  interval: 10ms\n  edgeInterval: 2h\n  timeout: 0s",
    ),
    (
        "a health check whose query no request can carry",
        "UpstreamPool",
        "endpoints: []\nhealthCheck:\n  http: {path: \"/?x y\"}",
    ),
    (
        "a health check with a fragment",
        "UpstreamPool",
        "endpoints: []\nhealthCheck:\n  http: {path: \"/healthz?full=%20#top\"}",
    ),
    (
        "a node without an address",
        "NodeSet",
        "nodes:\n  - {name: a, addresses: []}\n  - {name: b, addresses: [node-b]}\n  - {name: b, addresses: [192.0.2.2]}",
    ),
    ("a policy without a target", "TrafficPolicy", "targetRefs: []\nmaxRequestBody: 10Mi"),
    (
        "a policy on what takes none",
        "TrafficPolicy",
        "targetRefs: [{kind: Gateway, name: a}, {kind: cluster, name: paris}]",
    ),
    (
        "sizes that are none",
        "TrafficPolicy",
        "targetRefs: [{kind: Cluster, name: paris}]\nmaxRequestBody: 10MB",
    ),
    (
        "a redirect that changes the method",
        "TrafficPolicy",
        "targetRefs: [{kind: Cluster, name: Paris}]\ntimeouts: {connect: 0s}\nhttpsRedirect: {statusCode: 303}",
    ),
    (
        "a limit that is a number",
        "TrafficPolicy",
        "targetRefs: [{kind: Cluster, name: paris}]\ntimeouts: {connect: 0s, perTry: 5}",
    ),
    (
        "HSTS without an age",
        "TrafficPolicy",
        "targetRefs: [{kind: Cluster, name: paris}]\nhsts: {preload: true}",
    ),
    (
        "listeners that collide",
        "Proxy",
        "lbDomain: lb.example.net\nlisteners:\n  - {name: a, port: 80, protocol: HTTP}\n  - {name: b, port: 80, protocol: HTTP, address: 192.0.2.1}\n  - {name: a, port: 81, protocol: HTTP}",
    ),
    (
        "listeners that collide in another spelling",
        "Proxy",
        "lbDomain: lb.example.net\nlisteners:\n  - {name: a, port: 80, protocol: HTTP, address: 127.0.0.1}\n  - {name: b, port: 80, protocol: HTTP, address: \"::ffff:127.0.0.1\"}",
    ),
    (
        "TLS on plain HTTP",
        "Proxy",
        "lbDomain: lb.example.net\nlisteners:\n  - {name: a, port: 80, protocol: HTTP, tls: {selfSigned: true}}",
    ),
    (
        "a TLS version that is a number",
        "Proxy",
        "lbDomain: lb.example.net\nlisteners:\n  - {name: a, port: 443, protocol: HTTPS, tls: {minVersion: 1.2}}\n  - {name: b, port: 444, protocol: HTTPS, tls: {minVersion: \"1.1\"}}",
    ),
    (
        "a cipher suite that is not offered",
        "Proxy",
        "lbDomain: lb.example.net\nlisteners:\n  - {name: a, port: 443, protocol: HTTPS, tls: {cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]}}",
    ),
    (
        "cipher suites of an older version than the lowest",
        "Proxy",
        "lbDomain: lb.example.net\nlisteners:\n  - {name: a, port: 443, protocol: HTTPS, tls: {minVersion: \"1.3\", cipherSuites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]}}",
    ),
    (
        "ranges of addresses that are none",
        "Proxy",
        "lbDomain: lb.example.net\nlisteners:\n  - {name: a, port: 80, protocol: HTTP, address: localhost, proxyProtocol: {trustedCIDRs: [10.0.0.1/8, 10.0.0.1, anywhere]}}",
    ),
    (
        "limits out of bounds",
        "Proxy",
        "lbDomain: \"*.lb.example.net\"\nlisteners: []\nlimits: {maxHeaderBytes: 10, maxHeaders: 1000}\nworkers: 0",
    ),
    (
        "an access log to nowhere",
        "Proxy",
        "lbDomain: lb.example.net\nlisteners: [{name: a, port: 80, protocol: HTTP}]\naccessLog: {output: File}",
    ),
    (
        "an access log that is off",
        "Proxy",
        "lbDomain: lb.example.net\nlisteners: [{name: a, port: 80, protocol: HTTP}]\naccessLog: {output: Off}",
    ),
    (
        "reserved ranges that are none",
        "Proxy",
        "lbDomain: lb.example.net\nlisteners: [{name: a, port: 80, protocol: HTTP}]\nreservedCIDRs: [10.0.0.1/8, fd00::1]",
    ),
    (
        "a sharing that does not exist",
        "Cluster",
        "allowedDomains: [{suffix: a.example, sharing: shared}]\ndrain: yes",
    ),
    (
        "allowed domains twice",
        "Cluster",
        "allowedDomains: [{suffix: \"*.example.com\"}, {suffix: a.example}, {suffix: A.example}]\nallowedEndpointCIDRs: [10.0.0.0]\ncertificateRef: {name: a, namespace: B}",
    ),
];

/// What is wrong, and a whole file.
const FILES: &[(&str, &str)] = &[
    (
        "no YAML",
        "apiVersion: portolan.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: paris\nspec:\n  weight: [1\n",
    ),
    ("a tab", "apiVersion: portolan.dev/v1alpha1\nkind: Cluster\nmetadata:\n\tname: paris\n"),
    (
        "a key twice",
        "apiVersion: portolan.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: paris\nspec:\n  weight: 1\n  weight: 2\n",
    ),
    (
        "an alias without its anchor",
        "apiVersion: portolan.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: paris\nspec:\n  locality: *eu\n",
    ),
    ("not a mapping", "- a\n- b\n"),
    ("just words", "hello there\n"),
    ("no kind", "apiVersion: portolan.dev/v1alpha1\nmetadata:\n  name: paris\nspec: {}\n"),
    (
        "a misspelt apiVersion field",
        "apiversion: portolan.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: paris\nspec: {}\n",
    ),
    (
        "an unknown kind of ours",
        "apiVersion: portolan.dev/v1alpha1\nkind: HttpLoadBalancer\nmetadata:\n  name: shop\n  namespace: tenant-paris\nspec: {}\n",
    ),
    (
        "an unknown version of ours",
        "apiVersion: portolan.dev/v1\nkind: Cluster\nmetadata:\n  name: paris\nspec: {}\n",
    ),
    (
        "a group that is nearly ours",
        "apiVersion: portolan.de/v1alpha1\nkind: Cluster\nmetadata:\n  name: paris\nspec: {}\n",
    ),
    ("a kind of no interest", "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: shop\n"),
    ("no metadata", "apiVersion: portolan.dev/v1alpha1\nkind: Cluster\nspec: {}\n"),
    ("no name", "apiVersion: portolan.dev/v1alpha1\nkind: Cluster\nmetadata:\n  labels: {a: b}\nspec: {}\n"),
    (
        "a name that is a number",
        "apiVersion: portolan.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: 42\nspec: {}\n",
    ),
    (
        "a cluster name with dots",
        "apiVersion: portolan.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: eu.paris\nspec: {}\n",
    ),
    (
        "a name in capitals",
        "apiVersion: portolan.dev/v1alpha1\nkind: UpstreamPool\nmetadata:\n  name: Shop\n  namespace: tenant-paris\nspec:\n  endpoints: []\n",
    ),
    (
        "no namespace",
        "apiVersion: portolan.dev/v1alpha1\nkind: UpstreamPool\nmetadata:\n  name: shop\n  namepsace: tenant-paris\nspec:\n  endpoints: []\n",
    ),
    (
        "a namespace where none belongs",
        "apiVersion: portolan.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: paris\n  namespace: default\nspec: {}\n",
    ),
    (
        "a date that is none",
        "apiVersion: portolan.dev/v1alpha1\nkind: UpstreamPool\nmetadata:\n  name: shop\n  namespace: tenant-paris\n  creationTimestamp: 2026-02-30\nspec:\n  endpoints: []\n",
    ),
    (
        "a field beside spec",
        "apiVersion: portolan.dev/v1alpha1\nkind: UpstreamPool\nmetadata:\n  name: shop\n  namespace: tenant-paris\nendpoints: []\n",
    ),
    ("a list without items", "apiVersion: v1\nkind: List\nitem: []\n"),
    (
        "a bad item of a list",
        "apiVersion: v1\nkind: List\nitems:\n  - apiVersion: portolan.dev/v1alpha1\n    kind: Cluster\n    metadata: {name: paris}\n    spec: {weight: heavy}\n  - apiVersion: portolan.dev/v1alpha1\n    kind: Cluster\n    metadata: {name: tokyo}\n    spec: {}\n",
    ),
    (
        "JSON that is cut short",
        "{\"apiVersion\": \"portolan.dev/v1alpha1\", \"kind\": \"Cluster\",\n \"metadata\": {\"name\": \"paris\"}, \"spec\": {\"weight\": 1}\n",
    ),
    (
        "a Secret that shows nothing of itself",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: tenant-paris}\ntype: kubernetes.io/tls\nstringData: {tls.crt: hunter2, tls.key: hunter3}\n",
    ),
    (
        "a Secret with broken base64",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: tenant-paris}\ntype: kubernetes.io/tls\ndata: {tls.crt: \"hunter2!\", tls.key: \"\"}\n",
    ),
    (
        "a Secret of another type",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: tenant-paris}\ntype: Opaque\ndata: {a: aHVudGVyMg==}\n",
    ),
    (
        "a Secret that is no YAML",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: tenant-paris}\ntype: kubernetes.io/tls\ndata: {tls.key: hunter2\n",
    ),
    (
        "a CA bundle that is none",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca, namespace: tenant-paris}\ndata:\n  ca.crt: nothing\n",
    ),
    (
        "a slice of host names",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, namespace: tenant-paris, labels: {portolan.dev/pool: shop}}\naddressType: FQDN\nports: [{name: http}]\nendpoints: [{addresses: [a.example]}]\n",
    ),
    (
        "a slice of no pool",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, namespace: tenant-paris}\naddressType: IPv4\nendpoints: []\n",
    ),
    (
        "a slice of the other family",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, namespace: tenant-paris, labels: {portolan.dev/pool: shop}}\naddressType: IPv6\nports: [{port: 80}]\nendpoints: [{addresses: [192.0.2.1]}]\n",
    ),
    // Regression: they were passed over, and what they said with them.
    (
        "slips in a slice",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, namespace: tenant-paris, labels: {portolan.dev/pool: shop}}\naddressType: IPv4\nport: [{port: 80}]\nendpoints:\n  - addresses: [192.0.2.1]\n    condition: {ready: false}\n  - addresses: [192.0.2.2]\n    conditions: {raedy: false}\n    nodeName: a\n    hint: {}\n",
    ),
    (
        "slips in a port of a slice",
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, namespace: tenant-paris, labels: {portolan.dev/pool: shop}}\naddressType: IPv4\nports:\n  - {prot: 80, appProtocol: http, portRange: x}\nendpoints: []\n",
    ),
    (
        "a Secret's stringDate",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: tenant-paris}\ntype: kubernetes.io/tls\nstringDate: {tls.crt: hunter2, tls.key: hunter3}\nimmutable: true\n",
    ),
    (
        "a ConfigMap's date",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ca, namespace: tenant-paris}\ndate: {ca.crt: x}\nbinaryData: {}\n",
    ),
    ("a misspelt Secret", "apiVersion: v1\nkind: Secert\nmetadata: {name: a, namespace: tenant-paris}\n"),
    ("a misspelt List", "apiVersion: v1\nkind: Lst\nitems: []\n"),
    (
        "a misspelt EndpointSlice",
        "apiVersion: discovery.k8s.io/v1\nkind: EndPointSlices\nmetadata: {name: a}\n",
    ),
    (
        "an old EndpointSlice",
        "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: a, namespace: tenant-paris}\n",
    ),
    ("a Service", "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: tenant-paris}\n"),
    ("somebody else's Secret", "apiVersion: a.example/v1\nkind: Secret\nmetadata: {name: a, namespace: b}\n"),
];

#[test]
fn wrong_manifests_are_told_what_is_wrong() {
    let specs = SPECS.iter().map(|(name, kind, spec)| (*name, manifest(kind, spec)));
    let files = FILES.iter().map(|(name, file)| (*name, (*file).to_owned()));
    let mut shown = String::new();
    for (name, text) in specs.chain(files) {
        let read = read(&text);
        let told = read.all_diagnostics();
        assert!(!told.is_empty(), "{name} is told nothing");
        let _ = writeln!(shown, "### {name}\n");
        for told in told {
            let _ = writeln!(shown, "{told}\n\n{}", told.render(&Source::new(&text)));
        }
        assert!(!shown.contains("hunter"), "{name} shows a secret");
    }
    insta::assert_snapshot!(shown);
}

#[test]
fn a_bad_document_does_not_hide_its_neighbours() {
    let good = manifest("Cluster", "weight: 1");
    for bad in ["a: [", "a: \"b", "\t%", "{", "'", "? [", "&a *a", "a: b: c", "kind: Cluster", "- - -", "!!!"]
    {
        let read = read(&format!("{good}---\n{bad}\n---\n{good}---\n{good}"));
        assert_eq!(read.objects.len(), 3, "{bad:?}");
        assert!(!read.all_diagnostics().is_empty(), "{bad:?}");
    }
}

#[test]
fn an_object_cut_short_is_known_by_its_name() {
    for cut in [": [", ": \"", "\t\t: x", ": {a", ": *nobody"] {
        let text = manifest("UpstreamPool", "endpoints: []") + "  x" + cut + "\n";
        let read = read(&text);
        let ids: Vec<_> = read.invalid.iter().map(|(id, _)| id.to_string()).collect();
        assert_eq!(ids, ["UpstreamPool tenant-paris/shop"], "{cut:?}");
    }
}

#[test]
fn a_torn_item_does_not_take_its_neighbours() {
    let json = |name: &str, spec: &str| {
        format!(
            "{{\"apiVersion\": \"portolan.dev/v1alpha1\", \"kind\": \"Cluster\", \"metadata\": {{\"name\": \"{name}\"}}, \"spec\": {spec}"
        )
    };
    let (good, twice) = ("{}}", "{\"weight\": 1, \"weight\": 2}}");
    let first = |items: &str| format!("{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{items}");
    // As kubectl orders them.
    let last = |items: &str| format!("{{\"apiVersion\": \"v1\", \"items\": [{items}], \"kind\": \"List\"}}");
    let (a, b, c) = (json("a", good), json("b", good), json("c", good));
    let bad = json("b", twice);
    let yaml = |item: &str| format!("- {}\n", item.replace(", \"", ",\n    \""));
    let block = format!("apiVersion: v1\nkind: List\nitems:\n{}{}{}", yaml(&a), yaml(&bad), yaml(&c));
    let blocks = |cut: &str| {
        let item = |name: &str| {
            format!(
                "- apiVersion: portolan.dev/v1alpha1\n  kind: Cluster\n  metadata:\n    name: {name}\n  spec:\n    weight: 1\n"
            )
        };
        format!("apiVersion: v1\nkind: List\nitems:\n{}{}  {cut}", item("a"), item("b"))
    };
    let shared = format!("apiVersion: v1\nitems:\n- &a {a}\n- &b {bad}\n- *a\n- *b\n- {c}\nkind: List\n");
    for (what, text, objects, invalid, nobodys) in [
        ("a key twice", first(&format!("{a},\n{bad}, {c}]}}")), "a c", "b", 0),
        ("a key twice, kind last", last(&format!("{a}, {bad}, {c}")), "a c", "b", 0),
        ("a key twice in the last item", last(&format!("{a}, {bad}")), "a", "b", 0),
        ("a key twice in blocks", block, "a c", "b", 0),
        ("a key twice in what is shared", shared, "a a c", "b b", 0),
        ("cut in the second", blocks("  weight: 'x"), "a", "b", 0),
        ("cut in the second by what is no YAML", blocks("  locality: {region: x\n- c"), "a", "b", 0),
        ("cut in JSON, of which nothing is told", first(&format!("{a},\n{b},")), "", "", 1),
        ("the List says its kind twice", last(&a).replace("]", "], \"kind\": \"List\""), "a", "", 1),
    ] {
        let read = read(&text);
        let names: Vec<_> = read.objects.iter().map(|object| &*object.meta.id.name).collect();
        let lost: Vec<_> = read.invalid.iter().map(|(id, _)| &*id.name).collect();
        assert_eq!((names.join(" ").as_str(), lost.join(" ").as_str()), (objects, invalid), "{what}");
        assert_eq!(read.diagnostics.len(), nobodys, "{what}: {:?}", read.diagnostics);
        assert!(read.torn, "{what}");
    }
}

#[test]
fn fields_are_found_again() {
    const FILE: &str = "\u{feff}# Paris.
---
# Its pool is elsewhere.
apiVersion: portolan.dev/v1alpha1
kind: HTTPLoadBalancer
metadata: {name: shop, namespace: tenant-paris}
spec:
  rules:
    - backends:
        - {pool: here}
        - pool: gone
---
{apiVersion: v1, kind: List, items: [
  {apiVersion: v1, kind: Secret, metadata: {name: a, namespace: tenant-paris}, stringData: {tls.key: hunter2}}, {apiVersion: v1,
  kind: ConfigMap, metadata: {name: b, namespace: tenant-paris}, data: {ca.crt: none}}]}
";
    let mut source = Source::new(FILE);
    let mut find = |kind, name, line, field| {
        let spot = source.locate(&ObjectRef::new(kind, "tenant-paris", name), line, field);
        spot.map(|spot| (spot.line, spot.column, spot.found))
    };
    let shop = |field| (Kind::HttpLoadBalancer, "shop", 4, field);
    for (what, (kind, name, line, field), expected) in [
        ("a scalar", shop("spec.rules[0].backends[1].pool"), Some((11, 17, "gone"))),
        ("a mapping", shop("spec.rules[0].backends[0]"), Some((10, 11, ""))),
        ("a field that is missing", shop("spec.rules[0].timeouts.request"), Some((9, 7, ""))),
        ("nothing of it is there", shop("status.x"), Some((4, 1, ""))),
        ("the object as a whole", shop(""), Some((4, 1, ""))),
        ("no path", shop("]["), Some((4, 1, ""))),
        ("a secret", (Kind::Secret, "a", 14, "stringData[\"tls.key\"]"), Some((14, 102, ""))),
        ("an item on the same line", (Kind::ConfigMap, "b", 14, "data[\"ca.crt\"]"), Some((15, 81, "none"))),
        ("another line", (Kind::HttpLoadBalancer, "shop", 5, "spec"), None),
        ("another name", (Kind::HttpLoadBalancer, "blog", 4, "spec"), None),
        ("another kind", (Kind::UpstreamPool, "shop", 4, "spec"), None),
        ("a line that is not there", (Kind::UpstreamPool, "shop", 99, "spec"), None),
        ("line 0", (Kind::UpstreamPool, "shop", 0, "spec"), None),
    ] {
        let expected = expected.map(|(line, column, found)| (line, column, found.to_owned()));
        assert_eq!(find(kind, name, line, field), expected, "{what}");
    }
}

/// Regression: a newline in a file's name made two lines of one, and a terminal obeyed the rest.
#[test]
fn names_of_files_are_escaped() {
    let read = Reader::new(checks()).read("a\n\u{1b}[31mb.yaml", "hello there\n");
    let told = read.all_diagnostics()[0];
    let shown = told.render(&Source::new("hello there\n"));
    assert!(shown.contains(" --> a\\n\\u{1b}[31mb.yaml:1:1\n"), "{shown}");
    assert!(told.to_string().starts_with("a\\n\\u{1b}[31mb.yaml:1:1: error: "), "{told}");
    let told = Diagnostic { message: "a\u{7}\r".into(), ..told.clone() };
    assert!(told.render(&Source::new("")).starts_with("error: a\\u{7}\\r\n"), "{told}");
}

/// One place where many hosts are looked for among many others would be everybody's.
#[test]
fn hosts_are_counted_in_all() {
    let rules = |own: usize| -> String {
        let rule = |n: usize| {
            let hosts: Vec<_> = (0..50).map(|m| format!("h{n}-{m}.a.com")).collect();
            format!("{{hosts: [{}], backends: [{{pool: p}}]}}", hosts.join(", "))
        };
        (0..own).map(rule).collect::<Vec<_>>().join(", ")
    };
    for (own, tls, expected) in [
        (81, "", &[][..]),
        (82, "", &["spec.rules: 4100 hosts in all (expected at most 4096)"]),
        (41, "{secretName: s}", &[]),
        (41, "{secretName: s}, {secretName: t}", &["spec.tls: 4100 hosts in all (expected at most 4096)"]),
    ] {
        let spec = format!("{{rules: [{}], tls: [{tls}]}}", rules(own));
        let read = read(&manifest("HTTPLoadBalancer", &spec));
        let told: Vec<_> = read.all_diagnostics().into_iter().map(|told| told.to_string()).collect();
        assert_eq!(told.len(), expected.len(), "{told:?}");
        assert!(told.iter().zip(expected).all(|(told, expected)| told.contains(expected)), "{told:?}");
    }
}
