#!/usr/bin/env python3
"""What kubectl users do all day, against the local cluster's API server: apply, create, patch, scale, delete, explain, diff,
and the errors of malformed manifests. Runs with the kubectl of $KUBECTL; newer ones send protobuf and ask for OpenAPI v3,
older ones validate by OpenAPI v2 themselves.
"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from control_plane_test import Cluster, KUBECTL, ROOT  # pylint: disable=wrong-import-position

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec: {replicas: 2, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}},
  spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, image: x}]}}}
"""


class Session:
    def __init__(self):
        self.cluster = Cluster()
        self.passed = self.failed = 0
        text = subprocess.run((KUBECTL, "version", "--client", "-o", "json"), stdout=subprocess.PIPE, text=True,
                              check=True).stdout
        self.version = re.search(r'"gitVersion": "(v[^"]*)"', text).group(1)
        self.minor = int(self.version.split(".")[1])

    def run(self, command, stdin=None):
        environment = dict(os.environ, KUBECONFIG=self.cluster.kubeconfig, HOME=self.cluster.folder)
        done = subprocess.run([KUBECTL] + command.split(), input=stdin, env=environment, text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return done.returncode, done.stdout

    def expect(self, command, pattern, code=0, stdin=None):
        """The exit code, and a pattern that the output must contain; may be retried for a second by the caller."""
        got, output = self.run(command, stdin)
        if got == code and re.search(pattern, output, re.S):
            self.passed += 1
            return
        self.failed += 1
        print(f"FAILED kubectl {command}: exit {got}, wanted {code} and /{pattern}/:\n{output}")

    def eventually(self, command, pattern):
        try:
            self.cluster.eventually(lambda: re.search(pattern, self.run(command)[1], re.S), 10)
            self.passed += 1
        except AssertionError:
            self.failed += 1
            print(f"FAILED kubectl {command}: never /{pattern}/:\n{self.run(command)[1]}")


def creates(s):
    s.expect("create ns foo", "namespace/foo created")
    s.expect("create cm x -n foo --from-literal=a=b", "configmap/x created")
    s.expect("get cm x -n foo -o jsonpath={.data.a}", "^b$")
    s.expect("create deployment e --image=x", "deployment.apps/e created")
    s.expect("scale deploy e --replicas=0", "deployment.apps/e scaled")
    s.expect("get deploy e -o jsonpath={.spec.replicas}", "^0$")
    s.expect("expose deploy e --port 80", "service/e exposed")
    s.expect("create sa bob", "serviceaccount/bob created")
    s.expect("create role r --verb=get --resource=pods", "role.rbac.authorization.k8s.io/r created")
    s.expect("create rolebinding rb --role=r --serviceaccount=default:bob", "rolebinding.*created")
    s.expect("create job j --image=x -- true", "job.batch/j created")
    s.expect("run p --image=x --restart=Never", "pod/p created")
    s.expect("set image deploy/e *=y", "deployment.apps/e image updated")
    s.expect("autoscale deploy e --max=3", "horizontalpodautoscaler.autoscaling/e autoscaled")
    s.expect("create secret generic s --from-literal=a=b", "secret/s created")
    s.expect("create pdb pp --selector=a=b --min-available=1", "poddisruptionbudget.policy/pp created")
    s.expect("auth can-i get pods --as=system:serviceaccount:default:bob", "yes")
    s.expect("auth can-i get secrets --as=system:serviceaccount:default:bob", "no", code=1)
    if s.minor >= 24:
        s.expect("create token bob", r"^ey[\w-]+\.[\w-]+\.[\w-]+\s*$")


def applies(s):
    s.expect("apply -f -", "deployment.apps/d created", stdin=DEPLOYMENT)
    s.expect("apply -f -", "deployment.apps/d unchanged", stdin=DEPLOYMENT)
    more = DEPLOYMENT.replace("replicas: 2", "replicas: 3")
    s.expect("diff -f -", r"-  replicas: 2\n\+  replicas: 3", code=1, stdin=more)
    s.expect("apply --dry-run=server -f -", "configured .server dry run.", stdin=more)
    s.expect("apply -f -", "deployment.apps/d configured", stdin=more)
    s.expect("apply --server-side --force-conflicts -f -", "serverside-applied", stdin=DEPLOYMENT)
    s.eventually("get deploy d -o jsonpath={.status.replicas}", "^2$")
    s.expect("rollout history deploy d", "REVISION")
    s.expect("describe deploy d", "ScalingReplicaSet")
    s.expect("explain deployment.spec.replicas", "replicas <integer>")
    s.expect("explain gateway.spec.servers --api-version=networking.istio.io/v1", "hosts.*-required-")
    s.expect("api-resources", "deployments +deploy +apps/v1")
    s.expect("apply -f -", "deployment.extensions/x created", stdin=DEPLOYMENT.replace("apps/v1", "extensions/v1beta1")
             .replace("name: d}", "name: x}"))


def refuses(s):
    unknown = DEPLOYMENT.replace("replicas: 2", "replicas: 2, bogus: 1")
    s.expect("apply -f -", 'unknown field "(spec.)?bogus"', code=1, stdin=unknown)
    s.expect("apply --validate=false -f -", "configured|unchanged", stdin=unknown)
    s.expect("get deploy d -o jsonpath={.spec.bogus}", "^$")
    typed = DEPLOYMENT.replace("replicas: 2", "replicas: two")
    s.expect("apply -f -", "cannot unmarshal string into Go struct field|got \"string\", expected \"integer\"", code=1,
             stdin=typed)
    s.expect("apply -f -", "error (converting YAML|parsing)", code=1, stdin="a: [")
    s.expect("patch deploy absent -p {}", 'deployments.apps "absent" not found', code=1)
    s.expect("create ns foo", 'namespaces "foo" already exists', code=1)
    old = s.run("get cm x -n foo -o json")[1]
    s.expect("replace -f -", "configmap/x replaced", stdin=old.replace('"a": "b"', '"a": "c"'))
    s.expect("replace -f -", "the object has been modified", code=1, stdin=old.replace('"a": "b"', '"a": "d"'))
    s.expect("create -f -", "spec.ports\\[0\\].port", code=1, 
             stdin="apiVersion: v1\nkind: Service\nmetadata: {name: p}\nspec: {ports: [{port: 70000}]}\n")
    for size in (2 << 20, 4 << 20):
        big = "\n".join(["apiVersion: v1", "kind: ConfigMap", "metadata: {name: big}", "data: {a: " + "x" * size + "}"])
        s.expect("create -f -", "too large", code=1, stdin=big)


def deletes(s):
    s.expect("delete deploy x --cascade=orphan", 'deployment.apps "x" deleted')
    s.eventually("get rs -o jsonpath={.items[*].metadata.ownerReferences[*].name}", "^d( |$)")
    s.expect("delete deploy d --cascade=foreground", 'deployment.apps "d" deleted')
    s.expect("delete rs --all", "replicaset.apps")
    s.eventually("get rs,po -l a=b -o name", r"^(?!.*pod/)(?!.*replicaset)")
    s.expect("delete pod p --now", 'pod "p" deleted')
    s.expect("delete ns foo", 'namespace "foo" deleted')
    s.expect("get cm x -n foo", "not found", code=1)


def main():
    s = Session()
    print(f"kubectl {s.version}, uid {os.getuid()}")
    try:
        s.expect(f"apply -f {ROOT}/deploy/crds/", "gateways.networking.istio.io created")
        for part in (creates, applies, refuses, deletes):
            part(s)
    finally:
        s.cluster.close()
    print(f"{s.passed} passed, {s.failed} failed")
    return 1 if s.failed else 0


if __name__ == "__main__":
    sys.exit(main())
