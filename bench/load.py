"""Origin and loads of the benchmarks, all on core 1: nginx, wrk, h2load, and load.cc for what those do not make."""
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LOAD_CORE = "1"
TOOLS = os.path.join(ROOT, "build", "bench")
BIG_BYTES = 1 << 30
# What a browser behind a load balancer sends: fourteen fields with Host.
FIELDS = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0", "Accept": "text/html,application/json;q=0.9",
    "Accept-Language": "en-GB,en;q=0.5", "Accept-Encoding": "gzip, deflate, br", "Cache-Control": "no-cache", "Pragma": "no-cache",
    "Cookie": "session=0123456789abcdef0123456789abcdef; theme=dark", "Referer": "https://shop.example/catalogue?page=2",
    "Origin": "https://shop.example", "Authorization": "Bearer 0123456789abcdef0123456789abcdef0123456789abcdef",
    "X-Api-Version": "2026-01-01", "X-Tenant": "tenant-17", "Sec-Fetch-Mode": "cors"}


def build_tools():
    os.makedirs(TOOLS, exist_ok=True)
    for name in ("relay", "load"):
        source, program = os.path.join(ROOT, "bench", name + ".cc"), os.path.join(TOOLS, name)
        if not os.path.exists(program) or os.path.getmtime(program) < os.path.getmtime(source):
            subprocess.run(["g++", "-std=c++20", "-O2", "-o", program, source], check=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def make_certificate(folder):
    certificate, key = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out",
                    certificate, "-days", "2", "-subj", "/CN=bench.example"], check=True, stderr=subprocess.DEVNULL)
    return certificate, key


class Origin:
    """nginx with a port for each kind of answer; `requests` counts all of them."""
    KINDS = ("small", "headers", "kb10", "kb100", "big", "h2", "grpc", "status")

    def __init__(self, folder):
        self.ports = {kind: free_port() for kind in self.KINDS}
        files = os.path.join(folder, "files")
        os.mkdir(files)
        for kind, size in (("kb10", 10240), ("kb100", 102400), ("big", BIG_BYTES)):
            with open(os.path.join(files, kind), "wb") as file:
                file.truncate(size)
        more = " ".join(f'add_header X-Answer-{i} "value-of-header-{i}";' for i in range(7))
        answers = {"small": 'return 200 "hello, world\\n";', "h2": 'return 200 "hello, world\\n";',
                   "headers": more + ' return 200 "hello, world\\n";',
                   "grpc": 'default_type application/grpc; add_trailer grpc-status 0; return 200 "hello, world\\n";',
                   "status": "stub_status;"}
        servers = ""
        for kind, port in self.ports.items():
            answer = answers.get(kind) or f"root {files}; try_files /{kind} =404;"
            servers += f"server {{ listen 127.0.0.1:{port}{' http2' if kind in ('h2', 'grpc') else ''} backlog=4096; location / {{ {answer} }} }}\n"
        config = os.path.join(folder, "origin.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"""
worker_processes 1; daemon off; pid {folder}/origin.pid; error_log {folder}/origin.err; worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; sendfile on; tcp_nodelay on; sendfile_max_chunk 2m;
  open_file_cache max=16 inactive=600s; open_file_cache_valid 600s; http2_max_concurrent_streams 1024;
  client_body_temp_path {folder}/ob; proxy_temp_path {folder}/op; fastcgi_temp_path {folder}/of; uwsgi_temp_path {folder}/ou;
  scgi_temp_path {folder}/os;
{servers} }}""")
        self.sink = socket.create_server(("127.0.0.1", 0))
        self.ports["sink"] = self.sink.getsockname()[1]
        threading.Thread(target=self.swallow, daemon=True).start()
        self.process = subprocess.Popen(["taskset", "-c", LOAD_CORE, shutil.which("nginx") or "/usr/sbin/nginx", "-c", config, "-p",
                                         folder], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        Client(self.ports["small"]).first()
        self.extra = 0

    def swallow(self):
        """Reads bodies of any size, one after the other, and answers."""
        while True:
            try:
                connection, _ = self.sink.accept()
            except OSError:
                return
            with connection:
                data = b""
                while b"\r\n\r\n" not in data and (piece := connection.recv(65536)):
                    data += piece
                head, _, body = data.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head.lower())
                left = int(length.group(1)) - len(body) if length else 0
                while left > 0 and (piece := connection.recv(1 << 20)):
                    left -= len(piece)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 13\r\nconnection: close\r\n\r\nhello, world\n")

    def requests(self):
        """Requests so far, without those of this method."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['status']}/", timeout=5) as answer:
            text = answer.read().decode()
        self.extra += 1
        return int(re.search(r"\n\s*\d+\s+\d+\s+(\d+)", text).group(1)) - self.extra

    def stop(self):
        self.sink.close()
        self.process.terminate()
        self.process.wait(10)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"


def h2_request(path):
    literal = lambda index, value: bytes([index, len(value)]) + value
    block = b"\x82\x86" + literal(0x04, path.encode()) + literal(0x01, b"bench.example")
    return PREFACE + len(block).to_bytes(3, "big") + b"\x01\x05\0\0\0\x01" + block


class Client:
    """One connection that makes one request; `front` as in peers.Work."""

    def __init__(self, port, path="/", front="h1"):
        self.port, self.path, self.front = port, path, front
        self.socket = None

    def request(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        if self.front == "tls":
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(self.socket)
        if self.front == "h2":
            self.socket.sendall(h2_request(self.path))
            return self.h2_answer()
        self.socket.sendall(f"GET {self.path} HTTP/1.1\r\nHost: bench.example\r\n\r\n".encode())
        return self.socket.recv(65536).startswith(b"HTTP/1.1 200")

    def h2_answer(self):
        data = b""
        acknowledged = False
        while b"hello, world\n" not in data:
            piece = self.socket.recv(65536)
            if not piece:
                return False
            data += piece
            if not acknowledged:
                self.socket.sendall(b"\0\0\0\x04\x01\0\0\0\0")
                acknowledged = True
        return True

    def first(self, seconds=15):
        """Seconds until the first good answer; the connection is closed."""
        start = time.perf_counter()
        while time.perf_counter() - start < seconds:
            try:
                if self.request():
                    taken = time.perf_counter() - start
                    self.socket.close()
                    return taken
            except OSError:
                pass
            if self.socket is not None:
                self.socket.close()
            time.sleep(0.0005)
        raise RuntimeError(f"port {self.port} does not answer")


def run(*command):
    return subprocess.run(["taskset", "-c", LOAD_CORE, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True,
                          timeout=120).stdout


def wrk(url, connections, seconds, headers=None):
    """(requests, of them not 2xx or failed)"""
    fields = [part for name, value in (headers or {}).items() for part in ("-H", f"{name}: {value}")]
    out = run("wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *fields, url)
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    failed = sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", out))
    for numbers in re.findall(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", out):
        failed += sum(int(number) for number in numbers)
    return requests, failed


def h2load(url, connections, streams, seconds, extra=()):
    out = run("h2load", f"-c{connections}", f"-m{streams}", f"-D{seconds}", *extra, url)
    numbers = re.search(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed", out)
    statuses = re.search(r"status codes: (\d+) 2xx", out)
    done, succeeded, _ = (int(number) for number in numbers.groups())
    return done, done - min(succeeded, int(statuses.group(1)))


def handshakes(port, path, seconds):
    """Requests, each on a connection of its own whose handshake resumes no session (wrk resumes half of them)."""
    # The program writes HTTP/1.0; what follows the path makes it HTTP/1.1.
    request = f"{path} HTTP/1.1\r\nHost: bench.example\r\nConnection: close\r\nX-Rest:"
    out = run("openssl", "s_time", "-connect", f"127.0.0.1:{port}", "-www", request, "-new", "-time", str(seconds))
    return int(re.search(r"(\d+) connections in \d+ real seconds", out).group(1))


def open_loop(port, path, connections, rate, seconds, close=False):
    """(requests, failed, p50, p99, p99.9 in microseconds)"""
    out = run(os.path.join(TOOLS, "load"), "open", str(port), path, str(connections), str(rate), str(seconds), *(["close"] if close else []))
    total, _, failed, p50, p99, p999 = out.split()
    return int(total), int(failed), float(p50), float(p99), float(p999)


def pull(port, path, times):
    """Gigabytes moved."""
    out = run(os.path.join(TOOLS, "load"), "pull", str(port), path, str(BIG_BYTES), str(times))
    return float(out.split()[0]) / 1e9


def upload(port, path, megabytes, way_ms):
    """MB/s of one upload over HTTP/2, the proxy `way_ms` away in each direction."""
    near = free_port()
    relay = subprocess.Popen([sys.executable, os.path.join(ROOT, "bench", "long_way.py"), str(near), str(port), str(way_ms)],
                             stdin=subprocess.DEVNULL)
    try:
        with tempfile.NamedTemporaryFile() as body:
            body.truncate(megabytes << 20)
            time.sleep(0.5)
            out = run("curl", "-s", "-o", os.devnull, "-w", "%{http_code} %{speed_upload}", "--http2-prior-knowledge", "-T", body.name,
                      f"http://127.0.0.1:{near}{path}")
    finally:
        relay.terminate()
        relay.wait(10)
    status, speed = out.split()
    if status != "200":
        raise RuntimeError("upload: " + out)
    return float(speed) / 1e6


def beside(action):
    """Runs in another thread; returns its join."""
    thread = threading.Thread(target=action)
    thread.start()
    return thread.join
