#!/bin/sh
# Runs the tests of pods on a real cluster, in a namespace that it makes and removes. Needs kubectl.
#
#   KUBECONFIG_TEST=~/.kube/config tests/runners/pod/on_a_real_cluster.sh [PYTEST OPTIONS]
#
# NAMESPACE_TEST (stroem-test) is the namespace; it enforces the Pod Security Standard `baseline`.
# RUNNER_IMAGE_TEST (debian:12-slim) is an image with sh, coreutils and python3 that nodes can pull.
set -eu
: "${KUBECONFIG_TEST:?names the kubeconfig of a cluster to test on}"
export KUBECONFIG_TEST NAMESPACE_TEST="${NAMESPACE_TEST:-stroem-test}"
cd "$(dirname "$0")/../../.."
kube() { kubectl --kubeconfig "$KUBECONFIG_TEST" "$@"; }
if kube get namespace "$NAMESPACE_TEST" >/dev/null 2>&1; then
    echo "The namespace $NAMESPACE_TEST exists; name another in NAMESPACE_TEST" >&2
    exit 2
fi
kube create --validate=false -f - <<END
{ "apiVersion": "v1", "kind": "Namespace", "metadata": {
    "name": "$NAMESPACE_TEST", "labels": { "pod-security.kubernetes.io/enforce": "baseline" } } }
END
trap 'kube delete namespace "$NAMESPACE_TEST" --wait=false' EXIT
.venv/bin/python -m pytest -q -m slow tests/runners/pod/test_real_cluster.py "$@"
