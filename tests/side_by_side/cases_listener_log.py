"""The access log of a listener: a line for each connection at its end, whatever took it or refused it."""
import socket
import ssl
import struct
import time

from .case import LOG_FIELDS, case, typed
from .cases_secure import down, talk
from .client import exchange, get
from .cases_fields_tls import h2_exchange

LINE = {**LOG_FIELDS, "direct": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "chain": "%FILTER_CHAIN_NAME%",
        "failed": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%", "tls": "%DOWNSTREAM_TLS_VERSION%", "type": "%ACCESS_LOG_TYPE%",
        "upstream_protocol": "%UPSTREAM_PROTOCOL%", "raw": "%UPSTREAM_CLUSTER_RAW%", "upstream_local": "%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%"}
LOG = [{"name": "log", "typed_config": typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", path="logs/$case",
                                             log_format={"json_format": LINE})}]


def logged(name, client, over=None, chain=None, **options):
    """The manager (or the TCP proxy) writes no line of its own."""
    none = {"access_log": []}
    if "tcp" in options:
        options["tcp"] = {**none, **options["tcp"]}
    else:
        options["hcm"] = {**none, **options.get("hcm", {})}
    case("listener_log_" + name, client, listener={"access_log": LOG, **(over or {})}, chain={"name": "the chain", **(chain or {})}, **options)


def leaves(data=b"", how="close"):
    def run(client):
        connection = client.connect()
        if data:
            connection.send(data)
            time.sleep(0.2)
        if how == "reset":
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        time.sleep(0.2)
    return run


def rejects(client):
    """The handshake ends by an alert of the client's, which does not know who signed the certificate."""
    strict = ssl.create_default_context()
    strict.maximum_version = ssl.TLSVersion.TLSv1_2  # of 1.3 the two libraries tell differently
    client.connect(tls=strict, server_name="example.com")
    time.sleep(0.2)


def says_bye(wire):
    wire.exactly(4)
    wire.send(b"bye")


def asks(data=b"ping"):
    def run(client):
        connection = client.connect()
        connection.send(data)
        connection.end(3.0)
    return run


SAYS_OK = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}
logged("http1", exchange(get("/1"), get("/2")), routes=[SAYS_OK])
logged("http1_malformed", exchange(b"GET / HTTP/1.1\r\nhost : a\r\n\r\n"))
logged("http1_silent", leaves())
logged("http1_reset", leaves(b"GET / HT", "reset"), ignore=["counters*downstream_rq_total"])  # Envoy counts what has but begun
logged("http1_idle", lambda c: c.connect().end(3.0), hcm={"common_http_protocol_options": {"idle_timeout": "0.3s"}})
logged("http2", h2_exchange({"path": "/a"}), routes=[SAYS_OK], ignore=["log*.sent"])  # a date is Huffman-coded
logged("tcp", asks(), tcp={}, origin=says_bye)
logged("tcp_refused", asks(), tcp={}, origin=None)
logged("tcp_no_cluster", asks(), tcp={"cluster": "nowhere"}, ignore=["log*attempts"])
logged("tcp_reset", leaves(b"ping", "reset"), tcp={}, origin=lambda wire: wire.rest())
logged("tls", talk(), chain=down(), routes=[SAYS_OK])
logged("tls_plain_text", exchange(get("/")), chain=down())
logged("tls_left", leaves(b"\x16\x03\x01"), chain=down())
logged("tls_slow", lambda c: c.connect().end(3.0), chain={**down(), "transport_socket_connect_timeout": "0.3s"})
logged("tcp_tls_plain_text", asks(), tcp={}, chain=down(), origin=says_bye)
PROXIED = {"listener_filters": [{"name": "proxy", "typed_config": typed(
    "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol", stat_prefix="$case")}]}
logged("proxy_header", exchange(b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n" + get("/")), PROXIED, routes=[SAYS_OK])
logged("proxy_header_bad", exchange(b"PROXY TCP4 nonsense\r\n"), PROXIED)
logged("proxy_header_left", leaves(b"PROXY"), PROXIED)
logged("proxy_header_slow", lambda c: c.connect().end(3.0), {**PROXIED, "listener_filters_timeout": "0.3s"})
LIMIT = {"name": "limit", "typed_config": typed(
    "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit", stat_prefix="$case", max_connections=1)}


def one_too_many(client):
    first = client.connect()
    first.send(b"ping")
    time.sleep(0.3)
    client.connect().end(3.0)
    first.end(3.0)


def slow_bye(wire):
    wire.exactly(4)
    time.sleep(0.6)
    wire.send(b"bye")


logged("connection_limit", one_too_many, tcp={}, origin=slow_bye, filters=lambda each: [LIMIT, each.tcp_filter()],
       ignore=["counters.tcp.$case.downstream_cx_total"])  # see limit_of_connections
logged("client_rejects_certificate", rejects, chain=down())
logged("second_is_malformed", exchange(get("/1"), b"GET / HTTP/1.1\r\nhost : a\r\n\r\n"), routes=[SAYS_OK])
logged("max_duration", lambda c: c.connect().end(3.0), hcm={"common_http_protocol_options": {"max_connection_duration": "0.3s"}})
