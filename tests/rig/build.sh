#!/usr/bin/env bash
# Builds the binaries of the rig from the Go modules in modules/, whose go.mod files are the only place where versions are written, and
# prints where each one is: name=path, a line each. Progress goes to stderr, and so does the sentence that says why it could not be done,
# after "error: ".
#
#   build.sh [--no-build] [part …]   the parts are kubernetes, etcd, conformance, helm and coredns; all but coredns if none is named
#   build.sh --check [part …]        could they be built, if they are not there? Builds nothing
#   build.sh --pin                   after a change of versions: fill in the rest of each go.mod and go.sum
#
# A binary is built once and kept in ~/.cache/portolan/rig/<hash>, where the hash is that of its go.mod, go.sum and Go files, of how it is built
# and of the version of Go. It gets there by a rename, whole or not at all. What KUBEBUILDER_ASSETS holds is taken from there instead.
# Folders that nobody asked for in thirty days are removed by the next build.
set -euo pipefail
shopt -s nullglob
cd "$(dirname "$0")"
export LC_ALL=C PATH=$PATH:/usr/local/go/bin
export CGO_ENABLED=0 GOTOOLCHAIN=local GOWORK=off GOFLAGS='-mod=readonly -trimpath -buildvcs=false'
cache=$HOME/.cache/portolan/rig
work=$cache/building

fail() {
  echo "error: $*" >&2
  exit 1
}

need_go() {
  local needed found
  needed=$(sed -n 's/^go //p' modules/kubernetes/go.mod)
  # Where there is no Go there is no answer, which is one too.
  found=$(go env GOVERSION 2>/dev/null | sed -E 's/^.*go([0-9.]+).*$/\1/') || true
  if [ "$(printf '%s\n%s\n' "$needed" "$found" | sort -V | head -n 1)" != "$needed" ]; then
    fail "the rig builds Kubernetes from source with Go ${needed%.0} or newer, and this machine has ${found:-none}: install it from https://go.dev/dl/ so that \`go\` is in the PATH or in /usr/local/go/bin"
  fi
}

binaries_of() {
  case $1 in
    kubernetes) echo kube-apiserver kube-controller-manager kube-proxy kubectl ;;
    etcd) echo etcd ;;
    conformance) echo conformance echo-basic gateway-crds ;;
    helm) echo helm ;;
    coredns) echo coredns ;;
  esac
}

folder_of() {
  local hash
  hash=$({
    go env GOVERSION GOOS GOARCH CGO_ENABLED GOFLAGS
    declare -f build kubernetes_version
    cat modules/"$1"/go.{mod,sum} modules/"$1"/*.go
  } | sha256sum)
  echo "$cache/${hash:0:16}"
}

# What /version says; Helm and others parse it.
kubernetes_version() {
  local version minor package
  version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
  minor=${version#v*.}
  for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
    printf ' -X %s' "$package.gitVersion=$version" "$package.gitMajor=1" "$package.gitMinor=${minor%%.*}" "$package.gitTreeState=archive" \
      "$package.gitCommit=module" "$package.buildDate=1970-01-01T00:00:00Z"
  done
}

# In the folder of the module.
build() {
  local name=$1 to=$2 stamp='' flags gateway_api
  case $name in
    kube*) stamp=$(kubernetes_version) ;;
    helm) stamp=" -X helm.sh/helm/v3/internal/version.version=$(go list -m -f '{{.Version}}' helm.sh/helm/v3)" ;;
  esac
  flags=(-p "$jobs" -ldflags "-s -w$stamp" -o "$to")
  case $name in
    kube*) nice -n 19 go build "${flags[@]}" "k8s.io/kubernetes/cmd/$name" ;;
    etcd) nice -n 19 go build "${flags[@]}" go.etcd.io/etcd/server/v3 ;;
    conformance) nice -n 19 go test -c "${flags[@]}" . ;;
    echo-basic) nice -n 19 go build "${flags[@]}" sigs.k8s.io/gateway-api/conformance/echo-basic ;;
    gateway-crds)
      go mod download sigs.k8s.io/gateway-api
      gateway_api=$(go list -m -f '{{.Dir}}' sigs.k8s.io/gateway-api)
      cp -r --no-preserve=mode "$gateway_api/config/crd" "$to"
      ;;
    helm) nice -n 19 go build "${flags[@]}" helm.sh/helm/v3/cmd/helm ;;
    coredns) nice -n 19 go build "${flags[@]}" github.com/coredns/coredns ;;
  esac
}

pin() {
  local module
  for module in modules/*/; do
    (cd "$module" && GOFLAGS=-mod=mod go list -deps -test ./... tool >/dev/null)
  done
}

may_build=yes parts=()
for argument in "$@"; do
  case $argument in
    --no-build) may_build=no ;;
    --check) may_build=unasked ;;
    --pin) need_go; pin; exit ;;
    kubernetes | etcd | conformance | helm | coredns) parts+=("$argument") ;;
    *) fail "unknown part $argument: it is one of kubernetes, etcd, conformance, helm, coredns" ;;
  esac
done
if [ ${#parts[@]} -eq 0 ]; then parts=(kubernetes etcd conformance helm); fi

missing=() found=()
for part in "${parts[@]}"; do
  folder=
  for name in $(binaries_of "$part"); do
    if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$KUBEBUILDER_ASSETS/$name" ]; then
      found+=("$name=$KUBEBUILDER_ASSETS/$name")
      continue
    fi
    if [ -z "$folder" ]; then
      need_go
      folder=$(folder_of "$part")
      if [ -d "$folder" ]; then touch "$folder"; fi
    fi
    found+=("$name=$folder/$name")
    if [ ! -e "$folder/$name" ]; then missing+=("$part $name $folder"); fi
  done
done

if [ $may_build = unasked ]; then exit; fi
if [ ${#missing[@]} -gt 0 ]; then
  names=$(printf '%s\n' "${missing[@]}" | cut -d ' ' -f 2 | paste -sd ' ')
  if [ $may_build = no ]; then fail "not built yet: $names; tests/rig/build.sh builds what is missing, once, in some minutes"; fi
  jobs=$(nproc)
  # More compilers at once take the memory of those who work here.
  if [ "$jobs" -gt 4 ]; then jobs=4; fi
  echo "building, once, $names" >&2
  mkdir -p "$cache"
  exec 9>"$cache/lock"
  if ! flock -n 9; then
    echo "waiting for another build of the rig's binaries" >&2
    flock 9
  fi
  mkdir -p "$work/tmp"
  export GOCACHE=$work/cache GOTMPDIR=$work/tmp
  for one in "${missing[@]}"; do
    read -r part name folder <<<"$one"
    if [ -e "$folder/$name" ]; then continue; fi
    rm -rf "${work:?}/$name"
    begin=$SECONDS
    # Not as a condition: there an error within would not end it.
    set +e
    (set -e; cd "modules/$part"; build "$name" "$work/$name") >"$work/log" 2>&1
    status=$?
    set -e
    if [ $status -ne 0 ]; then
      tail -n 20 "$work/log" >&2
      fail "$name of tests/rig/modules/$part could not be built; all that Go said is in $work/log"
    fi
    mkdir -p "$folder"
    mv "$work/$name" "$folder/$name"
    echo "built $name in $((SECONDS - begin)) s, $(du -sm "$folder/$name" | cut -f 1) MB" >&2
  done
  # Go's intermediate results are ten times the size of the binaries and not needed again.
  rm -rf "$work"
  find "$cache" -mindepth 1 -maxdepth 1 -type d -mtime +30 -exec rm -rf {} +
fi
printf '%s\n' "${found[@]}"
