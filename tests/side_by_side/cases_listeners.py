"""Listeners: PROXY protocol both ways, listener filters, the choice of a filter chain, limits, Unix sockets, UDP, TCP fields."""
import socket
import threading
import time

from .case import case, merged, typed
from .client import exchange, get
from .origin import ok

LISTENER = "envoy.extensions.filters.listener."
PROXY = LISTENER + "proxy_protocol.v3.ProxyProtocol"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V1 = b"PROXY TCP4 10.9.8.7 10.0.0.2 4711 443\r\n"
IP4 = bytes([10, 9, 8, 7, 10, 0, 0, 2, 0x12, 0x67, 0x01, 0xbb])
IP6 = bytes.fromhex("20010db8000000000000000000000001" "00000000000000000000000000000001") + b"\x12\x67\x01\xbb"
FOUND = [f"proxy_proto.$case.versions.{v}.{n}" for v in ("v1", "v2") for n in ("found", "error", "disallowed")] + [
    "proxy_proto.$case.not_found_allowed", "proxy_proto.$case.not_found_disallowed"]


def v2(rest=IP4, command=0x21, family=0x11):
    return SIGNATURE + bytes([command, family]) + len(rest).to_bytes(2, "big") + rest


def tlv(kind, value):
    return bytes([kind]) + len(value).to_bytes(2, "big") + value


def filters(*names, **over):
    """For `listener=`."""
    return {"listener_filters": [each if isinstance(each, dict) else
                                 {"name": each, "typed_config": typed(LISTENER + each)} for each in names], **over}


def proxy_filter(**fields):
    return {"name": "envoy.filters.listener.proxy_protocol", "typed_config": typed(PROXY, stat_prefix="$case", **fields)}


TLS_INSPECTOR = "tls_inspector.v3.TlsInspector"
HTTP_INSPECTOR = "http_inspector.v3.HttpInspector"


# ---- PROXY headers of clients

def after_header(*pieces, pause=0.0, tail=get("/")):
    def run(client):
        connection = client.connect()
        for piece in (*pieces, tail):
            connection.send(piece)
            if pause:
                time.sleep(pause)
        answer = connection.response() if tail else None
        connection.end(0.1 if answer else 3.0)
    return run


def told(name, client, **fields):
    case(f"proxy_{name}", client, listener=filters(proxy_filter(**fields)), counters=FOUND,
         log_fields={"direct": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"})


def by_byte(data):
    return [data[i:i + 1] for i in range(len(data))]


told("v1_ip4", after_header(V1))
told("v1_ip6", after_header(b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n"))
told("v1_unknown", after_header(b"PROXY UNKNOWN\r\n"))
told("v1_unknown_with_more", after_header(b"PROXY UNKNOWN ffff:f ffff:f 65535 65535\r\n"))
told("v1_by_byte", after_header(*by_byte(V1), pause=0.002))
told("v1_with_request", after_header(tail=V1 + get("/")))
told("v1_without_port", after_header(b"PROXY TCP4 10.9.8.7 10.0.0.2 4711\r\n", tail=b""))
told("v1_port_too_large", after_header(b"PROXY TCP4 10.9.8.7 10.0.0.2 4711 65536\r\n", tail=b""))
told("v1_bad_address", after_header(b"PROXY TCP4 10.9.8.777 10.0.0.2 4711 443\r\n", tail=b""))
told("v1_other_family", after_header(b"PROXY TCP4 ::1 ::1 4711 443\r\n", tail=b""))
told("v1_endless", after_header(b"PROXY TCP4 " + b"1" * 200, tail=b""))
told("v2_ip4", after_header(v2()))
told("v2_ip6", after_header(v2(IP6, family=0x21)))
told("v2_local", after_header(v2(b"", command=0x20, family=0)))
told("v2_local_with_addresses", after_header(v2(IP4, command=0x20)))
told("v2_tlvs", after_header(v2(IP4 + tlv(2, b"example.com") + tlv(0xea, b"vpc"))))
told("v2_by_byte", after_header(*by_byte(v2(IP4 + tlv(2, b"example.com"))), pause=0.002))
told("v2_unix", after_header(v2(b"x" * 216, family=0x31), tail=b""))
told("v2_datagrams", after_header(v2(IP4, family=0x12), tail=b""))
told("v2_short_addresses", after_header(v2(IP4[:-1]), tail=b""))
told("v2_command", after_header(v2(command=0x22), tail=b""))
told("v2_version", after_header(v2(command=0x11), tail=b""))
told("v2_tlv_past_the_end", after_header(v2(IP4 + b"\xea\xff\xff"), tail=b""),
     pass_through_tlvs={"match_type": "INCLUDE_ALL"})
told("required", after_header(tail=get("/")))
told("not_required", after_header(tail=get("/")), allow_requests_without_proxy_protocol=True)
told("not_required_but_there", after_header(V1), allow_requests_without_proxy_protocol=True)
told("v1_refused", after_header(V1, tail=b""), disallowed_versions=["V1"])
told("v2_where_v1_is_refused", after_header(v2()), disallowed_versions=["V1"])


# ---- PROXY headers to origins

def upstream_header(version="V1", **config):
    return {"transport_socket": {"name": "envoy.transport_sockets.upstream_proxy_protocol", "typed_config": typed(
        "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
        config={"version": version, **config},
        transport_socket={"name": "envoy.transport_sockets.raw_buffer", "typed_config": typed(
            "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")})}}


def take_all(wire):
    """Records what comes until the client is done; a request in it is answered."""
    try:
        data = wire.until(b"\r\n\r\n")
        if data == b"\r\n\r\n":  # the signature of version 2 begins so
            data += wire.until(b"\r\n\r\n")
        wire.record.append(data.decode("latin1"))
        wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    finally:
        wire.rest()


def headed(name, client, listener, cluster, **options):
    case(f"proxy_up_{name}", client, listener=listener, cluster=cluster, origin=take_all, **options)


def told_once(header):
    def run(client):
        connection = client.connect()
        connection.send(header + get("/"))
        connection.response()
        connection.half_close()
        connection.end()
    return run


TOLD = filters(proxy_filter(pass_through_tlvs={"match_type": "INCLUDE_ALL"}))
TLVS = v2(IP4 + tlv(0xe0, b"one") + tlv(0xe1, b"two"))
headed("v1_tcp", told_once(V1), TOLD, upstream_header(), tcp={})
headed("v1_tcp_ip6", told_once(v2(IP6, family=0x21)), TOLD, upstream_header(), tcp={})
headed("v2_tcp", told_once(V1), TOLD, upstream_header("V2"), tcp={})
headed("v2_tlvs_none", told_once(TLVS), TOLD, upstream_header("V2"), tcp={})
headed("v2_tlvs_all", told_once(TLVS), TOLD, upstream_header("V2", pass_through_tlvs={"match_type": "INCLUDE_ALL"}), tcp={})
headed("v2_tlvs_one", told_once(TLVS), TOLD,
       upstream_header("V2", pass_through_tlvs={"match_type": "INCLUDE", "tlv_type": [0xe1]}), tcp={})
headed("v2_tlvs_added", told_once(TLVS), TOLD, upstream_header("V2", pass_through_tlvs={"match_type": "INCLUDE_ALL"},
                                                               added_tlvs=[{"type": 0xe1, "value": "bXk="}]), tcp={})


def two_clients(client):
    for port in (1001, 1002):
        connection = client.connect()
        connection.send(b"PROXY TCP4 10.9.8.7 10.0.0.2 %d 443\r\n" % port + get("/"))
        connection.response()
        connection.end(0.1)


headed("v1_http_two_clients", two_clients, TOLD, upstream_header(), ignore=["origin*"])  # request ids in the bytes


# ---- the choice of a chain

def hello(name=None, protocols=()):
    """A ClientHello as the tls module of Python writes it."""
    import ssl
    context = ssl.create_default_context()
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    handshake = context.wrap_bio(incoming, outgoing, server_hostname=name)
    try:
        handshake.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def chains(*given, fallback=None, **over):
    """A listener whose chains are TCP proxies to clusters of these names: pairs (suffix, match)."""
    def build(each):
        def chain(suffix, match=None):
            cluster = "$case" + (f"_{suffix}" if suffix else "")
            out = {"name": suffix or "first", "filters": [each.tcp_filter(cluster=cluster)]}
            return merged(out, {"filter_chain_match": match}) if match is not None else out
        out = {"filter_chains": [chain(*pair) for pair in given], **over}
        if fallback is not None:
            out["default_filter_chain"] = chain(fallback)
        return out
    return build


def says(name):
    def run(wire):
        wire.send(name)
        wire.rest()
    return run


def which(*firsts, source=None):
    """Connects, sends, and records which origin answers."""
    def run(client):
        for first in firsts:
            connection = client.connect(source=source)
            if connection is None:
                continue
            for piece in (first if isinstance(first, list) else [first]):
                connection.send(piece)
                if isinstance(first, list):
                    time.sleep(0.001)
            connection.raw(1)
            connection.close()
    return run


def chosen(name, client, listener, **options):
    case(f"chain_{name}", client, listener=listener, tcp={}, origin=says(b"0"),
         origins={"b": says(b"b"), "c": says(b"c")}, sort_log=True,
         log_fields={"chain": "%FILTER_CHAIN_NAME%"},
         counters=["listener.$case.no_filter_chain_match", "listener.$case.downstream_cx_total"], **options)


NAMES = [("", {"server_names": ["a.example"]}), ("b", {"server_names": ["*.example"]}), ("c", {})]
chosen("by_server_name", which(hello("a.example"), hello("x.example"), hello("other"), b"GET / HTTP/1.1\r\n\r\n"),
       chains(*NAMES, **filters(TLS_INSPECTOR)))
chosen("by_server_name_by_byte", which(by_byte(hello("a.example"))), chains(*NAMES, **filters(TLS_INSPECTOR)))
chosen("by_longest_suffix", which(hello("a.b.example"), hello("b.example"), hello("example")),
       chains(("", {"server_names": ["*.b.example"]}), ("b", {"server_names": ["*.example"]}), fallback="c",
              **filters(TLS_INSPECTOR)))
chosen("by_alpn", which(hello("a", ["h2", "http/1.1"]), hello("a", ["http/1.1"]), hello("a")),
       chains(("", {"application_protocols": ["h2"]}), ("b", {"application_protocols": ["http/1.1"]}), ("c", {}),
              **filters(TLS_INSPECTOR)))
chosen("by_transport", which(hello("a"), b"plain text\r\n\r\n"),
       chains(("", {"transport_protocol": "tls"}), ("b", {"transport_protocol": "raw_buffer"}), **filters(TLS_INSPECTOR)))
chosen("by_http_version", which(get("/"), b"GET / HTTP/1.0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"EHLO there\r\n"),
       chains(("", {"application_protocols": ["http/1.1"]}), ("b", {"application_protocols": ["http/1.0", "h2c"]}), fallback="c",
              **filters(HTTP_INSPECTOR)))
chosen("by_source", which(b"x", source="127.0.0.2"),
       chains(("", {}), ("b", {"source_prefix_ranges": [{"address_prefix": "127.0.0.2", "prefix_len": 32}]})))
chosen("by_source_type", which(b"x"), chains(("", {"source_type": "EXTERNAL"}), ("b", {"source_type": "SAME_IP_OR_LOOPBACK"})))
chosen("by_told_source", which(V1 + b"x"),
       chains(("", {"source_prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}),
              ("b", {"direct_source_prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}),
              fallback="c", **filters(proxy_filter())))
chosen("by_told_direct_source", which(V1 + b"x"),
       chains(("", {}), ("b", {"direct_source_prefix_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]}),
              **filters(proxy_filter())))
chosen("by_told_port", which(V1 + b"x"), chains(("", {"destination_port": 443}), ("b", {}), **filters(proxy_filter())))
chosen("by_told_destination", which(V1 + b"x"),
       chains(("", {"prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 8}]}),
              ("b", {"prefix_ranges": [{"address_prefix": "10.0.0.0", "prefix_len": 24}]}), **filters(proxy_filter())))
chosen("port_decides_for_good", which(V1 + b"x"),
       chains(("", {"destination_port": 443, "source_type": "SAME_IP_OR_LOOPBACK"}), ("b", {}), fallback="c",
              **filters(proxy_filter())))
chosen("none", after_header(b"x", tail=b""), chains(("", {"destination_port": 1})))


# ---- waiting for the first bytes

def silent(client):
    connection = client.connect()
    connection.raw(1)
    connection.end()


TIMEOUT = {"listener_filters_timeout": "0.2s"}
chosen("timeout_closes", silent, chains(("", {}), **filters(TLS_INSPECTOR, **TIMEOUT)))
chosen("timeout_goes_on", silent,
       chains(("", {"transport_protocol": "tls"}), ("b", {}),
              **filters(TLS_INSPECTOR, **TIMEOUT, continue_on_listener_filters_timeout=True)))
told_slow = filters(proxy_filter(), **TIMEOUT)
case("proxy_slow", after_header(V1[:20], tail=b""), listener=told_slow,
     counters=[*FOUND, "listener.$case.downstream_pre_cx_timeout"])


# ---- limits

def one_too_many(client):
    first = client.connect()
    first.send(b"x")
    first.raw(1)
    second = client.connect()
    second.end()


case("limit_of_connections", one_too_many, tcp={}, origin=says(b"0"), sort_log=True,
     filters=lambda each: [{"name": "limit", "typed_config": typed(
         "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit", stat_prefix="$case", max_connections=1)},
                           each.tcp_filter()],
     counters=["connection_limit.$case.limited_connections"],
     # A refused connection never meets our TCP proxy; Envoy makes one and ends it.
     ignore=["log*", "counters.tcp.$case.downstream_cx_total"])


# ---- Unix sockets

def with_unix_origin(client):
    """Abstract names belong to the network namespace of a side, so both sides may have the same."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0" + client.case.name)
    listener.listen(8)
    listener.settimeout(10)

    def serve():
        connection, _ = listener.accept()
        connection.settimeout(10)
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65536)
        client.note("origin", data.decode("latin1").split("x-forwarded-proto")[0])
        connection.sendall(ok(b"by name"))
        connection.recv(1)
    threading.Thread(target=serve, daemon=True).start()
    exchange(get("/"))(client)
    listener.close()


UNIX = {"load_assignment": {"cluster_name": "$case", "endpoints": [{"lb_endpoints": [
    {"endpoint": {"address": {"pipe": {"path": "@$case"}}}}]}]}}
case("unix_origin_http", with_unix_origin, cluster=UNIX)
case("unix_origin_tcp", with_unix_origin, cluster=UNIX, tcp={})


def at_unix_listener(client):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(10)
    sock.connect("\0" + client.case.name)
    sock.sendall(get("/"))
    client.note("answer", sock.recv(65536).split(b"\r\n")[0].decode())


case("unix_listener", at_unix_listener, listener=lambda each: {
    "filter_chains": [{"filters": each.network_filters()}],
    "address": {"socket_address": None, "pipe": {"path": "@$case"}}})


def at_addresses(*addresses):
    def run(client):
        for address in addresses:
            connection = client.connect(address=address)
            if connection is not None:
                connection.send(get("/"))
                connection.response()
                connection.close()
    return run


case("listener_additional_address", at_addresses("127.0.0.1", "127.0.0.3", "127.0.0.4"), listener={"additional_addresses": [
    {"address": {"socket_address": {"address": "127.0.0.3", "port_value": "$port"}}}]},
     counters=["listener.$case.downstream_cx_total"])


# ---- UDP

def udp_listener(**fields):
    def build(each):
        return {"filter_chains": None, "address": {"socket_address": {"protocol": "UDP"}}, "listener_filters": [
            {"name": "envoy.filters.udp_listener.udp_proxy", "typed_config": typed(
                "envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig", stat_prefix="$case", matcher={
                    "on_no_match": {"action": {"name": "route", "typed_config": typed(
                        "envoy.extensions.filters.udp.udp_proxy.v3.Route", cluster="$case")}}}, **fields)}]}
    return build


UDP_COUNTERS = [f"udp.$case.downstream_sess_{n}" for n in (
    "total", "rx_datagrams", "rx_bytes", "tx_datagrams", "tx_bytes", "no_route", "rx_errors", "tx_errors")] + [
    "udp.$case.idle_timeout", *[f"cluster.$case.udp.sess_{n}" for n in (
        "rx_datagrams", "tx_datagrams", "rx_datagrams_dropped", "tx_errors")],
    "listener.$case.udp.downstream_rx_datagram_dropped", "cluster.$case.upstream_cx_overflow"]


def datagrams(*sizes, clients=1, answer=None, pause=0.0):
    """Every datagram is answered with the same bytes (or `answer`); what comes back is recorded."""
    def run(client):
        origin = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        origin.bind(("127.0.0.1", client.case.origin_port))
        origin.settimeout(0.7)
        for _ in range(clients):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.settimeout(0.7)
            for size in sizes:
                sock.sendto(b"x" * size, ("127.0.0.1", client.port))
                seen = {}
                try:
                    data, peer = origin.recvfrom(70000)
                    seen["at origin"] = len(data)
                    origin.sendto(answer if answer is not None else data, peer)
                    data, _ = sock.recvfrom(70000)
                    seen["back"] = len(data)
                except TimeoutError:
                    seen["silent"] = True
                client.record.append([seen])
                time.sleep(pause)
    return run


def udp(name, client, over=None, cluster=None, **fields):
    build = udp_listener(**fields)
    case(f"udp_{name}", client, listener=lambda each: merged(build(each), over or {}), origin=None, cluster=cluster or {},
         counters=UDP_COUNTERS)


udp("echo", datagrams(5, 0, 100))
udp("two_clients", datagrams(5, clients=2))
udp("too_large", datagrams(1500, 1501, 10))
udp("answer_too_large", datagrams(10, answer=b"y" * 1501))
udp("large_where_allowed", datagrams(9000), over={"udp_listener_config": {"downstream_socket_config": {"max_rx_datagram_size": 9001}}},
    upstream_socket_config={"max_rx_datagram_size": 9001})
udp("idle", datagrams(5, 6, pause=0.6), idle_timeout="0.2s")
udp("limit", datagrams(5, clients=2), cluster={"circuit_breakers": {"thresholds": [{"max_connections": 1}]}})


# ---- fields of the TCP proxy

def sent(data, linger=3.0, tell_reset=True):
    def run(client):
        connection = client.connect()
        if data:
            connection.send(data)
        connection.end(linger, tell_reset)
    return run


def speaks_then(ending):
    def run(wire):
        wire.send(b"hello")
        wire.exactly(4)
        if ending == "reset":
            wire.reset()
    return run


case("tcp_origin_resets", sent(b"ping"), tcp={}, origin=speaks_then("reset"),
     ignore=["client*.bytes", "log*.sent"])  # whether bytes before a RST arrive is the kernel's affair
case("tcp_origin_closes", sent(b"ping"), tcp={}, origin=speaks_then("close"))
case("tcp_idle", sent(b"", 2.0), tcp={"idle_timeout": "0.3s"}, origin=says(b"0"), counters=["tcp.$case.idle_timeout"])
case("tcp_duration", sent(b"", 2.0), tcp={"max_downstream_connection_duration": "0.3s"}, origin=says(b"0"),
     counters=["tcp.$case.max_downstream_connection_duration"])
case("tcp_attempts", sent(b"x", tell_reset=False), tcp={"max_connect_attempts": 3}, origin=None,
     counters=["cluster.$case.upstream_cx_connect_fail", "cluster.$case.upstream_cx_connect_attempts_exceeded"],
     ignore=["log*failure"])  # words of the log, not of the connection
case("tcp_connects_on_data", sent(b"ping"), tcp={"upstream_connect_mode": "ON_DOWNSTREAM_DATA", "max_early_data_bytes": 16},
     origin=speaks_then("close"))
case("tcp_silent_client_connects_nowhere", lambda client: client.connect().half_close(),
     tcp={"upstream_connect_mode": "ON_DOWNSTREAM_DATA", "max_early_data_bytes": 16}, origin=speaks_then("close"),
     ignore=["log"])  # Envoy notices the end of such a connection, and logs it, only when its listener ends
case("tcp_no_such_cluster", sent(b"x", tell_reset=False), tcp={"cluster": "nowhere"}, counters=["tcp.$case.downstream_cx_no_route"],
     ignore=["log*attempts"])
case("tcp_overflow", sent(b"x", tell_reset=False), tcp={}, cluster={"circuit_breakers": {"thresholds": [{"max_connections": 0}]}},
     counters=["cluster.$case.upstream_cx_overflow"], ignore=["log*attempts"])


def much(client):
    connection = client.connect()
    piece = bytes(range(256)) * 256

    def write():
        for _ in range(64):
            connection.send(piece)
        connection.half_close()
    threading.Thread(target=write, daemon=True).start()
    data, how = connection.rest()
    client.note("back", [len(data), data == piece * 64, how])


def mirror(wire):
    while True:
        wire.fill()
        wire.send(wire.buffer)
        wire.buffer = b""


case("tcp_much_both_ways", much, tcp={}, origin=mirror)
