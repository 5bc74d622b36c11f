"""What a case is, and the configuration made of it.

Every case has a listener, an HTTP connection manager (or a TCP proxy) with its own stat_prefix, clusters, origins and an
access log of its own, all named after it. So that hundreds of cases share one process on each side and run at the same time,
and still nothing of one is seen in another.

In strings of the configuration `$case` is the case's name, `$port` its listener's port, `$origin` and `$origin_b` the ports
of its origins; a string that is only that becomes a number.
"""
import json
import os
import re

from . import origin as origins

LISTENER_PORTS = 10000
ORIGIN_PORTS = 20000
ORIGINS_MAX = 8
ADMIN_PORT = 9901

HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
TCP_PROXY = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
ROUTER = "envoy.extensions.filters.http.router.v3.Router"
UPSTREAM_HTTP = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
TYPE = "type.googleapis.com/"

LOG_FIELDS = {
    "method": "%REQ(:METHOD)%", "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "authority": "%REQ(:AUTHORITY)%",
    "protocol": "%PROTOCOL%", "code": "%RESPONSE_CODE%", "flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%",
    "termination": "%CONNECTION_TERMINATION_DETAILS%", "received": "%BYTES_RECEIVED%", "sent": "%BYTES_SENT%",
    "cluster": "%UPSTREAM_CLUSTER%", "host": "%UPSTREAM_HOST%", "failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "route": "%ROUTE_NAME%", "grpc": "%GRPC_STATUS%",
    "forwarded": "%REQ(X-FORWARDED-FOR)%", "server_name": "%REQUESTED_SERVER_NAME%",
    "remote": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "local": "%DOWNSTREAM_LOCAL_ADDRESS%",
}

ALL = {}  # name → Case, in the order of definition
CHANGED = lambda case, kind, config: config  # replaced where fields are taken out (fields.py)


def merged(base, over):
    """Dictionaries are merged; everything else is replaced; None removes."""
    if not isinstance(base, dict) or not isinstance(over, dict):
        return over
    out = dict(base)
    for key, value in over.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merged(base[key], value) if key in base else value
    return out


def typed(type_name, **fields):
    return {"@type": TYPE + type_name, **fields}


def http2_cluster(**options):
    """For `cluster=`: HTTP/2 towards the origin."""
    return {"typed_extension_protocol_options": {UPSTREAM_HTTP: typed(
        UPSTREAM_HTTP, explicit_http_config={"http2_protocol_options": options})}}


def route_to(cluster="$case", prefix="/", **action):
    return {"match": {"prefix": prefix}, "route": {"cluster": cluster, **action}}


class Case:
    """See `case()`."""

    def __init__(self, name, client, **options):
        assert re.fullmatch(r"[a-z0-9_]+", name), name
        assert name not in ALL, f"two cases are called {name}"
        self.name, self.client = name, client
        index = len(ALL)
        self.port = LISTENER_PORTS + index
        self.origin_port = ORIGIN_PORTS + index * ORIGINS_MAX
        self.origin = options.pop("origin", [origins.ok()])
        self.origins = options.pop("origins", {})  # suffix → script
        self.prepare = options.pop("prepare", None)  # wraps accepted sockets of origins: TLS
        self.routes = options.pop("routes", [route_to()])
        self.vhost, self.route_config = options.pop("vhost", {}), options.pop("route_config", {})
        self.hcm, self.router = options.pop("hcm", {}), options.pop("router", {})
        self.http_filters = options.pop("http_filters", [])
        self.filters, self.tcp = options.pop("filters", None), options.pop("tcp", None)
        self.chain, self.listener = options.pop("chain", {}), options.pop("listener", {})
        self.cluster, self.clusters = options.pop("cluster", {}), options.pop("clusters", {})
        self.bootstrap = options.pop("bootstrap", {})
        self.log_fields, self.log_text = options.pop("log_fields", {}), options.pop("log_text", None)
        self.log_filter = options.pop("log_filter", None)
        self.sort_log = options.pop("sort_log", False)
        self.counters = options.pop("counters", [])
        self.ignore = options.pop("ignore", [])
        assert not options, f"{name}: unknown options {list(options)}"
        ALL[name] = self

    def origin_scripts(self):
        """Port → script."""
        every = {"": self.origin, **self.origins}
        return {port: every[suffix] for suffix, port in self.origin_ports().items()}

    def origin_ports(self):
        names = ["", *self.origins]
        assert len(names) <= ORIGINS_MAX
        return {suffix: self.origin_port + i for i, suffix in enumerate(names)}

    # ---- configuration

    def access_log(self):
        file = {"path": f"logs/{self.name}"}
        if self.log_text is not None:
            file["log_format"] = {"text_format_source": {"inline_string": self.log_text}}
        else:
            file["log_format"] = {"json_format": {**LOG_FIELDS, **self.log_fields}}
        out = {"name": "log", "typed_config": typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", **file)}
        if self.log_filter:
            out["filter"] = self.log_filter
        return [out]

    def http_manager(self, **over):
        """The case's HTTP connection manager as a network filter; for cases with chains of their own."""
        table = merged({"name": "routes", "virtual_hosts": [merged(
            {"name": "all", "domains": ["*"], "routes": self.routes}, self.vhost)]}, self.route_config)
        config = {"stat_prefix": "$case", "access_log": self.access_log(), "route_config": table, "http_filters": [
            *self.http_filters, {"name": "envoy.filters.http.router", "typed_config": typed(ROUTER, **self.router)}]}
        return {"name": "envoy.filters.network.http_connection_manager",
                "typed_config": typed(HCM, **merged(merged(config, self.hcm), over))}

    def tcp_filter(self, **over):
        """The case's TCP proxy as a network filter."""
        config = {"stat_prefix": "$case", "cluster": "$case", "access_log": self.access_log()}
        config = merged(config, self.tcp or {})
        if "weighted_clusters" in config:
            config.pop("cluster")
        return {"name": "envoy.filters.network.tcp_proxy", "typed_config": typed(TCP_PROXY, **merged(config, over))}

    def network_filters(self):
        if callable(self.filters):
            return self.filters(self)
        return [self.http_manager() if self.tcp is None else self.tcp_filter()]

    def build_listener(self):
        chain = self.chain
        if callable(self.listener):
            over = self.listener(self)
        else:
            over = self.listener
        base = {"name": "$case", "stat_prefix": "$case",
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": self.port}}}
        if "filter_chains" not in over:
            base["filter_chains"] = [merged({"filters": self.network_filters()}, chain)]
        return self.fill(merged(base, over))

    def build_cluster(self, suffix, over):
        scripts = {"": self.origin, **self.origins}
        address = origins.BLACK_HOLE_ADDRESS if scripts.get(suffix) == origins.BLACK_HOLE else "127.0.0.1"
        port = self.origin_ports().get(suffix, self.origin_port)
        name = self.name + (f"_{suffix}" if suffix else "")
        base = {"name": name, "connect_timeout": "5s", "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [endpoint(port, address)]}]}}
        return self.fill(merged(base, over))

    def build_clusters(self):
        every = {"": self.cluster, **{suffix: {} for suffix in self.origins}, **self.clusters}
        return [self.build_cluster(suffix, over) for suffix, over in every.items() if over is not None]

    def fill(self, value):
        if isinstance(value, dict):
            return {self.fill(k): self.fill(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.fill(v) for v in value]
        if not isinstance(value, str) or "$" not in value:
            return value
        words = {"case": self.name, "port": self.port, "folder": os.getcwd()}
        for suffix, port in self.origin_ports().items():
            words["origin" + (f"_{suffix}" if suffix else "")] = port
        whole = re.fullmatch(r"\$([a-z_0-9]+)", value)
        if whole and whole.group(1) in words:
            return words[whole.group(1)]
        for word in sorted(words, key=len, reverse=True):
            value = value.replace("$" + word, str(words[word]))
        return value


def endpoint(port="$origin", address="127.0.0.1", **over):
    return merged({"endpoint": {"address": {"socket_address": {"address": address, "port_value": port}}}}, over)


def endpoints(*suffixes):
    """For `cluster=`: hosts at several origins of the case ("" is the first)."""
    return {"load_assignment": {"cluster_name": "$case", "endpoints": [
        {"lb_endpoints": [endpoint("$origin" + (f"_{s}" if s else "")) for s in suffixes]}]}}


def case(name, client, **options):
    """Defines a case. `client` is a function (Client) or what `exchange(...)` returns. Options:

      origin, origins         scripts (see origin.py); `origins={"b": …}` adds the port $origin_b and a cluster "$case_b"
      routes, vhost, route_config, hcm, router, http_filters     merged into the usual manager
      tcp={…}                 a TCP proxy instead of the manager
      filters=function(case), chain, listener (a function (case) too)     network filters, chain, listener
      cluster, clusters       merged into the usual cluster; more by suffix
      bootstrap               merged into the bootstrap; cases with the same one share processes
      log_fields, log_text, log_filter, sort_log                 more operators, another format, a filter, no order
      counters                more counters to compare, e.g. "http.$case.downstream_rq_idle_timeout"
      ignore                  paths that are not compared (fnmatch), with the reason in a comment at the case
    """
    return Case(name, client, **options)


def bootstrap_of(cases):
    """One bootstrap for cases that share processes."""
    base = {"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": ADMIN_PORT}}},
            "node": {"id": "side", "cluster": "by-side"},
            "static_resources": {"listeners": [], "clusters": []}}
    out = merged(base, cases[0].bootstrap)
    if len(cases) == 1:
        out = CHANGED(cases[0], "bootstrap.v3.Bootstrap", out)
    for each in cases:
        out["static_resources"]["listeners"].append(CHANGED(each, "listener.v3.Listener", each.build_listener()))
        out["static_resources"]["clusters"] += [CHANGED(each, "cluster.v3.Cluster", one) for one in each.build_clusters()]
    return out


def groups(cases):
    """Lists of cases that may share processes."""
    found = {}
    for each in cases:
        found.setdefault(json.dumps(each.bootstrap, sort_keys=True), []).append(each)
    return list(found.values())
