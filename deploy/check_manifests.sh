#!/usr/bin/env bash
# Compares the manifests of this folder and the workflows with the published schemas, and has systemd read its unit.
# $1 is the folder of the programs that do so.
set -euo pipefail
cd "$(dirname "$0")/.."
bin=$(cd "${1:-.venv/bin}" && pwd)
"$bin/check-jsonschema" --builtin-schema vendor.compose-spec deploy/compose*.yaml
"$bin/check-jsonschema" --builtin-schema vendor.github-workflows .github/workflows/*.yml
mapfile -t resources < <(ls deploy/kubernetes/*.yaml | grep -v kustomization)
for name in service-monitor scaled-object; do # of the Prometheus operator and of KEDA
  "$bin/check-jsonschema" --schemafile "deploy/schemas/$name.json" "deploy/kubernetes/monitoring/$name.yaml"
done
"$bin/kubernetes-validate" --strict --quiet "${resources[@]}"
if command -v systemd-analyze > /dev/null; then
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  # The program is on the machine that it is installed on, not here.
  sed 's#^ExecStart=[^ ]*#ExecStart=/bin/true#' deploy/systemd/flowcraft-server.service > "$folder/flowcraft-server.service"
  systemd-analyze verify --man=no "$folder/flowcraft-server.service"
else
  echo "check-manifests: SKIPPED the systemd unit, as there is no systemd-analyze here"
fi
echo "check-manifests: the manifests fit"
