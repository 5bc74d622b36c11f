#!/usr/bin/env python3
"""Attacks on HTTP/2 against the real proxy. Each prints what it cost: memory, time, p99 of a client that behaves, at the same moment.

Peers and origin are scripted frame by frame (h2_raw.py). The proxy runs with one worker; ports are the kernel's choice, every loop is
bounded, and every process started here is ended here.
"""
import json
import multiprocessing
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import h2_raw as h2  # noqa: E402
from attack_harness import bound_ms, percentile_99, waited_ms  # noqa: E402
from thread_server import ThreadServer  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("POSTERN_BIN", os.path.join(ROOT, "bin"))
MB = 1024 * 1024
# What the kernel keeps of a connection, each way: so what a client could send says what the proxy read, give or take four of these
# (the kernel doubles what it is asked for, at both ends).
KERNEL_BYTES = 64 * 1024
LINGER_BYTES = MB  # of a client that goes on after GOAWAY, the proxy reads and drops so much


class Origin(ThreadServer):
    """HTTP/1 origin: answers by path, keeps what it saw."""

    def __init__(self):
        self.seen = []
        super().__init__(timeout=30)

    def serve(self, connection):
        buffer = b""
        while True:
            while b"\r\n\r\n" not in buffer:
                got = connection.recv(65536)
                if not got:
                    return
                buffer += got
            head, buffer = buffer.split(b"\r\n\r\n", 1)
            record = {"head": head + b"\r\n\r\n", "extra": b""}
            self.seen.append(record)
            path = head.split(b" ")[1].decode("latin-1")
            if path.startswith("/early"):
                record["rest"] = buffer  # all that follows is this request's body: nothing else may come
                connection.sendall(b"HTTP/1.1 401 no\r\ncontent-length: 2\r\n\r\nno")
                while True:
                    got = connection.recv(65536)
                    if not got:
                        return
                    record["rest"] += got
            if path.startswith("/tunnel"):
                time.sleep(0.3)  # what comes meanwhile must not be here
                connection.settimeout(0.05)
                try:
                    record["extra"] = buffer + connection.recv(65536)
                except TimeoutError:
                    record["extra"] = buffer
                connection.settimeout(30)
                if path == "/tunnel/no":
                    connection.sendall(b"HTTP/1.1 403 no\r\ncontent-length: 0\r\n\r\n")
                    return
                connection.sendall(b"HTTP/1.1 101 go\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
                while True:
                    got = connection.recv(65536)
                    if not got:
                        return
                    connection.sendall(got)
            length = re.search(rb"content-length: (\d+)", head)
            want = int(length.group(1)) if length else 0
            if b"transfer-encoding: chunked" in head:
                while not buffer.endswith(b"0\r\n\r\n"):
                    got = connection.recv(65536)
                    if not got:
                        return
                    buffer += got
                record["body"], buffer = buffer, b""
            while len(buffer) < want:
                got = connection.recv(65536)
                if not got:
                    return
                buffer += got
            if want:
                record["body"], buffer = buffer[:want], buffer[want:]
            if path.startswith("/hang"):
                connection.recv(1)
                return
            body = b"x" * int(path.split("/")[2]) if path.startswith("/bytes/") else b"ok"
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


def bootstrap(origin_port, admin_path):
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "in", "request_headers_timeout": "1s", "common_http_protocol_options": {"idle_timeout": "3s"}, "request_timeout": "2s", "stream_idle_timeout": "2s",
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http2_protocol_options": {"allow_connect": True, "max_concurrent_streams": 100},
        "http_filters": [{"name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
            {"match": {"prefix": "/direct"}, "direct_response": {"status": 200, "body": {"inline_string": "direct"}}},
            {"match": {"prefix": "/"}, "route": {"cluster": "origin", "timeout": "0s"}}]}]}}
    address = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    return {
        "admin": {"address": address},
        "static_resources": {
            "listeners": [{"name": "in", "address": address, "socket_options": [
                {"level": socket.SOL_SOCKET, "name": socket.SO_RCVBUF, "int_value": KERNEL_BYTES, "state": "STATE_PREBIND"}], "filter_chains": [{"filters": [{"name": "h", "typed_config": manager}]}]}],
            "clusters": [{"name": "origin", "type": "STATIC", "connect_timeout": "2s",
                          "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": [{"endpoint": {
                              "address": {"socket_address": {"address": "127.0.0.1", "port_value": origin_port}}}}]}]}}]}}


class Proxy:
    def __init__(self, origin_port):
        self.folder = tempfile.mkdtemp(prefix="postern-attacks-")
        admin_path = os.path.join(self.folder, "admin")
        config = os.path.join(self.folder, "config.json")
        with open(config, "w", encoding="utf-8") as out:
            json.dump(bootstrap(origin_port, admin_path), out)
        self.errors = open(os.path.join(self.folder, "stderr"), "w", encoding="utf-8")
        self.process = subprocess.Popen(
            (os.path.join(BIN, "postern-proxy"), "-c", config, "--concurrency", "1", "-l", "error", "--admin-address-path", admin_path,
             "--disable-hot-restart"), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.errors)
        end = time.monotonic() + 20
        while not (os.path.exists(admin_path) and os.path.getsize(admin_path)):
            assert self.process.poll() is None and time.monotonic() < end, "the proxy did not start"
            time.sleep(0.02)
        with open(admin_path, encoding="utf-8") as path:
            self.admin = path.read().strip()
        listeners = json.loads(self.ask("/listeners?format=json"))
        self.port = listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"]

    def ask(self, path):
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=10) as answer:
            return answer.read().decode()

    def stat(self, name):
        found = re.search(rf"^{re.escape(name)}: (\d+)$", self.ask("/stats?filter=" + re.escape(name)), re.MULTILINE)
        return int(found.group(1)) if found else 0

    def rss(self):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as status:
            return int(re.search(r"VmRSS:\s+(\d+)", status.read()).group(1)) * 1024

    def cpu(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        alive = self.process.poll() is None
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.errors.close()
        shutil.rmtree(self.folder)
        return alive


def behave(port, stop, out):
    """A client that asks every 5 ms and keeps the times."""
    times, overslept, bad = [], [], 0
    client = None
    stream = 1
    while not stop.is_set():
        begin = time.monotonic()
        try:
            if client is None or stream > 2000:
                client, stream = h2.Client(port), 1
            client.send(h2.headers(stream, h2.request("/direct/well")))
            bad += not client.wait(lambda: client.over(stream), 5.0) or client.statuses.get(stream) != 200
            stream += 2
        except OSError:
            bad, client = bad + 1, None
        end = time.monotonic()
        times.append((end - begin) * 1000)
        time.sleep(0.005)
        overslept.append(time.monotonic() - end - 0.005)
    out.put((len(times), bad, percentile_99(times), bound_ms(overslept)))


class Measured:
    """What happens to the process and to a client that behaves, while the body of `with` runs."""

    def __init__(self, proxy, name):
        self.proxy, self.name, self.note = proxy, name, ""

    def __enter__(self):
        self.stop, self.out = multiprocessing.Event(), multiprocessing.Queue()
        self.client = multiprocessing.Process(target=behave, args=(self.proxy.port, self.stop, self.out), daemon=True)
        self.client.start()
        time.sleep(0.1)
        self.waited = waited_ms(self.proxy.process.pid)
        self.rss, self.cpu, self.begin, self.most = self.proxy.rss(), self.proxy.cpu(), time.monotonic(), 0
        return self

    def sample(self):
        self.most = max(self.most, self.proxy.rss() - self.rss)

    def __exit__(self, kind, *_):
        self.sample()
        took, cpu = time.monotonic() - self.begin, self.proxy.cpu() - self.cpu
        time.sleep(0.1)
        self.stop.set()
        count, bad, p99, bound = self.out.get(timeout=15)
        if self.proxy.process.poll() is None:
            bound += waited_ms(self.proxy.process.pid) - self.waited
        self.client.join(5)
        print(f"{self.name}: {self.most / MB:.1f} MB more, {took:.1f} s, {cpu:.2f} s of CPU, well-behaved client: {count} requests, "
              f"{bad} failed, p99 {p99:.1f} ms{', ' if self.note else ''}{self.note}", flush=True)
        if kind is None:
            assert self.proxy.process.poll() is None, "the proxy died"
            assert bad == 0, f"{bad} requests of the well-behaved client failed"
            assert p99 < bound, f"p99 {p99} ms, bound {bound} ms"


def flood(port, first, repeat, seconds=1.0, most=64 * MB, read=True, **wanted):
    """Sends `repeat(i)` until the proxy ends the connection. Bytes that were sent, of which the proxy read all but 4 * KERNEL_BYTES; the
    client, which has read all that the proxy said."""
    client = h2.Client(port, unsent_max=KERNEL_BYTES, **wanted)
    client.socket.settimeout(seconds)
    sent, i = 0, 0
    client.send(first)
    end = time.monotonic() + seconds
    while not client.closed and sent < most and time.monotonic() < end:
        chunk = repeat(i)
        i += 1
        if not client.send(chunk):
            break
        sent += len(chunk)
        if read:
            client.read_once(0.0001)
    client.wait(lambda: client.closed, 5.0)
    client.close()
    return sent, client


# ---- resets (12, 13) ----

def test_rapid_reset(proxy, _):
    def attack(stop, out):
        sent = connections = 0
        while not stop.is_set():
            try:
                client = h2.Client(proxy.port)
                connections += 1
                for begin in range(1, 20001, 200):
                    chunk = b"".join(h2.headers(i, h2.request("/hang")) + h2.reset(i) for i in range(begin, begin + 200, 2))
                    if not client.send(chunk) or stop.is_set():
                        break
                    sent += 100
                client.close()
            except OSError:
                pass
        out.put((sent, connections))

    with Measured(proxy, "rapid reset, as fast as a process can send") as measured:
        stop, out = multiprocessing.Event(), multiprocessing.Queue()
        attacker = multiprocessing.Process(target=attack, args=(stop, out), daemon=True)
        attacker.start()
        for _ in range(20):
            time.sleep(0.1)
            measured.sample()
        stop.set()
        sent, connections = out.get(timeout=10)
        attacker.join(5)
        measured.note = f"{sent} streams on {connections} connections"
    assert measured.most < 32 * MB
    # One connection: the budget is 200 resets.
    sent, client = flood(proxy.port, b"", lambda i: h2.headers(2 * i + 1, h2.request("/hang")) + h2.reset(2 * i + 1))
    assert client.closed and client.goaway == h2.CALM, (client.closed, client.goaway)


def test_made_you_reset(proxy, _):
    ask = lambda i, end=True: h2.headers(2 * i + 1, h2.request("/hang"), end)  # noqa: E731
    ways = {
        "WINDOW_UPDATE of 0": lambda i: ask(i) + h2.window(2 * i + 1, 0),
        "window overflow": lambda i: ask(i) + h2.window(2 * i + 1, 0x7fffffff),
        "DATA after the end": lambda i: ask(i) + h2.data(2 * i + 1, b"x"),
        "PRIORITY on itself": lambda i: ask(i) + h2.frame(h2.PRIORITY, 0, 2 * i + 1, struct.pack(">IB", 2 * i + 1, 1)),
        "PRIORITY too short": lambda i: ask(i) + h2.frame(h2.PRIORITY, 0, 2 * i + 1, b"123"),
        "more than content-length": lambda i: h2.headers(2 * i + 1, h2.request("/hang", "POST", more=[("content-length", "1")]), False)
        + h2.data(2 * i + 1, b"xx"),
    }
    with Measured(proxy, "MadeYouReset, six ways") as measured:
        for name, one in ways.items():
            count = []
            sent, client = flood(proxy.port, b"", lambda i, one=one: (count.append(i), one(i))[1], 3.0)
            measured.sample()
            assert client.closed and client.goaway not in (None, h2.NO_ERROR), (name, client.closed, client.goaway)
            assert len(client.resets) <= 210, (name, len(client.resets))
    assert measured.most < 16 * MB


# ---- header blocks (14, 15) ----

def test_continuation_flood(proxy, _):
    with Measured(proxy, "CONTINUATION without end") as measured:
        start = h2.headers(1, h2.request("/"), more=True)
        part = h2.literal("x-a", "b" * 1000)
        sent, client = flood(proxy.port, start, lambda i: h2.frame(h2.CONTINUATION, 0, 1, part), 3.0, read=False)
        assert client.closed and client.goaway == h2.CALM, (client.closed, client.goaway)
        empty, client = flood(proxy.port, start, lambda i: h2.frame(h2.CONTINUATION, 0, 1), 3.0, read=False)
        assert client.closed and client.goaway == h2.CALM, (client.closed, client.goaway)
        measured.note = f"closed within {sent} bytes, {empty} bytes of empty frames"
    # The limit of a header block, two reads of 64 KiB at most, and what is dropped while the client does not hear.
    most = 60 * 1024 + 2 * 64 * 1024 + LINGER_BYTES + 64 * 1024 + 4 * KERNEL_BYTES
    assert sent < most and empty < most and measured.most < 4 * MB, (sent, empty, most, measured.most)


def bomb(port, connections, block_of):
    """Connections of 100 unfinished requests each, their windows shut."""
    clients = []
    for _ in range(connections):
        client = h2.Client(port, window=0)
        client.send(b"".join(h2.headers(2 * i + 1, block_of(i), end=False) for i in range(100)))
        clients.append(client)
    return clients


def test_hpack_bomb(proxy, _):
    value = "v" * 4000
    first = h2.request("/hang", "POST") + h2.literal("x-bomb", value, indexed=True)
    again = h2.request("/hang", "POST") + b"\xbe" * 13  # one byte each, 4 KB decoded
    overs = h2.request("/hang", "POST") + b"\xbe" * 15000
    small = h2.request("/hang", "POST") + b"\xbe" * 90
    shapes = {
        "13 references of 4 KB": lambda i: first if i == 0 else again,
        "15,000 references of 4 KB": lambda i: first if i == 0 else overs,
        "90 references of 600 B": lambda i: h2.request("/hang", "POST") + h2.literal("x-bomb", value[:600], indexed=True)
        if i == 0 else small,
        "90 cookie crumbs": lambda i: h2.request("/hang", "POST") + h2.literal("cookie", value[:600], indexed=True) if i == 0 else small,
        "empty fields": lambda i: h2.request("/hang", "POST") + h2.literal("a", "") * 95,
    }
    for name, shape in shapes.items():
        with Measured(proxy, f"HTTP/2 bomb, 100 connections of 100 requests, {name}") as measured:
            clients = bomb(proxy.port, 100, shape)
            for _ in range(8):
                time.sleep(0.1)
                measured.sample()
            for client in clients:
                client.close()
            time.sleep(0.2)
        assert measured.most < 64 * MB, f"{name}: {measured.most / MB:.1f} MB"


# ---- windows (16) ----

def test_windows_that_stay_shut(proxy, _):
    # Answers too short for the bound of what is unsent: each may hold little more than its bytes. Windows of one byte,
    # so that a piece of the body waits and not the whole answer.
    for size in (20, 600, 2100):
        with Measured(proxy, f"5,000 answers of {size} B that nobody takes, windows of 1 byte") as measured:
            clients = []
            for _ in range(50):
                client = h2.Client(proxy.port, window=1)
                client.send(b"".join(h2.headers(2 * i + 1, h2.request(f"/bytes/{size}")) for i in range(100)))
                clients.append(client)
            for _ in range(8):
                time.sleep(0.2)
                measured.sample()
            for client in clients:
                client.close()
            time.sleep(0.2)
        assert measured.most < 45 * MB, f"{size} B: {measured.most / MB:.1f} MB"
    with Measured(proxy, "1,000 answers of 1 MB that nobody takes, windows of 1 byte") as measured:
        clients = []
        for _ in range(10):
            client = h2.Client(proxy.port, window=1)
            client.send(b"".join(h2.headers(2 * i + 1, h2.request("/bytes/1000000")) for i in range(100)))
            clients.append(client)
        for step in range(10):
            time.sleep(0.1)
            measured.sample()
            for client in clients:
                client.send(h2.window(1, 1))
        for client in clients:
            client.close()
    # Of each answer one piece of 64 KB and 8 KB that wait for the client, and what was read of the origin meanwhile, 64 KB in one read; how
    # full they are depends on the moment: less than 110 and 150 MB were seen of one program.
    assert measured.most < 180 * MB
    # A stream that does not move ends by stream_idle_timeout.
    client = h2.Client(proxy.port, window=0)
    client.send(h2.headers(1, h2.request("/bytes/1000000")))
    assert client.wait(lambda: 1 in client.resets, 5.0)


# ---- control frames (17) ----

def test_floods_of_control_frames(proxy, _):
    ping = h2.frame(h2.PING, 0, 0, b"12345678") * 50
    ways = {
        "PING": lambda i: ping,
        "SETTINGS": lambda i: h2.settings(window=65535) * 50,
        "PRIORITY": lambda i: h2.frame(h2.PRIORITY, 0, 3, struct.pack(">IB", 1, 1)) * 50,
        "empty DATA": lambda i: h2.data(1, b"", end=False) * 50,
        "WINDOW_UPDATE": lambda i: h2.window(0, 1) * 50,
        "RST_STREAM": lambda i: h2.reset(1) * 50,
        "unknown frames": lambda i: h2.frame(0x42, 0, 0) * 50,
    }
    notes = []
    with Measured(proxy, "floods of control frames") as measured:
        for name, one in ways.items():
            first = h2.headers(1, h2.request("/hang", "POST"), end=False)
            sent, client = flood(proxy.port, first, one, 3.0)
            measured.sample()
            notes.append(f"{name} {sent // 1024} KB")
            assert client.closed and client.goaway == h2.CALM, (name, client.closed, client.goaway)
            assert sent < 2 * MB, (name, sent)
        # Nobody reads the answers: what waits for the peer is bounded too.
        sent, client = flood(proxy.port, b"", lambda i: ping, 3.0, read=False)
        assert client.closed and sent < 4 * MB, (client.closed, sent)
        measured.note = "closed after " + ", ".join(notes)
    assert measured.most < 8 * MB


# ---- slowness (18) ----

def test_slow_clients(proxy, _):
    with Measured(proxy, "900 clients that send slowly or not at all") as measured:
        clients = []
        for i in range(900):
            client = h2.Client(proxy.port, start=False)
            if i % 3 == 1:
                client.send(h2.PREFACE[:10])
            elif i % 3 == 2:
                client.send(h2.PREFACE + h2.settings() + h2.headers(1, h2.request("/direct"))[:12])
            clients.append(client)
        slow = h2.Client(proxy.port)
        slow.send(h2.headers(1, h2.request("/slow", "POST"), end=False))
        for _ in range(26):
            slow.send(h2.data(1, b"x", end=False))
            slow.read_once(0.1)
            measured.sample()
        begin, waited = time.monotonic(), waited_ms(proxy.process.pid) + waited_ms(os.getpid())
        for client in clients:
            client.wait(lambda: client.closed, 3.0)
        measured.note = f"{sum(c.closed for c in clients)} closed"
        assert all(client.closed for client in clients), f"{sum(not c.closed for c in clients)} live on"
        assert time.monotonic() - begin < 10 + (waited_ms(proxy.process.pid) + waited_ms(os.getpid()) - waited) / 1000
        assert slow.statuses.get(1) == 408, slow.statuses
    assert measured.most < 32 * MB


# ---- conversion (4, 5, 6) ----

def refused(proxy, origin, payload, data=b""):
    """True when the request was not answered 2xx and the origin saw nothing of it."""
    before = len(origin.seen)
    client = h2.Client(proxy.port)
    client.send(payload + data)
    client.wait(lambda: client.over(1), 3.0)
    ok = client.statuses.get(1, 0) < 200 or client.statuses.get(1) >= 400
    client.close()
    return ok and len(origin.seen) == before


def test_no_byte_turns_a_request_into_two(proxy, origin):
    evil = [0, 1, 9, 10, 11, 13, 31, 32, 127]
    inject = b"\r\nx-evil: 1\r\n\r\nGET /evil HTTP/1.1\r\nhost: a\r\n\r\n"
    fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a"), (b"x-a", b"b")]
    count = 0
    with Measured(proxy, "illegal bytes in every field") as measured:
        for place in range(len(fields)):
            for part in (0, 1):
                for what in [bytes([byte]) for byte in evil] + [inject]:
                    changed = list(fields)
                    name, value = changed[place]
                    changed[place] = (name + what, value) if part == 0 else (name, value[:1] + what + value[1:] + b"z")
                    if place == 4 and part == 1 and what in (b"\t", b" "):
                        continue  # inside a value both are allowed
                    count += 1
                    assert refused(proxy, origin, h2.headers(1, h2.block(changed))), changed
        measured.note = f"{count} requests"


def test_messages_that_contradict_themselves(proxy, origin):
    post = lambda *more: h2.headers(1, h2.request("/", "POST", more=more), end=False)  # noqa: E731
    get = lambda *more, **kw: h2.headers(1, h2.request(more=more, **kw))  # noqa: E731
    cases = {
        "more than content-length": (post(("content-length", "2")), h2.data(1, b"xxx")),
        "less than content-length": (post(("content-length", "9")), h2.data(1, b"xxx")),
        "two content-lengths": (post(("content-length", "3"), ("content-length", "4")), h2.data(1, b"xxx")),
        "signed content-length": (post(("content-length", "+3")), h2.data(1, b"xxx")),
        "content-length and no body": (get(("content-length", "5")), b""),
        "transfer-encoding": (post(("transfer-encoding", "chunked")), h2.data(1, b"0\r\n\r\n")),
        "connection": (get(("connection", "keep-alive")), b""),
        "upgrade": (get(("upgrade", "websocket")), b""),
        "keep-alive": (get(("keep-alive", "1")), b""),
        "proxy-connection": (get(("proxy-connection", "close")), b""),
        "te: gzip": (get(("te", "gzip")), b""),
        "upper case": (get(("X-A", "b")), b""),
        "empty name": (get(("", "b")), b""),
        "no path": (h2.headers(1, h2.block([(":method", "GET"), (":scheme", "http"), (":authority", "a")])), b""),
        "empty path": (get(path=""), b""),
        "relative path": (get(path="x"), b""),
        "absolute path": (get(path="http://evil/"), b""),
        "fragment": (get(path="/a b"), b""),
        "user in authority": (get(authority="u@a"), b""),
        "path in authority": (get(authority="a/b"), b""),
        "strange scheme": (get(scheme="ht tp"), b""),
        "pseudo header at the end": (h2.headers(1, h2.block([("x", "y")]) + h2.request()), b""),
        "pseudo header twice": (h2.headers(1, h2.request(more=[(":path", "/b")])), b""),
        "unknown pseudo header": (h2.headers(1, h2.block([(":evil", "1")]) + h2.request()), b""),
        ":status in a request": (h2.headers(1, h2.block([(":status", "200")]) + h2.request()), b""),
        ":protocol without CONNECT": (h2.headers(1, h2.block([(":protocol", "websocket")]) + h2.request()), b""),
        "CONNECT with a path": (h2.headers(1, h2.request("/", "CONNECT")), b""),
    }
    with Measured(proxy, "requests that contradict themselves") as measured:
        for name, (head, body) in cases.items():
            before = len(origin.seen)
            ok = refused(proxy, origin, head, body)
            if not ok:  # the head may have gone on before the body was seen to be wrong: then it must not have ended well
                time.sleep(0.1)
                whole = [each for each in origin.seen[before:] if "body" in each or b"content-length: 0" in each["head"]]
                assert body and not whole, (name, origin.seen[before:])
        measured.note = f"{len(cases)} requests"


def test_trailers_smuggle_nothing(proxy, origin):
    bad = [(":path", "/evil"), ("X-A", "b"), ("a", "b\r\nc: d"), ("connection", "close")]
    with Measured(proxy, "trailers") as measured:
        for field in bad:
            before = len(origin.seen)
            client = h2.Client(proxy.port)
            client.send(h2.headers(1, h2.request("/", "POST"), end=False) + h2.data(1, b"x", end=False)
                        + h2.headers(1, h2.block([field])))
            client.wait(lambda: client.over(1), 3.0)
            assert client.statuses.get(1) is None, (field, client.statuses)
            time.sleep(0.05)
            assert not any("body" in each for each in origin.seen[before:]), origin.seen[before:]
        measured.note = f"{len(bad)} requests"


def websocket(path):
    return h2.headers(1, h2.block([(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path),
                                   (":authority", "a"), ("sec-websocket-version", "13")]), end=False)


def test_nothing_goes_into_a_tunnel_that_is_not_open(proxy, origin):
    with Measured(proxy, "bytes ahead of an upgrade"):
        smuggled = b"GET /evil HTTP/1.1\r\nhost: a\r\n\r\n"
        client = h2.Client(proxy.port)
        assert client.wait(lambda: client.settings.get(h2.CONNECT_PROTOCOL) == 1)
        client.send(websocket("/tunnel/yes") + h2.data(1, smuggled, end=False))
        assert client.wait(lambda: client.bodies.get(1) == smuggled), (client.statuses, client.bodies)
        assert client.statuses[1] == 200
        assert origin.seen[-1]["extra"] == b"", origin.seen[-1]
        assert b"sec-websocket-key: " in origin.seen[-1]["head"], origin.seen[-1]
        client.close()
        client = h2.Client(proxy.port)
        client.send(websocket("/tunnel/no") + h2.data(1, smuggled, end=False))
        assert client.wait(lambda: client.over(1))
        assert client.statuses[1] == 403
        assert origin.seen[-1]["extra"] == b"" and not any(b"/evil" in each["head"] for each in origin.seen)


def test_an_early_answer_leaves_nothing_behind(proxy, origin):
    with Measured(proxy, "early answers with the body unread") as measured:
        client = h2.Client(proxy.port)
        for i in range(20):
            stream = 2 * i + 1
            before = len(origin.seen)
            client.send(h2.headers(stream, h2.request("/early", "POST", more=[("content-length", "100000")]), end=False)
                        + h2.data(stream, b"GET /evil HTTP/1.1\r\nhost: a\r\n\r\n" * 30, end=False))
            assert client.wait(lambda: client.over(stream), 3.0), (client.closed, client.goaway)
            assert client.statuses[stream] == 401 and client.resets.get(stream) in (None, h2.NO_ERROR), (
                client.statuses, client.resets)
            assert [each["head"].split(b" ")[1] for each in origin.seen[before:]] == [b"/early"]
            assert b" /early " not in origin.seen[-1]["rest"]
        client.send(h2.headers(101, h2.request("/after")))
        assert client.wait(lambda: client.over(101)) and client.statuses[101] == 200
        assert not any(b" /after " in each.get("rest", b"") or b" /early " in each.get("rest", b"") for each in origin.seen)
        measured.note = f"{proxy.stat('cluster.origin.upstream_cx_total')} upstream connections so far"


def main():
    passed, failed = 0, 0
    only = sys.argv[1:]
    origin = Origin()
    proxy = Proxy(origin.port)
    begin = time.monotonic()
    try:
        for name, test in list(globals().items()):
            if not name.startswith("test_") or (only and not any(each in name for each in only)):
                continue
            try:
                test(proxy, origin)
                passed += 1
                print("ok", name, flush=True)
            except Exception as error:  # every failure is counted and shown
                failed += 1
                print("FAILED", name, repr(error)[:1500], flush=True)
    finally:
        if not proxy.close():
            failed += 1
            print("FAILED the proxy died", flush=True)
        origin.close()
    print(f"{time.monotonic() - begin:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
