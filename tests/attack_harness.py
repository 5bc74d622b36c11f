"""A proxy, a scripted origin and raw clients: what the suites of attacks ask.

The origin is as forgiving as the worst one in the field: it splits what it gets at every blank line and believes
any length. Whatever the proxy lets through for it to misread shows in `Origin.paths`.
"""
import json
import os
import re
import socket
import subprocess
import tempfile
import threading
import time

from thread_server import ThreadServer

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BIN = os.environ.get("POSTERN_BIN", os.path.join(ROOT, "bin"))
HTTP = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
FILE_LOG = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
TIMEOUT = 3
PATIENCE = 15  # of who judges latencies: a busy machine makes them long, not lost


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


class Origin(ThreadServer):
    """Answers 200 with the path it saw; "/raw/N" with what `raws[N]` holds, byte by byte."""

    def __init__(self):
        self.heads, self.paths, self.raws, self.connections = [], [], [], 0
        self.bytes = b""
        self.lock = threading.Lock()
        super().__init__()

    def serve(self, connection):
        data = b""
        with self.lock:
            self.connections += 1
        try:
            while piece := connection.recv(65536):
                data += piece
                with self.lock:
                    self.bytes = (self.bytes + piece)[-1_000_000:]
                while b"\r\n\r\n" in data:
                    head, data = data.split(b"\r\n\r\n", 1)
                    data = self.body(connection, head, data)
                    self.answer(connection, head)
        except ValueError:  # what is no request
            pass

    @staticmethod
    def body(connection, head, data):
        chunked = re.search(rb"(?im)^transfer-encoding:.*chunked", head)
        length = re.search(rb"(?im)^content-length:\s*(\d+)", head)
        if chunked:
            while not re.search(rb"(?:^|\r\n)0\r\n(?:[^\r\n]+\r\n)*\r\n", data):
                piece = connection.recv(65536)
                if not piece:
                    raise OSError
                data += piece
            return re.split(rb"(?:^|\r\n)0\r\n(?:[^\r\n]+\r\n)*\r\n", data, maxsplit=1)[1]
        want = int(length.group(1)) if length else 0
        while len(data) < want:
            piece = connection.recv(65536)
            if not piece:
                raise OSError
            data += piece
        return data[want:]

    def answer(self, connection, head):
        method, path = (head.split(b"\r\n")[0].split(b" ") + [b"", b""])[:2]
        with self.lock:
            self.heads.append(head)
            self.paths.append(path)
        raw = re.match(rb"/raw/(\d+)", path)
        if raw:
            answer = self.raws[int(raw.group(1))]
            connection.sendall(answer[0] if isinstance(answer, tuple) else answer)
            if isinstance(answer, tuple):  # more, later, unasked
                time.sleep(answer[1])
                connection.sendall(answer[2])
            return
        body = b"" if method == b"HEAD" else path
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(path), body))


def manager(routes, log, **fields):
    out = {"@type": HTTP, "stat_prefix": "in",
           "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}],
           "route_config": {"virtual_hosts": [{"name": "any", "domains": ["*"], "routes": routes}]},
           "access_log": [{"name": "file", "typed_config": {"@type": FILE_LOG, "path": log, "log_format": {
               "json_format": {"path": "%REQ(:PATH)%", "agent": "%REQ(USER-AGENT)%", "code": "%RESPONSE_CODE%",
                               "details": "%RESPONSE_CODE_DETAILS%", "host": "%REQ(:AUTHORITY)%"}}}}]}
    out.update(fields)
    return out


class Proxy:
    """One postern-proxy with a listener per manager, one worker."""

    def __init__(self, origin, managers):
        self.folder = tempfile.mkdtemp(prefix="postern-attacks-")
        self.log = os.path.join(self.folder, "access.log")
        self.ports = {name: free_port() for name in managers}
        self.admin = free_port()
        listeners = [{"name": name, "address": address(self.ports[name]), "filter_chains": [
            {"filters": [{"name": "http", "typed_config": make(self.log)}]}]} for name, make in managers.items()]
        clusters = [{"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": {
            "cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(origin.port)}}]}]}}
            for name in ("app", "alone")]
        config = os.path.join(self.folder, "proxy.json")
        with open(config, "w", encoding="ascii") as out:
            json.dump({"admin": {"address": address(self.admin)},
                       "static_resources": {"listeners": listeners, "clusters": clusters}}, out)
        self.output = open(os.path.join(self.folder, "output"), "wb")
        self.process = subprocess.Popen((os.path.join(BIN, "postern-proxy"), "-c", config, "--concurrency", "1"),
                                        stdin=subprocess.DEVNULL, stdout=self.output, stderr=self.output)
        end = time.monotonic() + 10
        for port in self.ports.values():
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert self.process.poll() is None and time.monotonic() < end, self.said()
                    time.sleep(0.02)

    def said(self):
        with open(os.path.join(self.folder, "output"), encoding="utf-8", errors="replace") as file:
            return file.read()[-2000:]

    def rss_kb(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"VmRSS:\s+(\d+)", file.read()).group(1))

    def stat(self, name):
        text = exchange(self.admin, b"GET /stats?filter=%s HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % name.encode())
        found = re.search(rb"^%s: (\d+)" % re.escape(name.encode()), text, re.MULTILINE)
        return int(found.group(1)) if found else 0

    def alive(self):
        return self.process.poll() is None

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
        self.output.close()


def receive(connection, answers=None):
    """Bytes until the peer ends, or until so many whole answers are there; and whether it ended."""
    data = b""
    connection.settimeout(TIMEOUT)
    try:
        while answers is None or len(split_answers(data)) < answers:
            piece = connection.recv(65536)
            if not piece:
                return data, True
            data += piece
    except TimeoutError:
        return data, False
    except OSError:
        return data, True
    return data, False


def exchange(port, data, answers=None):
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT) as connection:
        connection.sendall(data)
        return receive(connection, answers)[0]


def split_answers(data):
    """Whole answers as (status, head, body); informational ones and what is not whole are left out."""
    out = []
    while b"\r\n\r\n" in data:
        head, rest = data.split(b"\r\n\r\n", 1)
        status = int(head.split(b" ")[1])
        length = re.search(rb"(?i)content-length: (\d+)", head)
        size = int(length.group(1)) if length else 0
        if b"transfer-encoding: chunked" in head.lower():
            end = rest.find(b"0\r\n\r\n")
            if end < 0:
                break
            size = end + 5
        if len(rest) < size:
            break
        if status >= 200:
            out.append((status, head, rest[:size]))
        data = rest[size:]
    return out


def percentile_99(times):
    return sorted(times)[int(len(times) * 0.99)] if times else 0.0


def waited_ms(pid):
    """How long the threads of a process have been ready and were not run, since it began."""
    total = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[1])
        except OSError:  # it ended, or this kernel does not tell
            pass
    return total / 1e6


def bound_ms(overslept, waited=0.0):
    """What the p99 of a client that behaves may be: a second, and more where the machine let the proxy wait, or the client itself, which
    its sleeps tell (seconds that each took too long). So a proxy that starves its clients is found, a busy machine is not."""
    return 1000 + waited + 20 * 1000 * percentile_99(overslept)


class Bystander:
    """A well-behaved client on a keep-alive connection of its own, all the time; its latencies are the bound."""

    def __init__(self, port):
        self.port, self.took, self.overslept, self.failed, self.stop = port, [], [], 0, False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        connection = None
        while not self.stop:
            start = time.monotonic()
            try:
                connection = connection or socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
                connection.sendall(b"GET /bystander HTTP/1.1\r\nhost: good\r\n\r\n")
                data, _ = receive(connection, 1)
                assert split_answers(data)[0][2] == b"/bystander"
            except (OSError, AssertionError, IndexError):
                self.failed += 1
                connection = None
            end = time.monotonic()
            self.took.append(end - start)
            time.sleep(0.005)
            self.overslept.append(time.monotonic() - end - 0.005)

    def forget(self):
        self.took, self.overslept = [], []

    def p99_ms(self):
        return 1000 * percentile_99(self.took)

    def bound_ms(self, waited=0.0):
        return bound_ms(self.overslept, waited)
