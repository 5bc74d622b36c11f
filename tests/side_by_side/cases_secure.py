"""TLS on both sides: versions, ciphers, ALPN, certificates by name and by key, client certificates, names, resumption, secrets,
transport-socket matches, and what the access log and the statistics say of all that."""
import base64
import hashlib
import re
import ssl
import subprocess

from .case import case, endpoint, merged, typed
from .client import get

TLS = "envoy.extensions.transport_sockets.tls.v3."
COUNTERS = ["listener.$case.ssl." + name for name in
            ["handshake", "connection_error", "session_reused", "no_certificate", "fail_verify_no_cert", "fail_verify_error",
             "fail_verify_san", "fail_verify_cert_hash"]]
UPSTREAM = ["cluster.$case.ssl." + name for name in
            ["handshake", "connection_error", "fail_verify_error", "fail_verify_san", "fail_verify_cert_hash", "no_certificate"]]
LOG = {"tls": "%DOWNSTREAM_TLS_VERSION%", "cipher": "%DOWNSTREAM_TLS_CIPHER%", "subject": "%DOWNSTREAM_PEER_SUBJECT%",
       "uri": "%DOWNSTREAM_PEER_URI_SAN%"}


def files(name):
    return {"certificate_chain": {"filename": name + ".crt"}, "private_key": {"filename": name + ".key"}}


def socket_of(kind, **context):
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": typed(TLS + kind, **context)}}


def down(certificates=("server",), common=None, **context):
    """For `chain=`: a filter chain that speaks TLS."""
    base = {"tls_certificates": [files(name) for name in certificates]}
    return socket_of("DownstreamTlsContext", common_tls_context=merged(base, common or {}), **context)


def up(common=None, **context):
    """For `cluster=`: connections that speak TLS."""
    return socket_of("UpstreamTlsContext", common_tls_context=common or {}, **context)


def trusting(**fields):
    return {"validation_context": {"trusted_ca": {"filename": "ca.crt"}, **fields}}


def named(kind, **matcher):
    return {"match_typed_subject_alt_names": [{"san_type": kind, "matcher": matcher}]}


def context(client, newest="1.3", oldest="1.2", certificate=None, alpn=(), ciphers=None, curve=None):
    out = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    out.check_hostname, out.verify_mode = False, ssl.CERT_NONE
    versions = {"1.0": ssl.TLSVersion.TLSv1, "1.1": ssl.TLSVersion.TLSv1_1, "1.2": ssl.TLSVersion.TLSv1_2,
                "1.3": ssl.TLSVersion.TLSv1_3}
    out.minimum_version, out.maximum_version = versions[oldest], versions[newest]
    if certificate:
        out.load_cert_chain(f"{client.folder}/{certificate}.crt", f"{client.folder}/{certificate}.key")
    if alpn:
        out.set_alpn_protocols(list(alpn))
    # Named, because what a Python offers first differs from one to the next, and so does then what Envoy chooses.
    out.set_ciphers(ciphers or "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE+AESGCM:ECDHE+CHACHA20:ECDHE+AES")
    if curve:
        out.set_ecdh_curve(curve)
    return out


def request(client, connection, path="/"):
    """One request; what TLS says only now (a certificate refused by TLS 1.3) is recorded as what it is."""
    if connection is None:
        return
    try:
        connection.send(get(path))
        connection.response()
    except ssl.SSLError as error:
        client.note("tls", error.reason)
    except OSError as error:
        client.note("broken", type(error).__name__)


def talk(server_name="example.com", path="/", with_certificate=False, **options):
    """A client that shakes hands, notes what came of it, and asks once."""
    def run(client):
        connection = client.connect(tls=context(client, **options), server_name=server_name)
        if connection is not None:
            sock = connection.socket
            client.note("handshake", [sock.version(), sock.cipher()[0], sock.selected_alpn_protocol()])
            if with_certificate:
                client.note("certificate", subject(sock))
        request(client, connection, path)
    return run


def subject(sock):
    text = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-subject"], input=sock.getpeercert(True),
                          stdout=subprocess.PIPE, check=True, timeout=10).stdout.decode()
    return re.sub(r"\s+", " ", text).strip()


def several(*runs):
    def run(client):
        for each in runs:
            each(client)
    return run


def simple(name, client, common=None, certificates=("server",), context_fields=None, **options):
    case("secure_" + name, client, chain=down(certificates, common, **(context_fields or {})), counters=COUNTERS,
         log_fields=LOG, **options)


# ---- versions, ciphers, ALPN

simple("default_13", talk())
simple("default_12", talk(newest="1.2"))
simple("alpn_server_prefers", talk(alpn=["http/1.1", "http/1.0"]), {"alpn_protocols": ["http/1.1", "h2"]})
simple("alpn_nothing_common", talk(alpn=["spdy/3"]), {"alpn_protocols": ["h2", "http/1.1"]})
simple("alpn_not_offered", talk(), {"alpn_protocols": ["h2", "http/1.1"]})
simple("alpn_not_configured", talk(alpn=["http/1.1"]))
simple("minimum_13", several(talk(newest="1.2"), talk()), {"tls_params": {"tls_minimum_protocol_version": "TLSv1_3"}})
simple("maximum_12", talk(), {"tls_params": {"tls_maximum_protocol_version": "TLSv1_2"}})
simple("below_minimum", talk(newest="1.1", oldest="1.0", ciphers="DEFAULT@SECLEVEL=0"))
simple("cipher_chosen", talk(newest="1.2"), {"tls_params": {"cipher_suites": ["ECDHE-ECDSA-AES256-GCM-SHA384"]}})
simple("cipher_none_common", talk(newest="1.2", ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"),
       {"tls_params": {"cipher_suites": ["ECDHE-ECDSA-AES256-GCM-SHA384"]}})
simple("cipher_group_of_equals", talk(newest="1.2", ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"),
       {"tls_params": {"cipher_suites": ["[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-CHACHA20-POLY1305]"]}})
simple("cipher_server_prefers", talk(newest="1.2", ciphers="ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"))
simple("cipher_client_prefers", talk(newest="1.2", ciphers="ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256"),
       context_fields={"prefer_client_ciphers": True})
simple("curve_chosen", talk(curve="secp384r1"), {"tls_params": {"ecdh_curves": ["P-384"]}})
simple("curve_none_common", talk(curve="secp521r1"))


def plain_text(client):
    connection = client.connect()
    connection.send(get())
    connection.end()


simple("plain_text_request", plain_text)


def nothing_said(client):
    client.connect().end(4.0)


case("secure_handshake_timeout", nothing_said, chain=merged(down(), {"transport_socket_connect_timeout": "1s"}), counters=[
    *COUNTERS, "listener.$case.downstream_cx_transport_socket_connect_timeout"])

# ---- certificates by name and by key

simple("names_exact", several(*[talk(server_name=name, with_certificate=True) for name in
                                ["second.example", "example.com", "www.example.com"]]), certificates=("server", "second"))
simple("names_unknown_takes_first", talk(server_name="third.example", with_certificate=True), certificates=("server", "second"))
simple("names_none_takes_first", talk(server_name=None, with_certificate=True), certificates=("second", "server"))
simple("key_by_client", several(talk(newest="1.2", ciphers="ECDHE-RSA-AES128-GCM-SHA256", with_certificate=True),
                                talk(newest="1.2", ciphers="ECDHE-ECDSA-AES128-GCM-SHA256", with_certificate=True)),
       certificates=("server", "rsa"))
simple("full_scan", talk(server_name="third.example", with_certificate=True), certificates=("rsa", "server"),
       context_fields={"full_scan_certs_on_sni_mismatch": True})

# ---- client certificates

simple("client_optional_absent", talk(), trusting())
simple("client_optional_given", talk(certificate="client"), trusting())
simple("client_optional_stranger", talk(certificate="stranger", newest="1.2"), trusting())
simple("client_required_absent", talk(newest="1.2"), trusting(), context_fields={"require_client_certificate": True})
simple("client_required_absent_13", talk(), trusting(), context_fields={"require_client_certificate": True})
simple("client_required_given", talk(certificate="client"), trusting(), context_fields={"require_client_certificate": True})
simple("client_untrusted_accepted", talk(certificate="stranger"),
       trusting(trust_chain_verification="ACCEPT_UNTRUSTED"))
simple("client_revoked", several(talk(certificate="client", newest="1.2"), talk(certificate="revoked", newest="1.2")),
       trusting(crl={"filename": "ca.crl"}))
for kind, key, value, good in [
        ("URI", "exact", "spiffe://side/ns/a/sa/b", True), ("URI", "exact", "spiffe://side/ns/a/sa", False),
        ("URI", "prefix", "spiffe://side/", True), ("URI", "suffix", "/sa/b", True), ("URI", "contains", "/ns/a/", True),
        ("URI", "safe_regex", {"regex": "spiffe://[a-z]+/ns/.*"}, True), ("URI", "safe_regex", {"regex": "spiffe"}, False),
        ("DNS", "exact", "client.example", True), ("DNS", "prefix", "server", False),
        ("IP_ADDRESS", "exact", "127.0.0.1", False)]:
    which = "good" if good else "bad"
    simple(f"san_{kind.lower()}_{key}_{which}", talk(certificate="client", newest="1.2"),
           trusting(**named(kind, **{key: value})))
# Where a name is asked for, so is the certificate that has it.
SPIFFE = named("URI", prefix="spiffe://side/")
simple("san_absent", talk(newest="1.2"), trusting(**SPIFFE))
simple("san_absent_13", talk(), trusting(**SPIFFE))
simple("san_absent_untrusted_accepted", talk(newest="1.2"), trusting(trust_chain_verification="ACCEPT_UNTRUSTED", **SPIFFE))
simple("client_revoked_in_bundle", several(talk(certificate="client", newest="1.2"), talk(certificate="revoked", newest="1.2")),
       {"validation_context": {"trusted_ca": {"filename": "ca-and-crl.crt"}}})
simple("client_of_intermediate", several(talk(certificate="deep", newest="1.2"), talk(certificate="client", newest="1.2")),
       {"validation_context": {"trusted_ca": {"filename": "intermediate.crt"}}})
simple("client_of_intermediate_not_revoked", talk(certificate="deep", newest="1.2"),
       {"validation_context": {"trusted_ca": {"filename": "intermediate.crt"}, "crl": {"filename": "intermediate.crl"}}})
simple("client_is_trusted_itself", several(talk(certificate="client", newest="1.2"), talk(certificate="workload", newest="1.2")),
       {"validation_context": {"trusted_ca": {"filename": "client.crt"}}})


def pinned(field, of, wrong=False):
    """A case whose configuration holds a hash of a certificate that is made for each run: a file written at start is not
    possible, so the connection manager is asked for what the hash is not."""
    return {"validation_context": {field: [of if not wrong else of[::-1]]}}


simple("hash_mismatch", talk(certificate="client", newest="1.2"),
       pinned("verify_certificate_hash", hashlib.sha256(b"nobody").hexdigest()))
simple("spki_mismatch", talk(certificate="client", newest="1.2"),
       pinned("verify_certificate_spki", base64.b64encode(hashlib.sha256(b"nobody").digest()).decode()))
simple("hash_absent", talk(newest="1.2"), pinned("verify_certificate_hash", hashlib.sha256(b"nobody").hexdigest()))
simple("spki_absent", talk(newest="1.2"),
       pinned("verify_certificate_spki", base64.b64encode(hashlib.sha256(b"nobody").digest()).decode()))


# ---- resumption

def twice(newest="1.2", other_name=None):
    def run(client):
        first_context = context(client, newest)
        first = client.connect(tls=first_context, server_name="example.com")
        request(client, first)
        session = first.socket.session
        sock = first_context.wrap_socket(__import__("socket").create_connection(("127.0.0.1", client.port)),
                                         server_hostname=other_name or "example.com", session=session)
        client.note("reused", sock.session_reused)
        sock.close()
    return run


simple("resumes_by_ticket_12", twice())
simple("resumes_by_ticket_13", twice("1.3"))
simple("resumes_by_id_12", twice(), context_fields={"disable_stateless_session_resumption": True})
simple("resumes_never", twice(), context_fields={"disable_stateless_session_resumption": True,
                                                 "disable_stateful_session_resumption": True})
simple("resumes_by_given_keys", twice(), context_fields={"session_ticket_keys": {"keys": [
    {"inline_bytes": base64.b64encode(bytes(range(80))).decode()}]}})

# ---- what is known of the client

simple("log_of_the_peer", talk(certificate="client"), trusting())
case("secure_forwarded_certificate", talk(certificate="client"), chain=down(common=trusting()), hcm={
    "forward_client_cert_details": "SANITIZE_SET",
    "set_current_client_cert_details": {"subject": True, "uri": True, "dns": True}},
     # The hash is that of a certificate which both sides share.
     counters=COUNTERS)

# ---- towards origins


def serving(name="server", alpn=(), ask=False, resumes=False):
    """For `prepare=`: the origin speaks TLS and records what it saw. Unless it `resumes`, it knows no session again."""
    kept = []

    def context_of_origin():
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(name + ".crt", name + ".key")
        if alpn:
            tls.set_alpn_protocols(list(alpn))
        if ask:
            tls.verify_mode = ssl.CERT_REQUIRED
            tls.load_verify_locations("ca.crt")
        return tls

    def prepare(sock, record):
        tls = kept[0] if kept else context_of_origin()
        if resumes and not kept:
            kept.append(tls)
        seen = {}
        tls.sni_callback = lambda _, server_name, __: seen.update(sni=server_name)
        try:
            sock = tls.wrap_socket(sock, server_side=True)
        except ssl.SSLError as error:
            record.append({"tls": error.reason})
            raise OSError("no handshake") from error
        seen.update(alpn=sock.selected_alpn_protocol(), version=sock.version())
        if ask:
            seen["peer"] = sock.getpeercert()["subjectAltName"]
        record.append(seen)
        return sock
    return prepare


def ask(client):
    connection = client.connect()
    connection.send(get())
    connection.response()


def origin(name, cluster, prepare=None, **options):
    case("secure_up_" + name, ask, prepare=prepare or serving(alpn=["http/1.1"]), cluster=cluster, counters=UPSTREAM,
         log_fields={"tls": "%UPSTREAM_TLS_VERSION%", "cipher": "%UPSTREAM_TLS_CIPHER%", "peer": "%UPSTREAM_PEER_SUBJECT%",
                     "dns": "%UPSTREAM_PEER_DNS_SAN%", "local": "%UPSTREAM_LOCAL_URI_SAN%"}, **options)


origin("unverified", up(sni="example.com"))
origin("without_sni", up())
origin("trusted", up(trusting(), sni="example.com"))
origin("untrusted", up({"validation_context": {"trusted_ca": {"filename": "other-ca.crt"}}}, sni="example.com"))
origin("named", up(trusting(**named("DNS", exact="www.example.com")), sni="example.com"))
origin("misnamed", up(trusting(**named("DNS", exact="other.example")), sni="example.com"))
origin("named_in_any_case", up(trusting(**named("DNS", exact="WWW.Example.com", ignore_case=True)), sni="example.com"))
origin("client_certificate_missing", up(sni="example.com"), prepare=serving(ask=True))
origin("client_certificate_missing_13", up({"tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}}, sni="example.com"),
       prepare=serving(ask=True))
origin("client_certificate", up({"tls_certificates": [files("client")], **trusting()}, sni="example.com"),
       prepare=serving(ask=True))
origin("newest_13", up({"tls_params": {"tls_maximum_protocol_version": "TLSv1_3"}}, sni="example.com"))
origin("alpn_configured", up({"alpn_protocols": ["x", "http/1.1"]}, sni="example.com"))
origin("plain_origin", up(sni="example.com"), prepare=lambda sock, record: sock, ignore=["origin*"])
origin("host_sni", merged(up(trusting(), auto_host_sni=True, auto_sni_san_validation=True), {"load_assignment": {
    "cluster_name": "$case", "endpoints": [{"lb_endpoints": [endpoint(endpoint={"hostname": "example.com"})]}]}}))
origin("host_sni_misnamed", merged(up(trusting(), auto_host_sni=True, auto_sni_san_validation=True), {"load_assignment": {
    "cluster_name": "$case", "endpoints": [{"lb_endpoints": [endpoint(endpoint={"hostname": "other.example"})]}]}}))
origin("host_sni_instead_of_names", merged(up(trusting(**named("DNS", exact="other.example")), auto_host_sni=True,
                                              auto_sni_san_validation=True), {"load_assignment": {
    "cluster_name": "$case", "endpoints": [{"lb_endpoints": [endpoint(endpoint={"hostname": "example.com"})]}]}}))


def matched(value):
    return {"metadata": {"filter_metadata": {"envoy.transport_socket_match": {"secure": value}}}}


def matches(value):
    return {"transport_socket_matches": [
        {"name": "secure", "match": {"secure": "yes"}, **up(sni="example.com")},
        {"name": "plain", "match": {}, "transport_socket": {"name": "raw", "typed_config": typed(
            "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")}}],
        "load_assignment": {"cluster_name": "$case", "endpoints": [{"lb_endpoints": [endpoint(**matched(value))]}]}}


origin("match_secure", matches("yes"))
origin("match_plain", matches("no"), prepare=lambda sock, record: sock)

# ---- TCP


def tcp_talk(client):
    connection = client.connect(tls=context(client), server_name="example.com")
    connection.send(get())
    connection.response()
    connection.end(0.2)


case("secure_tcp_both_sides", tcp_talk, tcp={}, chain=down(), prepare=serving(), cluster=up(sni="example.com"),
     counters=[*COUNTERS, *UPSTREAM], log_fields=LOG)

# ---- secrets

SECRETS = {"static_resources": {"secrets": [
    {"name": "server", "tls_certificate": files("server")},
    {"name": "roots", "validation_context": {"trusted_ca": {"filename": "ca.crt"}}}]}}
case("secure_static_secrets", talk(certificate="client"), bootstrap=SECRETS, counters=COUNTERS, log_fields=LOG,
     chain=socket_of("DownstreamTlsContext", require_client_certificate=True, common_tls_context={
         "tls_certificate_sds_secret_configs": [{"name": "server"}],
         "combined_validation_context": {"default_validation_context": named("URI", prefix="spiffe://side/"),
                                         "validation_context_sds_secret_config": {"name": "roots"}}}))
