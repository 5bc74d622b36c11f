#!/usr/bin/env python3
"""The API server and the control plane as programs, driven by kubectl: mesh resources become objects, edits take effect,
and kill -9 of the API server loses nothing that was acknowledged.

Ports are chosen by the kernel, state lives in a temporary folder, and every process started here is ended here.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("POSTERN_BIN", os.path.join(ROOT, "bin"))
KUBECTL = os.environ.get("KUBECTL", "kubectl")
MESH = """
apiVersion: istio.banzaicloud.io/v1beta1
kind: Istio
metadata: {name: mesh, namespace: istio-system}
spec: {}
"""
GATEWAY = """
apiVersion: istio.banzaicloud.io/v1beta1
kind: MeshGateway
metadata: {name: %s, namespace: default}
spec: {type: ingress, ports: [{name: http, port: 8000, protocol: TCP, targetPort: 8000}]}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="postern-test-")
        self.kubeconfig = os.path.join(self.folder, "kubeconfig")
        self.port = free_port()
        self.processes = []
        self.start_api()

    def start(self, *arguments):
        log = open(os.path.join(self.folder, "log"), "ab")
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def start_api(self):
        self.api = self.start(os.path.join(BIN, "postern"), "apiserver", "--data-dir", os.path.join(self.folder, "data"),
                              "--listen", f"127.0.0.1:{self.port}", "--kubeconfig", self.kubeconfig)
        self.eventually(lambda: self.kubectl("get", "--raw", "/readyz") == "ok")

    def start_control(self):
        self.control = self.start(os.path.join(BIN, "postern-control"), "--kubeconfig", self.kubeconfig,
                                  "--webhook-address", "127.0.0.1:0", "--discovery-address", "127.0.0.1:0",
                                  "--local-discovery-address", "127.0.0.1:0", "--monitoring-address", "127.0.0.1:0")

    def kubectl(self, *arguments, stdin=None, check=False):
        environment = dict(os.environ, KUBECONFIG=self.kubeconfig, HOME=self.folder)
        done = subprocess.run((KUBECTL,) + arguments, input=stdin, env=environment, text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout if done.returncode == 0 else None

    @staticmethod
    def eventually(question, seconds=20):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if question():
                return
            time.sleep(0.05)
        raise AssertionError("did not come true in time")

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        shutil.rmtree(self.folder)


def install(cluster):
    """CRDs, namespace, control plane and mesh; the webhooks lead to a Service without pods here, so they are removed."""
    cluster.kubectl("apply", "-f", os.path.join(ROOT, "deploy/crds"), check=True)
    cluster.kubectl("apply", "-f", "-", stdin="apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}\n", check=True)
    cluster.start_control()
    cluster.eventually(lambda: cluster.kubectl("get", "validatingwebhookconfiguration", "istio-validator-istio-system"))
    cluster.kubectl("delete", "validatingwebhookconfigurations,mutatingwebhookconfigurations", "--all", check=True)
    cluster.kubectl("apply", "-f", "-", stdin=MESH, check=True)


def test_mesh_becomes_gateways(cluster):
    install(cluster)
    for kind in ("deployment", "service", "hpa", "pdb", "serviceaccount", "role", "rolebinding"):
        for name in ("istio-ingressgateway", "istio-egressgateway"):
            cluster.eventually(lambda: f"/{name}" in (cluster.kubectl("-n", "istio-system", "get", kind, "-o", "name") or ""))
    lines = cluster.kubectl("-n", "istio-system", "get", "istio", "mesh", check=True).splitlines()
    assert lines[0].split() == ["NAME", "STATUS", "ERROR", "GATEWAYS", "AGE"], lines
    # No pod runs here: a mesh that called itself available would be lying.
    assert "Reconciling" in lines[1] and "gateway" in lines[1], lines


def test_edit_of_the_mesh_takes_effect(cluster):
    mode = ("-n", "istio-system", "get", "istio", "mesh", "-o", "jsonpath={@.spec.outboundTrafficPolicy.mode}")
    assert cluster.kubectl(*mode) == "ALLOW_ANY"
    patched = cluster.kubectl("-n", "istio-system", "patch", "istio", "mesh", "--type=merge", "-p",
                              '{"spec":{"outboundTrafficPolicy":{"mode":"REGISTRY_ONLY"}}}', check=True)
    assert patched == "istio.istio.banzaicloud.io/mesh patched\n", patched
    assert cluster.kubectl(*mode) == "REGISTRY_ONLY"


def test_edits_of_gateways_take_effect(cluster):
    def patch(text):
        cluster.kubectl("-n", "istio-system", "patch", "istio", "mesh", "--type=merge", "-p", text, check=True)

    ports = ("-n", "istio-system", "get", "service", "istio-ingressgateway", "-o", "jsonpath={.spec.ports[*].port}")
    assert cluster.kubectl(*ports) == "15020 80 443 15443", cluster.kubectl(*ports)
    patch('{"spec":{"gateways":{"ingress":{"ports":[{"name":"http2","port":80,"protocol":"TCP","targetPort":8080}]}}}}')
    cluster.eventually(lambda: cluster.kubectl(*ports) == "80")
    labels = cluster.kubectl("-n", "istio-system", "get", "deployment", "istio-ingressgateway", "-o",
                             "jsonpath={.spec.template.metadata.labels.istio} {.spec.template.metadata.labels.gateway-name}")
    assert labels == "ingressgateway istio-ingressgateway", labels
    patch('{"spec":{"gateways":{"egress":{"enabled":false}}}}')
    cluster.eventually(lambda: not cluster.kubectl("-n", "istio-system", "get", "meshgateway", "istio-egressgateway"))
    cluster.eventually(lambda: not cluster.kubectl("-n", "istio-system", "get", "deployment", "istio-egressgateway"))
    patch('{"spec":{"gateways":{"egress":{"enabled":true}}}}')
    cluster.eventually(lambda: cluster.kubectl("-n", "istio-system", "get", "deployment", "istio-egressgateway"))
    config = cluster.kubectl("-n", "istio-system", "get", "configmap", "istio", "-o", "jsonpath={.data.mesh}")
    assert "mode: REGISTRY_ONLY" in config, config


def test_own_gateway_in_its_namespace(cluster):
    cluster.kubectl("apply", "-f", "-", stdin=GATEWAY % "edge", check=True)
    cluster.eventually(lambda: cluster.kubectl("-n", "default", "get", "deployment", "edge"))
    objects = json.loads(cluster.kubectl("-n", "default", "get", "deploy,svc,hpa,pdb", "-l", "gateway-name=edge,gateway-type=ingress",
                                         "-o", "json", check=True))
    assert sorted(o["kind"] for o in objects["items"]) == [
        "Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Service"], objects
    lines = cluster.kubectl("-n", "default", "get", "meshgateways", "edge", check=True).splitlines()
    assert lines[0].split("  ")[0] == "NAME" and "SERVICE TYPE" in lines[0] and "INGRESS IPS" in lines[0], lines


def test_scale_is_left_alone(cluster):
    cluster.kubectl("-n", "default", "scale", "deployment", "edge", "--replicas=0", check=True)
    cluster.kubectl("-n", "default", "annotate", "meshgateway", "edge", "touched=yes", check=True)
    time.sleep(1)  # the operator has reconciled by now; a wrong one would have reset the count
    replicas = cluster.kubectl("-n", "default", "get", "deployment", "edge", "-o", "jsonpath={.spec.replicas}")
    assert replicas == "0", replicas


def test_kill_nine_loses_nothing(cluster):
    for number in range(20):
        cluster.kubectl("apply", "-f", "-", stdin=GATEWAY % f"g{number}", check=True)
    cluster.api.kill()
    cluster.api.wait(10)
    cluster.start_api()
    names = cluster.kubectl("-n", "default", "get", "meshgateways", "-o", "name", check=True)
    for number in range(20):
        assert f"/g{number}\n" in names, names
    # The control plane reconnects by itself and takes up what comes.
    cluster.kubectl("apply", "-f", "-", stdin=GATEWAY % "late", check=True)
    cluster.eventually(lambda: cluster.kubectl("-n", "default", "get", "service", "late"), 40)


def test_deleting_the_mesh_removes_its_gateways_only(cluster):
    cluster.kubectl("-n", "istio-system", "delete", "istio", "mesh", "--timeout=20s", check=True)
    for kind in ("meshgateway", "deployment", "service", "hpa", "pdb", "role", "rolebinding"):
        cluster.eventually(lambda: "istio-ingressgateway" not in cluster.kubectl("-n", "istio-system", "get", kind, "-o", "name"))
    cluster.eventually(lambda: not cluster.kubectl("-n", "istio-system", "get", "configmap", "istio"))
    assert cluster.kubectl("-n", "default", "get", "deployment", "edge")
    cluster.kubectl("-n", "default", "delete", "meshgateway", "edge", "--timeout=20s", check=True)
    cluster.eventually(lambda: not cluster.kubectl("-n", "default", "get", "service", "edge"))


def test_schemas_refuse_wrong_types_and_unknown_fields(cluster):
    def error_of(kind, spec, group="networking.istio.io/v1beta1"):
        text = json.dumps({"apiVersion": group, "kind": kind, "metadata": {"name": "x", "namespace": "default"}, "spec": spec})
        environment = dict(os.environ, KUBECONFIG=cluster.kubeconfig, HOME=cluster.folder)
        done = subprocess.run((KUBECTL, "apply", "--dry-run=server", "-f", "-"), input=text, env=environment, text=True,
                              timeout=60, capture_output=True, check=False)
        return done.stderr if done.returncode else ""

    mesh = "istio.banzaicloud.io/v1beta1"
    port = {"number": 80, "name": "http", "protocol": "HTTP"}
    assert error_of("Gateway", {"servers": [{"port": port, "hosts": ["*"]}]}) == ""
    for kind, spec, path, group in (
            ("Gateway", {"servers": [{"port": dict(port, number="80"), "hosts": ["*"]}]}, "spec.servers[0].port.number", None),
            ("Gateway", {"servers": [{"port": port}]}, "spec.servers[0].hosts", None),
            ("Gateway", {"servers": [{"port": port, "hosts": ["*"], "hoosts": []}]}, "spec.servers[0].hoosts", None),
            ("VirtualService", {"hosts": ["a.b"], "http": [{"timeout": 5}]}, "spec.http[0].timeout", None),
            ("VirtualService", {"hosts": ["a.b"], "http": [{"redirect": {"port": 1, "derivePort": "FROM_REQUEST_PORT"}}]},
             "spec.http[0].redirect", None),
            ("ServiceEntry", {"hosts": ["a.b"], "resolution": "DSN"}, "spec.resolution", None),
            ("DestinationRule", {"host": "a.b", "subsets": [{"labels": {}}]}, "spec.subsets[0].name", None),
            ("Sidecar", {"egress": [{"port": {"number": 80}}]}, "spec.egress[0].hosts", None),
            ("MeshGateway", {"type": "both", "ports": [{"port": 80}]}, "spec.type", mesh),
            ("MeshGateway", {"type": "ingress", "ports": [{"port": 70000}]}, "spec.ports[0].port", mesh),
            ("Istio", {"outboundTrafficPolicy": {"mode": "SOME"}}, "spec.outboundTrafficPolicy.mode", mesh),
            ("Istio", {"proxxy": {}}, "spec.proxxy", mesh)):
        error = error_of(kind, spec, group or "networking.istio.io/v1beta1")
        # kubectl 1.20 finds some by itself, and names the field last: 'missing required field "hosts"'.
        field = path.rsplit(".", 1)[-1]
        assert path in error or ("ValidationError" in error and f'"{field}"' in error), (kind, spec, error)


def main():
    passed, failed = 0, 0
    cluster = Cluster()
    print(cluster.kubectl("version"), "uid", os.getuid())
    try:
        for name, test in list(globals().items()):
            if not name.startswith("test_"):
                continue
            try:
                test(cluster)
                passed += 1
                print("ok", name)
            except Exception as error:  # every failure is counted and shown
                failed += 1
                print("FAILED", name, repr(error))
        if failed:
            print(open(os.path.join(cluster.folder, "log"), errors="replace").read()[-8000:])
    finally:
        cluster.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
