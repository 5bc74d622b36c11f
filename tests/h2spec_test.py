#!/usr/bin/env python3
"""Our HTTP/2 server, and the proxy, judged by others' programs: h2spec (with --strict and without, over TLS and in clear), curl, nghttp
and h2load.

h2spec is built by Go into build/tools if it is not there. Ports are chosen by the kernel, files live in a temporary
folder, and every process started here is ended here.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

from side_by_side import certificates

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("POSTERN_BIN", os.path.join(ROOT, "bin"))
TOOLS = os.path.join(ROOT, "build", "tools")
H2SPEC = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible"
H2SPEC_TESTS = 145
H2SPEC_STRICT_TESTS = 146


def run(*command, stdin=None, seconds=120):
    return subprocess.run(command, input=stdin, timeout=seconds, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def h2spec_program():
    path = os.path.join(TOOLS, "h2spec")
    if os.path.exists(path):
        return path
    go = subprocess.run((os.path.join(ROOT, "tools/find_go.sh"), os.path.join(TOOLS, "go-toolchain")), stdout=subprocess.PIPE,
                        text=True, timeout=600, check=True).stdout.strip()
    os.makedirs(TOOLS, exist_ok=True)
    done = subprocess.run((go, "install", H2SPEC), env=dict(os.environ, GOBIN=TOOLS, GOFLAGS="-mod=mod"), timeout=600,
                          check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode()
    return path


class Servers:
    """The echo server three times: TLS, cleartext HTTP/2 only, cleartext by the first bytes."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="postern-h2spec-")
        self.processes = []
        self.tls = self.start("tls=localhost", "http2")
        self.http2 = self.start("http2")
        self.auto = self.start()
        self.proxy, self.proxy_tls = self.start_proxy()

    def start_proxy(self):
        """The proxy before the echo server, HTTP/2 to HTTP/1: its ports in clear and with TLS."""
        certificates.make(os.path.join(self.folder, "made"))
        pair = {"certificate_chain": {"filename": os.path.join(self.folder, "made", "server.crt")},
                "private_key": {"filename": os.path.join(self.folder, "made", "server.key")}}
        tls = {"name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {"tls_certificates": [pair], "alpn_protocols": ["h2"]}}}
        address = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}  # noqa: E731
        extension = "type.googleapis.com/envoy.extensions.filters."
        manager = {
            "@type": extension + "network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "in", "codec_type": "HTTP2",
            "http_filters": [{"name": "router", "typed_config": {"@type": extension + "http.router.v3.Router"}}],
            "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
                {"match": {"prefix": "/"}, "route": {"cluster": "echo"}}]}]}}
        chain = {"filters": [{"name": "h", "typed_config": manager}]}
        config = {"admin": {"address": address(0)}, "static_resources": {
            "listeners": [{"name": "clear", "address": address(0), "filter_chains": [chain]},
                          {"name": "tls", "address": address(0), "filter_chains": [{**chain, "transport_socket": tls}]}],
            "clusters": [{"name": "echo", "type": "STATIC", "load_assignment": {"cluster_name": "echo", "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": address(self.auto)}}]}]}}]}}
        path, admin = os.path.join(self.folder, "proxy.json"), os.path.join(self.folder, "admin")
        with open(path, "w", encoding="utf-8") as out:
            json.dump(config, out)
        self.processes.append(subprocess.Popen(
            (os.path.join(BIN, "postern-proxy"), "-c", path, "-l", "error", "--concurrency", "1", "--admin-address-path", admin,
             "--disable-hot-restart"), stdin=subprocess.DEVNULL))
        end = time.monotonic() + 20
        while not (os.path.exists(admin) and os.path.getsize(admin)):
            assert time.monotonic() < end, "the proxy did not start"
            time.sleep(0.02)
        with open(admin, encoding="utf-8") as file, urllib.request.urlopen(f"http://{file.read().strip()}/listeners?format=json") as answer:
            ports = {each["name"]: each["local_address"]["socket_address"]["port_value"] for each in json.load(answer)["listener_statuses"]}
        return ports["clear"], ports["tls"]

    def start(self, *arguments):
        process = subprocess.Popen((os.path.join(BIN, "postern-demo"), "echo", "0") + arguments, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.processes.append(process)
        return int(process.stderr.readline().decode().rsplit(":", 1)[1])

    def close(self):
        for process in self.processes:
            process.terminate()
            process.wait(10)
        shutil.rmtree(self.folder)


def h2spec(port, *arguments):
    text = run(h2spec_program(), "-h", "127.0.0.1", "-p", str(port), *arguments, seconds=600).stdout.decode()
    total = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", text)
    assert total, text[-2000:]
    failures = text[text.find("Failures:"):] if "Failures:" in text else ""
    tests = str(H2SPEC_STRICT_TESTS if "--strict" in arguments else H2SPEC_TESTS)
    assert total.groups() == (tests, tests, "0", "0"), total.group(0) + "\n" + failures


def test_h2spec_strict_over_tls(servers):
    h2spec(servers.tls, "--strict", "-t", "-k")


def test_h2spec_strict_over_cleartext(servers):
    h2spec(servers.http2, "--strict")


def test_h2spec_of_the_proxy(servers):
    h2spec(servers.proxy)


def test_h2spec_strict_of_the_proxy(servers):
    h2spec(servers.proxy, "--strict")


def test_h2spec_strict_of_the_proxy_over_tls(servers):
    h2spec(servers.proxy_tls, "--strict", "-t", "-k")


def curl(port, *arguments, scheme="http"):
    done = run("curl", "-sk", "-w", "\n%{http_version} %{http_code}", *arguments, f"{scheme}://127.0.0.1:{port}/path?q=1")
    body, status = done.stdout.decode().rsplit("\n", 1)
    assert "real path=/path?q=1" in body, done
    return status


def test_curl_gets_the_protocol_it_asks_for(servers):
    assert curl(servers.auto, "--http1.1") == "1.1 200"
    assert curl(servers.auto, "--http2-prior-knowledge") == "2 200"
    assert curl(servers.auto, "--http2") == "1.1 200"  # no upgrade: RFC 9113 dropped it
    assert curl(servers.tls, "--http2", scheme="https") == "2 200"
    assert curl(servers.tls, "--http1.1", scheme="https") == "1.1 200"


def test_curl_uploads_beyond_the_windows(servers):
    path = os.path.join(servers.folder, "upload")
    with open(path, "wb") as out:
        out.write(b"0123456789abcde\n" * 200_000)  # 3.2 MB
    for scheme, port in (("http", servers.auto), ("https", servers.tls)):
        done = run("curl", "-sk", "--http2" if scheme == "https" else "--http2-prior-knowledge", "--data-binary", "@" + path,
                   f"{scheme}://127.0.0.1:{port}/")
        assert done.stdout.count(b"0123456789abcde\n") == 200_000, len(done.stdout)


def test_nghttp_shares_one_connection(servers):
    done = run("nghttp", "-ns", *[f"https://127.0.0.1:{servers.tls}/{i}" for i in range(50)])
    rows = re.findall(r" 200 +\d+ /\d+$", done.stdout.decode(), re.MULTILINE)
    assert done.returncode == 0 and len(rows) == 50, done.stdout.decode()[-1000:]


def test_h2load_loses_nothing(servers):
    for url in (f"http://127.0.0.1:{servers.auto}/", f"https://127.0.0.1:{servers.tls}/"):
        done = run("h2load", "-n", "20000", "-c", "8", "-m", "100", url)
        text = done.stdout.decode()
        assert "20000 succeeded, 0 failed, 0 errored" in text and "20000 2xx" in text, text[-1000:]


def main():
    passed, failed = 0, 0
    servers = Servers()
    try:
        for name, test in list(globals().items()):
            if not name.startswith("test_"):
                continue
            try:
                test(servers)
                passed += 1
                print("ok", name)
            except Exception as error:  # every failure is counted and shown
                failed += 1
                print("FAILED", name, error)
    finally:
        servers.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
