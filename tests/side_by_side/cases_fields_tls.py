"""Fields of the TLS contexts that no other case sets: stapling, revocation, depth, old and rare names, tickets, sessions, keys
under a password; and towards origins sessions, the protocol by ALPN, keys that may not sign."""
import base64
import re
import subprocess

from .case import UPSTREAM_HTTP, case, merged, typed
from .cases_secure import COUNTERS, files, origin, serving, simple, socket_of, talk, trusting, twice, up
from .client import exchange, get
from .h2_peers import exchange as h2_exchange
from .h2_peers import ok as h2_ok
from .h2_peers import origin as h2_origin

PASSWORD = {"password": {"inline_string": "secret"}}
TICKET_KEYS = {"keys": [{"inline_bytes": base64.b64encode(bytes(range(80))).decode()}]}


def s_client(client, *arguments):
    """What openssl's client prints of a handshake; Python's does not tell of staples and tickets."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{client.port}", "-servername", "example.com", *arguments]
    done = subprocess.run(command, input=b"", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, check=False)
    return done.stdout.decode("latin1")


def stapled(client):
    text = s_client(client, "-status")
    found = re.search(r"OCSP response: (.*)|OCSP Response Status: (\w+)", text)
    client.note("staple", [part for part in found.groups() if part] if found else "no handshake")
    if found:
        client.note("shaken", "Cipher is (NONE)" not in text)


def with_staple(name, answer, policy=None, certificate="server"):
    fields = {"ocsp_staple_policy": policy} if policy else {}
    case("secure_ocsp_" + name, stapled, counters=[*COUNTERS, *[f"listener.$case.ssl.ocsp_staple_{each}" for each in
                                                               ("requests", "responses", "omitted", "failed")]],
         chain=socket_of("DownstreamTlsContext", common_tls_context={"tls_certificates": [{
             **files(certificate), **({"ocsp_staple": {"filename": answer}} if answer else {})}]}, **fields))


with_staple("given", "server.ocsp")
with_staple("none", None)
with_staple("endless", "server-endless.ocsp")
with_staple("endless_strict", "server-endless.ocsp", "STRICT_STAPLING")
with_staple("old_omitted", "server-old.ocsp")
with_staple("old_strict", "server-old.ocsp", "STRICT_STAPLING")
with_staple("none_strict", None, "STRICT_STAPLING")
with_staple("must", "server.ocsp", "MUST_STAPLE")
with_staple("must_old", "server-old.ocsp", "MUST_STAPLE")
with_staple("certificate_that_must", "must-staple.ocsp", certificate="must-staple")
with_staple("certificate_that_must_old", "must-staple-old.ocsp", certificate="must-staple")

# ---- the server's certificate

case("secure_pkcs12", talk(server_name="second.example", with_certificate=True), counters=COUNTERS, chain=socket_of(
    "DownstreamTlsContext", common_tls_context={"tls_certificates": [{"pkcs12": {"filename": "second.p12"}, **PASSWORD}]}))
case("secure_key_under_password", talk(server_name="second.example", with_certificate=True), counters=COUNTERS, chain=socket_of(
    "DownstreamTlsContext", common_tls_context={"tls_certificates": [{
        "certificate_chain": {"filename": "second.crt"}, "private_key": {"filename": "locked.key"}, **PASSWORD}]}))
simple("sni_required", lambda client: [talk(server_name=None)(client), talk()(client)], context_fields={"require_sni": True})
simple("sni_not_required", talk(server_name=None), context_fields={"require_sni": False})
simple("full_scan_off", talk(server_name="third.example", with_certificate=True, newest="1.2"), certificates=("rsa", "server"),
       context_fields={"full_scan_certs_on_sni_mismatch": False})
simple("full_scan_on", talk(server_name="third.example", with_certificate=True, newest="1.2", ciphers="ECDHE-ECDSA-AES128-GCM-SHA256"),
       certificates=("rsa", "server"), context_fields={"full_scan_certs_on_sni_mismatch": True})
simple("signature_none_common", talk(), {"tls_params": {"signature_algorithms": ["rsa_pss_rsae_sha256"]}})

# ---- the client's certificate

simple("expired_refused", talk(certificate="expired", newest="1.2"), trusting())
simple("expired_allowed", talk(certificate="expired", newest="1.2"), trusting(allow_expired_certificate=True))
simple("depth_enough", talk(certificate="deep", newest="1.2"), trusting(max_verify_depth=2))
simple("depth_too_small", talk(certificate="deep", newest="1.2"), trusting(max_verify_depth=1))
simple("depth_of_two", talk(certificate="client", newest="1.2"), trusting(max_verify_depth=1))
simple("depth_of_one", talk(certificate="client", newest="1.2"), trusting(max_verify_depth=0))
simple("crl_of_all", talk(certificate="deep", newest="1.2"), trusting(crl={"filename": "intermediate.crl"}))
simple("crl_of_leaf", talk(certificate="deep", newest="1.2"), trusting(crl={"filename": "intermediate.crl"}, only_verify_leaf_cert_crl=True))
simple("system_roots", talk(certificate="client", newest="1.2"), {"validation_context": {"system_root_certs": {}}})
OTHER = {"san_type": "OTHER_NAME", "oid": "1.3.6.1.4.1.311.20.2.3"}
simple("other_name", talk(certificate="other-name", newest="1.2"), trusting(match_typed_subject_alt_names=[
    {**OTHER, "matcher": {"exact": "user@side.example"}}]))
simple("other_name_of_another_kind", talk(certificate="other-name", newest="1.2"), trusting(match_typed_subject_alt_names=[
    {**OTHER, "oid": "1.2.3.4", "matcher": {"exact": "user@side.example"}}]))
simple("untyped_name", talk(certificate="client", newest="1.2"), trusting(match_subject_alt_names=[{"exact": "client.example"}]))
simple("untyped_name_differs", talk(certificate="client", newest="1.2"), trusting(match_subject_alt_names=[{"exact": "x.example"}]))
simple("signature_of_client", talk(certificate="client"), {**trusting(), "tls_params": {
    "signature_algorithms": ["ecdsa_secp256r1_sha256"]}}, context_fields={"require_client_certificate": True})
CERT = {"forward_client_cert_details": "SANITIZE_SET"}
for label, details in {"nothing": {}, "cert": {"cert": True}, "subject": {"subject": True}, "dns": {"dns": True}, "uri": {"uri": True}}.items():
    simple("xfcc_by_us_" + label, talk(certificate="client"), trusting(), certificates=("workload",),
           hcm={**CERT, "set_current_client_cert_details": details})

# ---- tickets and sessions


def ticket(client):
    """The name of the key that a ticket is under, and how long it may be used."""
    text = s_client(client, "-tls1_2")
    client.note("lifetime", [round(int(each), -1) for each in re.findall(r"TLS session ticket lifetime hint: (\d+)", text)])
    client.note("key", re.findall(r"TLS session ticket:\s+0000 - ((?:[0-9a-f]{2}[ -]){16})", text))


simple("ticket_of_given_key", ticket, context_fields={"session_ticket_keys": TICKET_KEYS})
simple("ticket_lifetime", ticket, context_fields={"session_timeout": "100s", "session_ticket_keys": TICKET_KEYS})
simple("ticket_none", ticket, context_fields={"disable_stateless_session_resumption": True})
simple("ticket_none_13", twice("1.3"), context_fields={"disable_stateless_session_resumption": True})
TICKETS = {"static_resources": {"secrets": [{"name": "tickets", "session_ticket_keys": TICKET_KEYS}]}}
NAMED = {"static_resources": {"secrets": [
    {"name": "server", "tls_certificate": files("server")}, {"name": "ca", "validation_context": {"trusted_ca": {"filename": "ca.crt"}}}]}}
case("secure_static_secrets_and_a_name", talk(certificate="client", newest="1.2"), bootstrap=NAMED, counters=COUNTERS, chain=socket_of(
    "DownstreamTlsContext", require_client_certificate=True, common_tls_context={
        "tls_certificate_sds_secret_configs": [{"name": "server"}], "combined_validation_context": {
            "default_validation_context": {"match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "x.example"}}]},
            "validation_context_sds_secret_config": {"name": "ca"}}}))
ROOTS = {"static_resources": {"secrets": [
    {"name": "roots", "validation_context": {"trusted_ca": {"filename": "ca.crt"}, "match_typed_subject_alt_names": [
        {"san_type": "DNS", "matcher": {"exact": "client.example"}}]}}]}}
simple("ticket_of_secret", ticket, bootstrap=TICKETS, context_fields={"session_ticket_keys_sds_secret_config": {"name": "tickets"}})
simple("trust_of_secret", lambda client: [talk(certificate=name, newest="1.2")(client) for name in ("client", "expired", "workload")],
       {"validation_context_sds_secret_config": {"name": "roots"}}, bootstrap=ROOTS)

# ---- what failed


def of_listener(client):
    """A handshake that fails: only the log of the listener tells of it."""
    talk(newest="1.2", ciphers="ECDHE-RSA-AES128-GCM-SHA256")(client)


LISTENER_LOG = [{"name": "log", "typed_config": typed("envoy.extensions.access_loggers.file.v3.FileAccessLog", path="logs/$case", log_format={
    "json_format": {"failed": "%DOWNSTREAM_TRANSPORT_FAILURE_REASON%", "flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%",
                    "name": "%REQUESTED_SERVER_NAME%", "tls": "%DOWNSTREAM_TLS_VERSION%", "remote": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}})}]
for label, run, common in [
        ("no_cipher", of_listener, {}),
        ("no_version", talk(newest="1.2"), {"tls_params": {"tls_minimum_protocol_version": "TLSv1_3"}}),
        ("stranger", talk(certificate="stranger", newest="1.2"), trusting()),
        ("good", talk(), {})]:
    simple("listener_log_" + label, run, common, listener={"access_log": LISTENER_LOG}, hcm={"access_log": []})

# ---- towards origins


def twice_resumed():
    serve = serving(resumes=True)

    def prepare(sock, record):
        made = serve(sock, record)
        record.append({"resumed": made.session_reused})
        return made
    return prepare


case("secure_up_session_kept", exchange(get("/1"), get("/2")), prepare=twice_resumed(), cluster=merged(
    up({"tls_params": {"tls_maximum_protocol_version": "TLSv1_2"}}, sni="example.com", max_session_keys=2), {"max_requests_per_connection": 1}))
case("secure_up_session_not_kept", exchange(get("/1"), get("/2")), prepare=twice_resumed(), cluster=merged(
    up({"tls_params": {"tls_maximum_protocol_version": "TLSv1_2"}}, sni="example.com", max_session_keys=0), {"max_requests_per_connection": 1}))
OLD = {**trusting(), "tls_params": {"tls_maximum_protocol_version": "TLSv1_2"}}
origin("key_usage_ignored", up(OLD, sni="example.com", enforce_rsa_key_usage=False), prepare=serving("rsa-encipher"))
origin("key_usage_enforced", up(OLD, sni="example.com", enforce_rsa_key_usage=True), prepare=serving("rsa-encipher"))


def by_alpn(**options):
    return merged(up(sni="example.com"), {"typed_extension_protocol_options": {UPSTREAM_HTTP: typed(
        UPSTREAM_HTTP, auto_config=options)}})


TWICE = ["counters.cluster.$case.upstream_cx_total"]  # Envoy counts the connection again when its protocol is known
BOTH = {"http_protocol_options": {"header_key_format": {"proper_case_words": {}}}, "http2_protocol_options": {"max_concurrent_streams": 7}}
case("secure_up_alpn_chooses_http2", exchange(get("/a"), get("/b")), prepare=serving(alpn=["h2", "http/1.1"]), origin=h2_origin(h2_ok),
     cluster=by_alpn(**BOTH), ignore=TWICE)
case("secure_up_alpn_of_an_http2_client", h2_exchange({"path": "/a"}), prepare=serving(alpn=["http/1.1"]), cluster=by_alpn(**BOTH),
     ignore=TWICE)


def notes_window(server, stream, message):
    server.wire.record.append({"window": server.settings.get(4)})
    h2_ok(server, stream, message)


case("secure_up_alpn_http2_options", exchange(get("/a")), prepare=serving(alpn=["h2"]), origin=h2_origin(notes_window),
     cluster=by_alpn(http2_protocol_options={"initial_stream_window_size": 70000}), ignore=TWICE)
origin("alpn_chooses_http1", by_alpn(**BOTH), prepare=serving(alpn=["http/1.1"]), ignore=TWICE)
origin("alpn_not_negotiated", by_alpn(**BOTH), prepare=serving(), ignore=TWICE)
