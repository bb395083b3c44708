#!/usr/bin/env bash
# Writes portolan.yaml: what the chart comes to with its defaults, for those who do without Helm. A test holds it to the chart.
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
