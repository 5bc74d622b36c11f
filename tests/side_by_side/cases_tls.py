"""TLS on either side: ALPN, names, client certificates; what the headers and logs say of them."""
import ssl

from .case import case, merged, typed
from .client import exchange, get
from .http2 import ask, client, request
from .origin import ok

DOWN = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
UP = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"


def certificate(name):
    return {"certificate_chain": {"filename": name + ".crt"}, "private_key": {"filename": name + ".key"}}


def down(name="server", common=None, **fields):
    """For `chain=`."""
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": typed(
        DOWN, common_tls_context=merged({"tls_certificates": [certificate(name)]}, common or {}), **fields)}}


def up(common=None, **fields):
    """For `cluster=`."""
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": typed(UP, common_tls_context=common or {}, **fields)}}


def context(alpn=None, certificate=None, version=None, ciphers=None):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if alpn:
        made.set_alpn_protocols(alpn)
    if certificate:
        made.load_cert_chain(certificate + ".crt", certificate + ".key")
    if version:
        made.minimum_version = made.maximum_version = version
    if ciphers:
        made.set_ciphers(ciphers)
    return made


def over_tls(*requests, server_name="example.com", **options):
    """A client that notes what was agreed on."""

    def run(client):
        connection = client.connect(tls=context(**options), server_name=server_name)
        if connection is None:
            return
        sock = connection.socket
        connection.record.append({"alpn": sock.selected_alpn_protocol(), "version": sock.version(),
                                  "subject": ssl_subject(sock)})
        for each in requests:
            connection.send(each)
            connection.response()
    return run


def ssl_subject(sock):
    der = sock.getpeercert(binary_form=True)
    return "server" if b"*.example.com" in der else "second" if b"second.example" in der else "?"


FIELDS = {"tls": "%DOWNSTREAM_TLS_VERSION%", "peer": "%DOWNSTREAM_PEER_SUBJECT%", "uri": "%DOWNSTREAM_PEER_URI_SAN%",
          "dns": "%DOWNSTREAM_PEER_DNS_SAN%", "failed": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%"}
COUNTERS = ["listener.$case.ssl.handshake", "listener.$case.ssl.connection_error", "listener.$case.ssl.fail_verify_no_cert",
            "listener.$case.ssl.fail_verify_error"]


def tls(name, run, **options):
    case(f"tls_{name}", run, **{"log_fields": FIELDS, "chain": down(), "counters": COUNTERS, **options})


tls("plain", over_tls(get("/1"), get("/2")))
tls("alpn_http1", over_tls(get("/"), alpn=["http/1.1"]), chain=down(common={"alpn_protocols": ["h2", "http/1.1"]}))
tls("alpn_h2", lambda c: client(ask(1, request(scheme="https")), tls=context(alpn=["h2", "http/1.1"]))(c),
    chain=down(common={"alpn_protocols": ["h2", "http/1.1"]}))
tls("alpn_none_in_common", over_tls(get("/"), alpn=["spdy"]), chain=down(common={"alpn_protocols": ["h2", "http/1.1"]}))
tls("version_12", over_tls(get("/"), version=ssl.TLSVersion.TLSv1_2))
tls("version_12_refused", over_tls(get("/"), version=ssl.TLSVersion.TLSv1_2), chain=down(common={
    "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"}}))
tls("version_13_refused", over_tls(get("/"), version=ssl.TLSVersion.TLSv1_3), chain=down(common={
    "tls_params": {"tls_maximum_protocol_version": "TLSv1_2"}}))
tls("plaintext_client", lambda c: (lambda x: (x.send(get("/")), x.end()))(c.connect()) and None)
TRUST = {"validation_context": {"trusted_ca": {"filename": "ca.crt"}}}
SHOWN = {"forward_client_cert_details": "SANITIZE_SET", "set_current_client_cert_details": {"subject": True, "dns": True, "uri": True}}
tls("client_required", over_tls(get("/"), certificate="client"), chain=down(common=TRUST, require_client_certificate=True), hcm=SHOWN)
tls("client_missing", over_tls(get("/")), chain=down(common=TRUST, require_client_certificate=True))
tls("client_stranger", over_tls(get("/"), certificate="stranger"), chain=down(common=TRUST, require_client_certificate=True))
tls("client_optional", over_tls(get("/")), chain=down(common=TRUST), hcm=SHOWN)
tls("client_san_matches", over_tls(get("/"), certificate="client"), chain=down(common={"validation_context": {
    "trusted_ca": {"filename": "ca.crt"}, "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"prefix": "spiffe://side/"}}]}}))
tls("client_san_differs", over_tls(get("/"), certificate="client"), chain=down(common={"validation_context": {
    "trusted_ca": {"filename": "ca.crt"}, "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": {"exact": "spiffe://x"}}]}},
    require_client_certificate=True), counters=[*COUNTERS, "listener.$case.ssl.fail_verify_san"])
for mode in ("SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"):
    tls(f"xfcc_{mode.lower()}", over_tls(get("/", "x-forwarded-client-cert: By=a;URI=b"), get("/"), certificate="client"),
        chain=down(common=TRUST, require_client_certificate=True),
        hcm={"forward_client_cert_details": mode, "set_current_client_cert_details": {"subject": True, "dns": True, "uri": True}})


def named_chains(self):
    chain = lambda name, names, body: {"filter_chain_match": {"server_names": names}, "name": name, **down(name), "filters": [
        self.http_manager(route_config={"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": body}}}]}]})]}
    return {"listener_filters": [{"name": "tls", "typed_config": typed(
        "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector")}],
        "filter_chains": [chain("server", ["example.com", "*.example.com"], "first"), chain("second", ["second.example"], "second")]}


for label, name in {"exact": "example.com", "suffix": "www.example.com", "second": "second.example", "upper": "SECOND.example",
                    "unknown": "other.example"}.items():
    tls(f"sni_{label}", over_tls(get("/"), server_name=name), listener=named_chains, chain={})
tls("sni_none", over_tls(get("/"), server_name=None), listener=named_chains, chain={})


def origin_tls(certificate="server", ask_client=False, alpn=None):
    def wrap(sock, record):
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(certificate + ".crt", certificate + ".key")
        if alpn:
            made.set_alpn_protocols(alpn)
        if ask_client:
            made.verify_mode = ssl.CERT_REQUIRED
            made.load_verify_locations("ca.crt")
        made.sni_callback = lambda s, name, c: record.append({"sni": name})
        try:
            sock = made.wrap_socket(sock, server_side=True)
        except OSError as error:
            record.append({"handshake": "failed"})
            raise OSError(str(error)) from None
        record.append({"alpn": sock.selected_alpn_protocol(), "client": bool(sock.getpeercert()) if ask_client else None})
        return sock
    return wrap


def to_tls(name, cluster, prepare=None, requests=(get("/"),), **options):
    case(f"up_tls_{name}", exchange(*requests), cluster=cluster, prepare=prepare or origin_tls(), **options)


to_tls("plain", up())
to_tls("sni", up(sni="example.com"))
to_tls("verified", up(TRUST, sni="example.com"))
to_tls("not_trusted", up({"validation_context": {"trusted_ca": {"filename": "other-ca.crt"}}}), counters=["cluster.$case.ssl.fail_verify_error"])
to_tls("san_matches", up({"validation_context": {"trusted_ca": {"filename": "ca.crt"}, "match_typed_subject_alt_names": [
    {"san_type": "DNS", "matcher": {"exact": "www.example.com"}}]}}))
to_tls("san_differs", up({"validation_context": {"trusted_ca": {"filename": "ca.crt"}, "match_typed_subject_alt_names": [
    {"san_type": "DNS", "matcher": {"exact": "nobody.example.org"}}]}}), counters=["cluster.$case.ssl.fail_verify_san"])
to_tls("client_certificate", up({**TRUST, "tls_certificates": [certificate("client")]}), origin_tls(ask_client=True))
to_tls("client_certificate_missing", up(), origin_tls(ask_client=True))
to_tls("alpn", up({"alpn_protocols": ["http/1.1"]}), origin_tls(alpn=["http/1.1"]))
case("up_tls_to_plain_origin", exchange(get("/")), cluster=up(), origin=[ok()], ignore=["origin*"])
