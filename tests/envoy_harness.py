"""One network namespace with an API server, the control plane, origins and Envoys: what envoy_accepts_test.py asks.

Pods are addresses of the loopback device; nftables redirects what the addresses of "sidecar pods" send and receive to
Envoy, as in a real pod.
"""
import base64
import glob
import http.server
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("POSTERN_BIN", os.path.join(ROOT, "bin"))
KUBECTL = os.environ.get("KUBECTL", "kubectl")
ENVOY = os.environ.get("ENVOY") or next(iter(glob.glob(os.path.join(ROOT, "build/venv/lib/*/site-packages/envoy/_bin/envoy"))), "")

APP, FRONT, INGRESS, EGRESS, SECOND, ORIGIN, OTHER, CLIENT = (
    "10.1.0.5", "10.1.0.6", "10.1.0.7", "10.1.0.9", "10.1.0.10", "198.18.0.1", "198.18.0.2", "10.1.0.20")
ADMIN = {"sidecar": 19000, "ingress": 19001, "egress": 19002}
STRANGER = 19003
LOCAL_XDS = 15010
TOKEN_XDS = 15012
MONITORING = 15014
WEBHOOK = 15017


def enter_namespace():
    if os.environ.get("POSTERN_IN_NETNS"):
        return
    flags = "-nm" if os.getuid() == 0 else "-rnm"
    os.execvpe("unshare", ["unshare", flags, sys.executable, os.path.abspath(sys.argv[0])] + sys.argv[1:],
               dict(os.environ, POSTERN_IN_NETNS="1"))


def prepare_namespace(folder):
    run = lambda *a, **k: subprocess.run(a, check=True, **k)
    run("ip", "link", "set", "lo", "up")
    for address in (APP, FRONT, INGRESS, EGRESS, SECOND, ORIGIN, OTHER, CLIENT):
        run("ip", "addr", "add", address + "/32", "dev", "lo")
    # Service addresses are only reached through Envoy: the route makes them local, nobody listens there.
    run("ip", "route", "add", "local", "10.96.0.0/16", "dev", "lo")
    rules = f"""
table ip capture {{
  chain output {{
    type nat hook output priority -100;
    ip saddr {APP} ip daddr != {APP} tcp dport != {{ 15001, 15006 }} redirect to :15001
    ip daddr {APP} ip saddr != 127.0.0.6 tcp dport != {{ 15001, 15006 }} redirect to :15006
  }}
}}
"""
    run("nft", "-f", "-", input=rules, text=True)
    hosts = os.path.join(folder, "hosts")
    with open(hosts, "w", encoding="ascii") as file:
        file.write(f"127.0.0.1 localhost\n{ORIGIN} httpbin.org\n{OTHER} other.org\n")
    run("mount", "--bind", hosts, "/etc/hosts")


class Origin(http.server.BaseHTTPRequestHandler):
    """Says who it is and what it was sent."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        body = json.dumps({"server": self.server.label, "path": self.path,
                           "headers": {k.lower(): v for k, v in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def http_origin(label, address, port, tls=None):
    class Threaded(http.server.ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET
    server = Threaded((address, port), Origin)
    server.label, server.requests = label, []
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def tcp_origin(label, address, port):
    listener = socket.create_server((address, port))

    def serve():
        while True:
            connection, _ = listener.accept()
            connection.sendall(label.encode() + b"\n")
            connection.close()
    threading.Thread(target=serve, daemon=True).start()


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:200]!r}"

    @property
    def json(self):
        return json.loads(self.body)


def get(address, port, host, path="/", source=CLIENT, headers=(), sni=None):
    """One GET from a source address; None when the connection was cut off."""
    try:
        raw = socket.create_connection((address, port), timeout=10, source_address=(source, 0))
        if sni:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            raw = context.wrap_socket(raw, server_hostname=sni)
        with raw as connection:
            lines = [f"GET {path} HTTP/1.1", f"host: {host}", "connection: close"] + [f"{k}: {v}" for k, v in headers]
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            data = b""
            while piece := connection.recv(65536):
                data += piece
    except OSError:
        return None
    if not data:
        return None
    head, _, body = data.partition(b"\r\n\r\n")
    status, *fields = head.decode("latin1").split("\r\n")
    return Answer(int(status.split()[1]), {k.lower(): v.strip() for k, v in (f.split(":", 1) for f in fields)}, body)


def tcp(address, port, source=CLIENT):
    try:
        with socket.create_connection((address, port), timeout=5, source_address=(source, 0)) as connection:
            return connection.recv(100).decode().strip()
    except OSError:
        return None


def eventually(question, seconds=15, what=""):
    end = time.monotonic() + seconds
    answer = None
    while time.monotonic() < end:
        answer = question()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"did not come true in time: {what} {answer!r}")


class Cluster:
    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="postern-envoy-")
        os.chmod(self.folder, 0o755)
        prepare_namespace(self.folder)
        self.kubeconfig = os.path.join(self.folder, "kubeconfig")
        self.processes = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.start("api", os.path.join(BIN, "postern"), "apiserver", "--data-dir", os.path.join(self.folder, "data"),
                   "--listen", f"127.0.0.1:{port}", "--kubeconfig", self.kubeconfig)
        eventually(lambda: self.kubectl("get", "--raw", "/readyz") == "ok")
        self.apply_file(os.path.join(ROOT, "deploy/crds"))
        self.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: istio-system}\n")
        self.start("control", os.path.join(BIN, "postern-control"), "--kubeconfig", self.kubeconfig,
                   "--webhook-address", f"127.0.0.1:{WEBHOOK}")
        eventually(lambda: self.kubectl("get", "validatingwebhookconfiguration", "istio-validator-istio-system"))
        self.webhooks_by_url()
        eventually(lambda: get("127.0.0.1", MONITORING, "x", "/ready", source="127.0.0.1").status == 200)

    def webhooks_by_url(self):
        """No pod runs behind Service istiod here: the same webhooks, reached by address."""
        kind = "validatingwebhookconfiguration"
        object_ = json.loads(self.kubectl("get", kind, "istio-validator-istio-system", "-o", "json"))
        for webhook in object_["webhooks"]:
            webhook["clientConfig"] = {"url": f"https://127.0.0.1:{WEBHOOK}/validate",
                                       "caBundle": webhook["clientConfig"]["caBundle"]}
        self.kubectl("replace", "-f", "-", stdin=json.dumps(object_), check=True)
        self.kubectl("delete", "mutatingwebhookconfiguration", "--all", check=True)

    def start(self, name, *arguments):
        log = open(os.path.join(self.folder, name + ".log"), "ab")
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def log(self, name):
        with open(os.path.join(self.folder, name + ".log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def run(self, *arguments, stdin=None):
        environment = dict(os.environ, KUBECONFIG=self.kubeconfig, HOME=self.folder)
        return subprocess.run((KUBECTL,) + arguments, input=stdin, env=environment, text=True, timeout=60,
                              capture_output=True, check=False)

    def kubectl(self, *arguments, stdin=None, check=False):
        done = self.run(*arguments, stdin=stdin)
        if check and done.returncode != 0:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}")
        return done.stdout if done.returncode == 0 else None

    def apply(self, text):
        return self.kubectl("apply", "-f", "-", stdin=text, check=True)

    def apply_file(self, path):
        return self.kubectl("apply", "-f", path, check=True)

    def delete(self, *names, ns="default"):
        self.kubectl("-n", ns, "delete", *names, check=True)

    def pod(self, name, ip, labels, ns="default", account="default"):
        self.apply(json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": ns, "labels": labels},
                               "spec": {"nodeName": "test", "serviceAccountName": account, "containers": [{"name": "c", "image": "none"}]}}))
        status = {"status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
                             "conditions": [{"type": "Ready", "status": "True"}]}}
        self.patch_status(f"/api/v1/namespaces/{ns}/pods/{name}/status", status)

    def patch_status(self, path, body):
        """As the kubelet does; an old kubectl cannot write the status subresource."""
        view = json.loads(self.kubectl("config", "view", "--raw", "-o", "json", check=True))
        user, cluster = view["users"][0]["user"], view["clusters"][0]["cluster"]
        context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        with tempfile.NamedTemporaryFile("wb") as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]) + b"\n" + base64.b64decode(user["client-key-data"]))
            pair.flush()
            context.load_cert_chain(pair.name)
        request = urllib.request.Request(cluster["server"] + path, json.dumps(body).encode(), method="PATCH",
                                         headers={"Content-Type": "application/merge-patch+json"})
        urllib.request.urlopen(request, timeout=10, context=context).read()

    def service(self, name, labels, *ports, ns="default"):
        self.apply(json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": ns},
                               "spec": {"selector": labels,
                                        "ports": [{"name": n, "port": p, "targetPort": t} for n, p, t in ports]}}))
        return self.kubectl("-n", ns, "get", "service", name, "-o", "jsonpath={.spec.clusterIP}", check=True)

    def token(self, account, ns="default", audience="istio-ca", pod=None):
        spec = {"audiences": [audience], "expirationSeconds": 3600}
        if pod:
            spec["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": pod,
                                      "uid": self.kubectl("-n", ns, "get", "pod", pod, "-o", "jsonpath={.metadata.uid}")}
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self.kubectl("create", "--raw", f"/api/v1/namespaces/{ns}/serviceaccounts/{account}/token", "-f", "-",
                              stdin=json.dumps(request), check=True)
        return json.loads(answer)["status"]["token"]

    def envoy(self, name, node, api_type, token=None):
        """With a token: over TLS, as the agent of a pod does it; the server's name and root are verified."""
        cluster = {"name": "xds-grpc", "type": "STATIC",
                   "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                       "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                       "explicit_http_config": {"http2_protocol_options": {}}}},
                   "load_assignment": {"cluster_name": "xds-grpc", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {
                       "socket_address": {"address": "127.0.0.1", "port_value": TOKEN_XDS if token else LOCAL_XDS}}}}]}]}}
        service = {"envoy_grpc": {"cluster_name": "xds-grpc"}}
        if token:
            root = self.kubectl("get", "configmap", "istio-ca-root-cert", "-o", "jsonpath={.data.root-cert\\.pem}", check=True)
            service = {"envoy_grpc": {"cluster_name": "xds-grpc"},
                       "initial_metadata": [{"key": "authorization", "value": "Bearer " + token}]}
            cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                "sni": "istiod.istio-system.svc",
                "common_tls_context": {"alpn_protocols": ["h2"], "validation_context": {
                    "trusted_ca": {"inline_string": root}, "match_typed_subject_alt_names": [
                        {"san_type": "DNS", "matcher": {"exact": "istiod.istio-system.svc"}}]}}}}
        bootstrap = {
            "node": {"id": node, "cluster": name, "metadata": {"NAMESPACE": node.split("~")[2].split(".")[-1]}},
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": ADMIN.get(name, STRANGER)}}},
            "dynamic_resources": {
                "ads_config": {"api_type": api_type, "transport_api_version": "V3",
                               "grpc_services": [service]},
                "lds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
                "cds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}},
            "static_resources": {"clusters": [cluster]}}
        path = os.path.join(self.folder, name + ".json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(bootstrap, file)
        process = self.start(name, ENVOY, "-c", path, "--concurrency", "1", "--file-flush-interval-msec", "50",
                             "-l", "warning", "--disable-hot-restart")
        if name not in ADMIN:
            return process
        eventually(lambda: (a := self.admin(name, "/ready")) and a.status == 200, 30, name + " is not live")
        return process

    @staticmethod
    def admin(name, path):
        return get("127.0.0.1", ADMIN[name], "x", path, source="127.0.0.1")

    def stats(self, name, text):
        body = self.admin(name, "/stats?filter=" + text).body
        raw = b"".join(body.split(b"\r\n")[1::2]) if b"\r\n" in body else body
        return {k: int(v) for k, v in (line.split(": ") for line in raw.decode().splitlines() if ": " in line) if v.isdigit()}

    def refusals(self):
        found = []
        for name in ADMIN:
            found += [f"{name} {k}={v}" for k, v in self.stats(name, "update_rejected|listener_create_failure").items() if v]
        return found

    def close(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
        subprocess.run(["umount", "/etc/hosts"], check=False)
        shutil.rmtree(self.folder)
