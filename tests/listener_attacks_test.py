#!/usr/bin/env python3
"""What hostile clients can do to a listener before a request exists, each with the bound it is held to: slow PROXY headers and
TLS hellos, more connections than there are descriptors, connections that lead back to the proxy itself.

Runs in a network namespace of its own; every process started here is ended here.
"""
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

from attack_harness import waited_ms
from thread_server import ThreadServer

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.join(os.environ.get("POSTERN_BIN", os.path.join(ROOT, "bin")), "postern-proxy")
ADMIN, PLAIN, PROXIED, SNIFFED, CAPTURE, ORIGIN = 9901, 10000, 10001, 10002, 15001, 20000
TYPE = "type.googleapis.com/envoy."
SLOW_CLIENTS = 3000
TIMEOUT_SECONDS = 5


def enter_namespace():
    if not os.environ.get("POSTERN_IN_NETNS"):
        flags = "-n" if os.getuid() == 0 else "-rn"
        os.execvpe("unshare", ["unshare", flags, sys.executable, os.path.abspath(sys.argv[0])] + sys.argv[1:],
                   dict(os.environ, POSTERN_IN_NETNS="1"))
    subprocess.run(("ip", "link", "set", "lo", "up"), check=True)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def origin_says_ok(connection):
    """Answers every request line and keeps the connection."""
    while connection.recv(4096):
        connection.sendall(b"ok")


def typed(name, **fields):
    return {"name": name, "typed_config": {"@type": TYPE + name, **fields}}


def tcp_to(cluster):
    return {"filters": [typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="t", cluster=cluster)]}


def address(port, ip="127.0.0.1"):
    return {"socket_address": {"address": ip, "port_value": port}}


def listener(port, cluster="app", **more):
    return {"name": f"l{port}", "stat_prefix": f"l{port}", "address": address(port), "filter_chains": [tcp_to(cluster)],
            "listener_filters_timeout": f"{TIMEOUT_SECONDS}s", **more}


def bootstrap(cluster=None):
    filters = "extensions.filters.listener."
    return {
        "admin": {"address": address(ADMIN)},
        "static_resources": {
            "listeners": [
                listener(PLAIN),
                listener(PROXIED, listener_filters=[typed(filters + "proxy_protocol.v3.ProxyProtocol")]),
                listener(SNIFFED, listener_filters=[typed(filters + "tls_inspector.v3.TlsInspector")]),
                listener(CAPTURE, "original", address=address(CAPTURE, "0.0.0.0"), use_original_dst=True),
            ],
            "clusters": [
                {"name": "app", "connect_timeout": "5s", "circuit_breakers": {"thresholds": [{"max_connections": 100000}]},
                 "load_assignment": {"cluster_name": "app", "endpoints": [
                     {"lb_endpoints": [{"endpoint": {"address": address(ORIGIN)}}]}]}, **(cluster or {})},
                {"name": "original", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "1s",
                 "circuit_breakers": {"thresholds": [{"max_connections": 50}]}},
            ]}}


class Proxy:
    def __init__(self, descriptors=None):
        self.folder = tempfile.mkdtemp(prefix="postern-attacks-")
        path = os.path.join(self.folder, "bootstrap.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump(bootstrap(), file)

        def limit():
            if descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors // 2, descriptors))
        self.process = subprocess.Popen((PROGRAM, "-c", path, "--concurrency", "1", "--disable-hot-restart", "-l", "error"),
                                        stdin=subprocess.DEVNULL, preexec_fn=limit)
        deadline = time.monotonic() + 20
        while True:
            try:
                if self.admin("/ready").startswith("LIVE"):
                    return
            except OSError:
                pass
            assert self.process.poll() is None and time.monotonic() < deadline, "the proxy did not start"
            time.sleep(0.05)

    @staticmethod
    def admin(path):
        with urllib.request.urlopen(f"http://127.0.0.1:{ADMIN}{path}", timeout=5) as answer:
            return answer.read().decode()

    def stat(self, name):
        for line in self.admin("/stats").splitlines():
            found, _, value = line.rpartition(": ")
            if found == name:
                return int(value)
        return 0

    def memory(self):
        """RssAnon in bytes."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        shutil.rmtree(self.folder)


def connect(port, first=b"", ip="127.0.0.1"):
    connection = socket.create_connection((ip, port), timeout=5)
    try:
        connection.sendall(first)
    except OSError:
        pass  # it was refused: who reads will see it
    return connection


def ask(port=PLAIN, first=b""):
    """Seconds of a whole connection with one answer."""
    begin = time.monotonic()
    with connect(port, first + b"hello") as connection:
        assert connection.recv(16) == b"ok"
    return time.monotonic() - begin


def ended(connection, seconds=5):
    connection.settimeout(seconds)
    try:
        return connection.recv(16) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def wait_for(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def slow_clients(proxy, port, pieces, what):
    """Many clients send the beginning of something and then nothing. Others are served meanwhile, memory stays bounded, and
    all of them are gone after the timeout."""
    before = proxy.memory()
    begin, waited = time.monotonic(), waited_ms(proxy.process.pid) + waited_ms(os.getpid())
    slow = [connect(port, pieces) for _ in range(SLOW_CLIENTS)]
    assert wait_for(lambda: proxy.stat(f"listener.l{port}.downstream_pre_cx_active") > 0)
    times = sorted(ask() for _ in range(200))
    waited = (waited_ms(proxy.process.pid) + waited_ms(os.getpid()) - waited) / 1000  # for a processor
    held = proxy.stat(f"listener.l{port}.downstream_pre_cx_active")
    grown = proxy.memory() - before
    assert wait_for(lambda: proxy.stat(f"listener.l{port}.downstream_pre_cx_active") == 0, TIMEOUT_SECONDS + 10)
    took = time.monotonic() - begin
    assert all(ended(each) for each in slow[::100])
    for each in slow:
        each.close()
    print(f"    {what}: {SLOW_CLIENTS} slow clients ({held} at once), {grown // SLOW_CLIENTS} bytes each, "
          f"p99 of others {times[-2] * 1000:.1f} ms, all gone after {took:.1f} s (timeout {TIMEOUT_SECONDS} s)")
    assert grown < SLOW_CLIENTS * 4096, grown
    assert times[-2] < 0.5 + waited, (times[-5:], waited)  # starved is found, a busy machine is not
    assert proxy.stat(f"listener.l{port}.downstream_cx_total") == 0


def test_slow_proxy_header():
    proxy = Proxy()
    try:
        slow_clients(proxy, PROXIED, b"PROXY TCP4 10.0.0.1 ", "PROXY header, version 1")
        # The length field claims 64 KiB: what is held grows with what was sent.
        slow_clients(proxy, PROXIED, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff" + b"x" * 100, "PROXY header, version 2")
        assert ask(PROXIED, b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n") < 1
    finally:
        proxy.close()


def test_slow_client_hello():
    proxy = Proxy()
    try:
        slow_clients(proxy, SNIFFED, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "ClientHello")
    finally:
        proxy.close()


def test_more_connections_than_descriptors():
    """Clients cannot use up what origins, logs and the admin port need."""
    limit = 200
    proxy = Proxy(descriptors=limit)
    try:
        clients = []
        for _ in range(2 * limit):
            clients.append(connect(PLAIN, b"hello"))
        assert wait_for(lambda: proxy.stat("listener.l10000.downstream_global_cx_overflow") > 0)
        served, refused = [], 0
        for each in clients:
            each.settimeout(5)
            try:
                data = each.recv(16)
            except OSError:
                data = b""
            if data == b"ok":
                served.append(each)
            else:
                refused += 1
        used = len(os.listdir(f"/proc/{proxy.process.pid}/fd"))
        print(f"    {limit} descriptors: {len(served)} of {2 * limit} clients served, {refused} refused, {used} descriptors in "
              f"use, the admin port answers")
        assert served and refused and used < limit
        assert proxy.admin("/ready").startswith("LIVE")
        served[0].sendall(b"again")
        assert served[0].recv(16) == b"ok"
        for each in clients:
            each.close()
        assert wait_for(lambda: proxy.stat("server.total_connections") == 0)
        assert ask() < 1
    finally:
        proxy.close()


def test_capture_loop():
    """A connection addressed to the capturing listener itself, and one that is redirected to it again and again."""
    proxy = Proxy()
    try:
        begin = time.monotonic()
        assert ended(connect(CAPTURE, b"hello"))
        took = time.monotonic() - begin
        made = proxy.stat("cluster.original.upstream_cx_total")
        print(f"    addressed to itself: closed after {took * 1000:.1f} ms, {made} connections made")
        assert made == 0
        if shutil.which("nft"):
            subprocess.run(("nft", "-f", "-"), check=True, text=True, input=(
                "table ip loop {\n chain output {\n  type nat hook output priority -100;\n"
                "  ip daddr 127.9.9.9 tcp dport 80 redirect to :15001\n }\n}\n"))
            assert ended(connect(80, b"hello", "127.9.9.9"))
            assert wait_for(lambda: proxy.stat("cluster.original.upstream_cx_active") == 0)
            made = proxy.stat("cluster.original.upstream_cx_total")
            print(f"    redirected to itself: {made} connections made, the limit of the cluster is 50")
            assert made <= 50
        assert ask() < 1
    finally:
        proxy.close()


def main():
    enter_namespace()
    origin = ThreadServer(origin_says_ok, ORIGIN)
    passed, failed = 0, 0
    for name, test in list(globals().items()):
        if not name.startswith("test_"):
            continue
        try:
            test()
            passed += 1
            print("ok", name)
        except Exception as error:  # every failure is counted and shown
            failed += 1
            print("FAILED", name, repr(error))
    origin.close()
    print(f"{passed} passed, {failed} failed")
    sys.stdout.flush()
    os._exit(1 if failed else 0)  # the origin's threads may still wait


main()
