"""Proxies with configurations of their own, and clients that see every byte, for the tests of operation (not a suite)."""
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from thread_server import ThreadServer

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROXY = os.environ.get("POSTERN_PROXY", os.path.join(os.environ.get("POSTERN_BIN", os.path.join(ROOT, "bin")), "postern-proxy"))
FILTERS = "type.googleapis.com/envoy.extensions.filters."


def until(what, seconds=10, step=0.02):
    """The first true answer of what(); fails after so long."""
    end = time.monotonic() + seconds
    while True:
        answer = what()
        if answer:
            return answer
        assert time.monotonic() < end, "did not happen in %s s" % seconds
        time.sleep(step)


def socket_address(port, address="127.0.0.1"):
    return {"socket_address": {"address": address, "port_value": port}}


def http_listener(name, port, routes, address=None, **manager):
    hcm = {"@type": FILTERS + "network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": name,
           "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]},
           "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": FILTERS + "http.router.v3.Router"}}]}
    hcm.update(manager)
    return {"name": name, "address": address or socket_address(port),
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": hcm}]}]}


def direct(body="ok", status=200):
    return [{"match": {"prefix": "/"}, "direct_response": {"status": status, "body": {"inline_string": body}}}]


def to_cluster(cluster):
    return [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]


def tcp_listener(name, port, cluster):
    return {"name": name, "address": socket_address(port), "filter_chains": [{"filters": [
        {"name": "envoy.filters.network.tcp_proxy",
         "typed_config": {"@type": FILTERS + "network.tcp_proxy.v3.TcpProxy", "stat_prefix": name, "cluster": cluster}}]}]}


def cluster(name, port):
    return {"name": name, "type": "STATIC", "connect_timeout": "2s", "load_assignment": {"cluster_name": name, "endpoints": [
        {"lb_endpoints": [{"endpoint": {"address": socket_address(port)}}]}]}}


def bootstrap(listeners, clusters=(), **more):
    out = {"node": {"id": "test", "cluster": "test"}, "admin": {"address": socket_address(0)},
           "static_resources": {"listeners": list(listeners), "clusters": list(clusters)}}
    out.update(more)
    return out


class Proxy:
    """A running proxy; its files live in its own folder."""

    def __init__(self, config, *flags, name="proxy", wait=True, folder=None, program=PROXY):
        self.folder = folder or tempfile.mkdtemp(prefix="postern-operation-")
        self.own_folder = folder is None
        self.config = os.path.join(self.folder, name + ".json")
        self.log_path = os.path.join(self.folder, name + ".log")
        self.admin_path = os.path.join(self.folder, name + ".admin")
        with open(self.config, "w", encoding="utf-8") as out:
            json.dump(config, out)
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen((program, "-c", self.config, "--admin-address-path", self.admin_path) + flags,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.pid = self.process.pid
        if wait:
            self.wait_live()

    def wait_live(self, seconds=10):
        def live():
            assert self.process.poll() is None, "ended with %s: %s" % (self.process.returncode, self.log())
            # The file may be there before its text is.
            return os.path.exists(self.admin_path) and os.path.getsize(self.admin_path) > 0 and self.info().get("state") == "LIVE"
        until(live, seconds)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def admin_port(self):
        with open(self.admin_path, encoding="utf-8") as file:
            return int(file.read().rsplit(":", 1)[1])

    def ask(self, path, method="GET"):
        """(status, body) of the admin port; (0, "") when nobody answers."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.admin_port(), timeout=5)
            connection.request(method, path, headers={"connection": "close"})
            answer = connection.getresponse()
            out = answer.status, answer.read().decode()
            connection.close()
            return out
        except (OSError, ValueError, http.client.HTTPException):
            return 0, ""

    def info(self):
        status, body = self.ask("/server_info")
        return json.loads(body) if status == 200 else {}

    def stat(self, name):
        _, body = self.ask("/stats?filter=^" + name.replace(".", "[.]") + "$")
        return int(body.rsplit(": ", 1)[1]) if ": " in body else 0

    def port(self, listener):
        _, body = self.ask("/listeners?format=json")
        for each in json.loads(body)["listener_statuses"]:
            if each["name"] == listener:
                return each["local_address"]["socket_address"]["port_value"]
        raise AssertionError("no listener " + listener)

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=10):
        return self.process.wait(seconds)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Http1:
    """One HTTP/1.1 connection."""

    def __init__(self, port, timeout=5, address="127.0.0.1"):
        self.socket = socket.create_connection((address, port), timeout=timeout)
        self.buffer = b""

    def send(self, path="/", head=""):
        self.socket.sendall(("GET %s HTTP/1.1\r\nhost: test\r\n%s\r\n" % (path, head)).encode())

    def receive(self):
        """(status, headers, body); status 0 when the connection ends first."""
        while b"\r\n\r\n" not in self.buffer:
            if not self.more():
                return 0, {}, b""
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:])}
        size = int(headers.get("content-length", "0"))
        while len(self.buffer) < size:
            if not self.more():
                return 0, headers, self.buffer
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return int(lines[0].split(" ")[1]), headers, body

    def more(self):
        try:
            piece = self.socket.recv(65536)
        except ConnectionError:
            return False
        self.buffer += piece
        return bool(piece)

    def get(self, path="/", head=""):
        self.send(path, head)
        return self.receive()

    def ended(self, seconds=0.0):
        """True when the peer ends the connection within so long."""
        end = time.monotonic() + seconds
        while True:
            ready = select.select([self.socket], [], [], max(0.0, end - time.monotonic()))[0]
            if not ready:
                return False
            if not self.more():
                return True

    def close(self):
        self.socket.close()


class Http2:
    """One HTTP/2 connection with prior knowledge: frames by hand, header blocks without compression."""
    DATA, HEADERS, RST, SETTINGS, PING, GOAWAY = 0, 1, 3, 4, 6, 7

    def __init__(self, port, timeout=5, address="127.0.0.1"):
        self.socket = socket.create_connection((address, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.next_stream = 1
        self.goaway = None  # the last stream told
        self.gone = False
        self.done = {}  # stream → status, of ended streams
        self.status = {}
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + self.frame(self.SETTINGS, 0, 0, b""))

    @staticmethod
    def frame(kind, flags, stream, payload):
        return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload

    def request(self, path="/"):
        stream = self.next_stream
        self.next_stream += 2
        block = b"\x82\x86"  # :method GET, :scheme http
        block += b"\x04" + bytes((len(path),)) + path.encode() + b"\x01\x04test"  # :path, :authority
        self.socket.sendall(self.frame(self.HEADERS, 5, stream, block))
        return stream

    def poll(self, seconds=0.0):
        """Reads what is there, waiting at most so long for something."""
        if self.gone or not select.select([self.socket], [], [], seconds)[0]:
            return
        try:
            piece = self.socket.recv(65536)
        except ConnectionError:
            piece = b""
        self.gone = not piece
        self.buffer += piece
        while len(self.buffer) >= 9:
            size = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + size:
                return
            kind, flags = self.buffer[3], self.buffer[4]
            stream = int.from_bytes(self.buffer[5:9], "big") & 0x7fffffff
            payload, self.buffer = self.buffer[9:9 + size], self.buffer[9 + size:]
            self.take(kind, flags, stream, payload)

    def take(self, kind, flags, stream, payload):
        if kind == self.SETTINGS and not flags & 1:
            self.socket.sendall(self.frame(self.SETTINGS, 1, 0, b""))
        elif kind == self.PING and not flags & 1:
            self.socket.sendall(self.frame(self.PING, 1, 0, payload))
        elif kind == self.GOAWAY:
            self.goaway = int.from_bytes(payload[:4], "big") & 0x7fffffff
        elif kind == self.RST:
            self.done[stream] = 0
        elif kind == self.HEADERS:
            block = payload.lstrip(b"\x20\x3f")  # table size updates
            self.status.setdefault(stream, {0x88: 200, 0x89: 204, 0x8d: 404, 0x8e: 500}.get(block[0], 1))
        if kind == self.DATA and payload:
            self.socket.sendall(self.frame(8, 0, 0, len(payload).to_bytes(4, "big")))  # WINDOW_UPDATE of the connection
        if kind in (self.HEADERS, self.DATA) and flags & 1:
            self.done[stream] = self.status.get(stream, 1)

    def answer(self, stream, seconds=5):
        end = time.monotonic() + seconds
        while stream not in self.done and not self.gone and time.monotonic() < end:
            self.poll(max(0.0, end - time.monotonic()))
        return self.done.get(stream, 0)

    def get(self, path="/"):
        return self.answer(self.request(path))

    def close(self):
        self.socket.close()


class Origin(ThreadServer):
    """An origin that answers "origin" after a delay the request may name (/delay/MS), and echoes bytes for TCP."""

    def __init__(self, echo=False, address="127.0.0.1"):
        self.echo = echo
        self.requests = 0
        self.last_head = ""
        super().__init__(address=address)

    def serve(self, connection):
        data = b""
        while piece := connection.recv(65536):
            if self.echo:
                connection.sendall(piece)
                continue
            data += piece
            while b"\r\n\r\n" in data:
                head, data = data.split(b"\r\n\r\n", 1)
                path = head.split(b" ")[1].decode()
                self.requests += 1
                self.last_head = head.decode("latin-1") + "\r\n"
                if path.startswith("/delay/"):
                    time.sleep(int(path.split("/")[2]) / 1000)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\norigin")


def run_tests(tests, only=None):
    """Runs test_* functions, prints the result lines, returns the exit code."""
    passed = failed = 0
    for name, test in tests:
        if not name.startswith("test_") or (only and only not in name):
            continue
        begin = time.monotonic()
        try:
            test()
            passed += 1
            print("ok %s (%.1f s)" % (name, time.monotonic() - begin), flush=True)
        except Exception as error:  # every failure is counted and shown
            failed += 1
            print("FAILED %s: %s: %s" % (name, type(error).__name__, error), flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


TERM, KILL, STOP, CONT = signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT
