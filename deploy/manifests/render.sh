#!/usr/bin/env bash
# Writes portolan.yaml and agent.yaml: what the charts come to with their defaults, for those who do without Helm, and for `portolan join`. A test
# holds them to the charts.
set -euo pipefail
cd "$(dirname "$0")/.."
helm=$(command -v helm || ../tests/rig/build.sh helm | sed -n 's/^helm=//p')
{
  cat <<'END'
# Portolan in the LB cluster, for those who do without Helm: edit lbDomain, then
#
#   kubectl create namespace portolan-system
#   kubectl apply --server-side -f deploy/crds && kubectl apply --server-side -f deploy/manifests/portolan.yaml
#
# Rendered from deploy/charts/portolan by `make manifests`; edit that.
END
  "$helm" template portolan charts/portolan --namespace portolan-system --kube-version 1.36.0 --set lbDomain=lb.example.net
} >manifests/portolan.yaml
{
  cat <<'END'
# What a member cluster gets: the agent, and its credential for the LB cluster. `portolan join <cluster>` prints it with image and credential filled
# in; everything stands here but for these.
#
# Rendered from deploy/charts/portolan-agent by `make manifests`, but for the namespace and the credential; edit that.
apiVersion: v1
kind: Namespace
metadata:
  name: portolan-agent
  labels:
    app.kubernetes.io/part-of: portolan
    pod-security.kubernetes.io/enforce: restricted
---
# The address of the LB cluster and a token of this cluster's account there, good for seven days; the agent renews it every day. After a
# longer absence the cluster joins again: a newer Secret is taken without a restart.
apiVersion: v1
kind: Secret
metadata:
  name: portolan-agent-credential
  namespace: portolan-agent
  labels: { app.kubernetes.io/name: portolan-agent, app.kubernetes.io/part-of: portolan }
type: Opaque
data: {}
END
  "$helm" template portolan-agent charts/portolan-agent --namespace portolan-agent --kube-version 1.36.0
} >manifests/agent.yaml
