"""What the admin port says of certificates (/certs). A bootstrap of its own: a process has one such page."""
import json
import os

from .case import case, typed
from .cases_secure import TLS, down, files, trusting, up
from .side import admin


def page(client):
    every = json.loads(admin("/certs"))["certificates"]
    client.note("certificates", sorted(every, key=lambda each: json.dumps(each, sort_keys=True)))


def text(path):
    """Of a file of the run; none where configurations are only looked at (tools/check_fields.py)."""
    if not os.path.exists(path):
        return ""
    with open(path, encoding="ascii") as file:
        return file.read()


def chain_of(each, name, common):
    socket = {"name": "tls", "typed_config": typed(TLS + "DownstreamTlsContext", common_tls_context=common)}
    return {"name": name, "filter_chain_match": {"server_names": [name]}, "filters": each.network_filters(), "transport_socket": socket}


def chains(each):
    inline = {"certificate_chain": {"inline_string": text("server.crt")}, "private_key": {"inline_string": text("server.key")}}
    return {"filter_chains": [
        chain_of(each, "two.example", {"tls_certificates": [files("server"), files("rsa")], **trusting()}),
        chain_of(each, "inline.example", {"tls_certificates": [inline]}),
        chain_of(each, "store.example", {"tls_certificates": [{"pkcs12": {"filename": "second.p12"}, "password": {"inline_string": "secret"}}]}),
        chain_of(each, "stapled.example", {"tls_certificates": [{**files("server"), "ocsp_staple": {"filename": "server.ocsp"}}]}),
        chain_of(each, "secret.example", {"tls_certificate_sds_secret_configs": [{"name": "workload"}],
                                          "validation_context_sds_secret_config": {"name": "ca"}}),
    ], "default_filter_chain": {"filters": each.network_filters(), **down(("expired",))}}


SECRETS = {"static_resources": {"secrets": [
    {"name": "workload", "tls_certificate": files("workload")}, {"name": "ca", "validation_context": {"trusted_ca": {"filename": "ca.crt"}}}]}}
case("certs_of_all_contexts", page, bootstrap=SECRETS, listener=chains, cluster=up({"tls_certificates": [files("client")], **trusting()}),
     clusters={"nothing": up(), "plain": {}})
case("certs_of_none", page, bootstrap={"node": {"cluster": "certs_of_none"}})
