#!/usr/bin/env python3
"""TLS of postern-proxy under attack and while certificates are exchanged: bytes before the handshake, renegotiation, huge
chains, names with NUL, an expired revocation list, resumption across listeners, two identities towards one origin, thousands
of silent clients, secrets from files. Every test prints the bound it saw: memory, and the p99 of a client that behaves, at the same
moment.

Certificates are made by openssl; ports are chosen by the kernel, files live in a temporary folder, every process started
here is ended here. Environment: POSTERN_BIN (default bin).
"""
import concurrent.futures
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from attack_harness import PATIENCE, Bystander, waited_ms  # noqa: E402 (after the path)
from side_by_side import certificates  # noqa: E402
from thread_server import ThreadServer  # noqa: E402

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROXY = os.path.join(os.environ.get("POSTERN_BIN", os.path.join(ROOT, "bin")), "postern-proxy")
TYPE = "type.googleapis.com/envoy."
TLS = "extensions.transport_sockets.tls.v3."
REQUEST = b"GET / HTTP/1.1\r\nhost: example.com\r\n\r\n"
MEMORY_BYTES_MAX = 32 << 20  # what an attack may cost the process
SECONDS_MAX = 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def typed(kind, **fields):
    return {"@type": TYPE + kind, **fields}


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def manager(name, cluster=None):
    action = {"route": {"cluster": cluster, "timeout": "5s"}} if cluster else {
        "direct_response": {"status": 200, "body": {"inline_string": name}}}
    return [{"name": "http", "typed_config": typed(
        "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix=name,
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **action}]}]},
        http_filters=[{"name": "router", "typed_config": typed("extensions.filters.http.router.v3.Router")}])}]


class Proxy:
    """A proxy of one configuration, in a folder of its own with all certificates."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="postern-tls-")
        certificates.make(os.path.join(self.folder, "made"))
        certificates.copy(os.path.join(self.folder, "made"), self.folder)
        self.admin = free_port()
        self.listeners, self.clusters, self.process, self.bystander, self.before, self.waited = [], [], None, None, 0, 0

    def files(self, name):
        return {"certificate_chain": {"filename": f"{self.folder}/{name}.crt"},
                "private_key": {"filename": f"{self.folder}/{name}.key"}}

    def trust(self, name="ca", **more):
        return {"trusted_ca": {"filename": f"{self.folder}/{name}.crt"}, **more}

    def listen(self, name, common=None, cluster=None, timeout=None, tls=True, **context):
        port = free_port()
        chain = {"filters": manager(name, cluster)}
        if tls:
            common = {**({} if common and "tls_certificate_sds_secret_configs" in common else
                         {"tls_certificates": [self.files("server")]}), **(common or {})}
            chain["transport_socket"] = {"name": "tls", "typed_config": typed(
                TLS + "DownstreamTlsContext", common_tls_context=common, **context)}
        if timeout:
            chain["transport_socket_connect_timeout"] = timeout
        self.listeners.append({"name": name, "stat_prefix": name, "address": address(port), "filter_chains": [chain]})
        return port

    def cluster(self, name, port, common=None, **context):
        self.clusters.append({"name": name, "connect_timeout": "2s", "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address(port)}}]}]}, "transport_socket": {
                "name": "tls", "typed_config": typed(TLS + "UpstreamTlsContext", common_tls_context=common or {}, **context)}})

    def start(self, answers=lambda self: "LIVE" in self.ask("/ready")):
        good = self.listen("/bystander", tls=False)
        path = os.path.join(self.folder, "bootstrap.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"admin": {"address": address(self.admin)},
                       "static_resources": {"listeners": self.listeners, "clusters": self.clusters}}, file)
        with open(os.path.join(self.folder, "output"), "wb") as output:
            self.process = subprocess.Popen([PROXY, "-c", path, "--concurrency", "2", "-l", "warning", "--drain-time-s", "1"],
                                            stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        eventually(lambda: answers(self))
        self.before, self.waited = self.memory(), waited_ms(self.process.pid)
        self.bystander = Bystander(good)

    def judge(self):
        """What the test cost the process and a client that behaves."""
        self.bystander.stop = True
        self.bystander.thread.join(PATIENCE)
        grown, p99 = self.memory() - self.before, self.bystander.p99_ms()
        bound = self.bystander.bound_ms(waited_ms(self.process.pid) - self.waited)
        assert self.bystander.failed == 0, f"{self.bystander.failed} requests of the bystander failed"
        assert grown < MEMORY_BYTES_MAX, f"{grown >> 20} MB"
        assert p99 < bound, f"p99 {p99:.1f} ms, bound {bound:.1f} ms"
        return f"{grown / (1 << 20):+.1f} MB, bystander p99 {p99:.1f} ms"

    def ask(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}{path}", timeout=10) as answer:
            return answer.read().decode()

    def counter(self, name):
        found = re.search(rf"^{re.escape(name)}: (\d+)$", self.ask("/stats"), re.MULTILINE)
        return int(found.group(1)) if found else 0

    def memory(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as file:
            return int(re.search(r"RssAnon:\s+(\d+) kB", file.read()).group(1)) * 1024

    def close(self):
        if self.bystander:
            self.bystander.stop = True
        if self.process:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def eventually(check, seconds=SECONDS_MAX):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if check():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "did not happen"
        time.sleep(0.02)


def context(certificate=None, folder=None, newest=None):
    out = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    out.check_hostname, out.verify_mode = False, ssl.CERT_NONE
    if newest:
        out.maximum_version = newest
    if certificate:
        out.load_cert_chain(f"{folder}/{certificate}.crt", f"{folder}/{certificate}.key")
    return out


def dial(port, tls, session=None):
    return tls.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=10), server_hostname="example.com",
                           session=session)


def exchange(sock):
    sock.sendall(REQUEST)
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            break
        data += piece
    return data


def status(sock):
    try:
        line = exchange(sock).split(b"\r\n")[0].decode()
    except OSError:
        return 0
    return int(line.split(" ")[1]) if line else 0


# ---- bytes before the handshake


def test_plain_text_before_the_handshake_is_no_request(proxy):
    port = proxy.listen("plain")
    proxy.start()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(REQUEST)
        data = b""
        while piece := sock.recv(4096):
            data += piece
    assert b"HTTP/1.1" not in data and len(data) < 64, data
    eventually(lambda: proxy.counter("listener.plain.ssl.connection_error") == 1)
    assert proxy.counter("http.plain.downstream_rq_total") == 0
    return f"{len(data)} bytes answered, 0 requests"


def test_plain_text_of_an_origin_is_no_answer(proxy):
    seen = []

    def inject(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfalse")
        seen.append(sock.recv(4096)[:1])
    origin = ThreadServer(inject, timeout=10)
    proxy.cluster("origin", origin.port)
    port = proxy.listen("front", cluster="origin", tls=False)
    proxy.start()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        answer = exchange(sock)
    assert b" 503 " in answer.split(b"\r\n")[0] and b"false" not in answer, answer
    assert proxy.counter("cluster.origin.ssl.connection_error") >= 1
    return "503, nothing of the injected bytes"


# ---- passed on by the name


def test_a_chain_passes_on_to_the_cluster_of_the_name(proxy):
    seen = {"one.example": [], "two.example": []}
    for name, first in seen.items():
        origin = ThreadServer(lambda sock, first=first: first.append(sock.recv(4096)), timeout=10)
        proxy.clusters.append({"name": name, "connect_timeout": "2s", "load_assignment": {"cluster_name": name, "endpoints": [
            {"lb_endpoints": [{"endpoint": {"address": address(origin.port)}}]}]}})
    port = free_port()
    proxy.listeners.append({
        "name": "pass", "address": address(port),
        "listener_filters": [{"name": "tls", "typed_config": typed("extensions.filters.listener.tls_inspector.v3.TlsInspector")}],
        "filter_chains": [{"filters": [
            {"name": "sni", "typed_config": typed("extensions.filters.network.sni_cluster.v3.SniCluster")},
            {"name": "tcp", "typed_config": typed("extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="pass",
                                                  cluster="two.example")}]}]})
    proxy.start()
    # The name chooses; an unknown one finds no cluster; without a name it is the one that is configured.
    for name in ("one.example", "unknown.example", None):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            try:
                context().wrap_socket(sock, server_hostname=name)
            except OSError:
                pass  # the origins speak no TLS
    eventually(lambda: len(seen["one.example"]) == 1 and len(seen["two.example"]) == 1)
    assert b"one.example" in seen["one.example"][0] and seen["two.example"][0][:1] == b"\x16"
    assert proxy.counter("tcp.pass.downstream_cx_no_route") == 1
    return "2 passed on, 1 without a cluster"


# ---- the handshake as a weapon


def test_renegotiation_is_refused(proxy):
    port = proxy.listen("renegotiate")
    proxy.start()
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-tls1_2"], input=b"R\n" * 20, timeout=30,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    handshakes = proxy.counter("listener.renegotiate.ssl.handshake")
    assert handshakes == 1, done.stdout[-600:]
    return f"{handshakes} handshake for 20 attempts"


def test_a_huge_chain_has_a_bound(proxy):
    port = proxy.listen("chain", {"validation_context": proxy.trust()}, require_client_certificate=True)
    proxy.start()
    with open(f"{proxy.folder}/client.crt", encoding="ascii") as file:
        one = file.read()
    with open(f"{proxy.folder}/huge.crt", "w", encoding="ascii") as file:
        file.write(one * 400)
    shutil.copy(f"{proxy.folder}/client.key", f"{proxy.folder}/huge.key")
    before = proxy.memory()
    tls = context("huge", proxy.folder, ssl.TLSVersion.TLSv1_2)
    refused = 0
    for _ in range(50):
        try:
            if status(dial(port, tls)) == 0:
                refused += 1
        except OSError:
            refused += 1
    grown = proxy.memory() - before
    assert refused == 50 and grown < MEMORY_BYTES_MAX, (refused, grown)
    assert status(dial(port, context("client", proxy.folder))) == 200
    return f"50 chains of 400 certificates refused, {grown // 1024} KB more"


def test_silent_clients_do_not_keep_others_out(proxy):
    port = proxy.listen("slow", timeout="1s")
    proxy.start()
    before = proxy.memory()
    silent = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(400)]
    times = []
    for _ in range(100):
        begin = time.monotonic()
        with dial(port, context()) as sock:
            assert status(sock) == 200
        times.append(time.monotonic() - begin)
    grown = proxy.memory() - before
    assert grown < MEMORY_BYTES_MAX, grown
    ended = 0
    for sock in silent:
        sock.settimeout(5)
        try:
            ended += sock.recv(1) == b""
        except ConnectionResetError:
            ended += 1
        sock.close()
    assert ended == 400
    assert proxy.counter("listener.slow.downstream_cx_transport_socket_connect_timeout") == 400
    times.sort()
    return f"p99 {times[98] * 1000:.1f} ms beside 400 silent clients, {grown // 1024} KB, all closed after 1 s"


def test_handshake_bytes_in_drops(proxy):
    port = proxy.listen("drops", timeout="1s")
    proxy.start()
    hello = ssl.MemoryBIO()
    try:
        context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="example.com").do_handshake()
    except ssl.SSLWantReadError:
        pass
    raw = hello.read()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        begin = time.monotonic()
        for byte in raw[:-1]:
            try:
                sock.sendall(bytes([byte]))
            except OSError:
                break
            time.sleep(0.01)
        sock.settimeout(5)
        try:
            ended = sock.recv(1) == b""
        except OSError:
            ended = True
        took = time.monotonic() - begin
    assert ended and took < 6, took
    return f"a ClientHello byte by byte was ended after {took:.1f} s"


# ---- trust


def make_client(folder, name, extension_section):
    """A client certificate of the test's authority with extensions of its own."""
    with open(f"{folder}/{name}.cnf", "w", encoding="ascii") as file:
        file.write("[req]\ndistinguished_name=dn\nprompt=no\n[dn]\nCN=odd\n[ext]\n" + extension_section)
    for command in (["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key"],
                    ["req", "-new", "-key", f"{name}.key", "-config", f"{name}.cnf", "-out", f"{name}.csr"],
                    ["x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                     "-extfile", f"{name}.cnf", "-extensions", "ext", "-out", f"{name}.crt"]):
        certificates.openssl(folder, *command)


def test_a_name_with_nul_matches_nothing(proxy):
    common = {"validation_context": proxy.trust(match_typed_subject_alt_names=[
        {"san_type": "DNS", "matcher": {"prefix": "client.example"}}])}
    port = proxy.listen("nul", common, require_client_certificate=True)
    # DNS:client.example\0.evil as DER: [2] of 20 bytes.
    name = b"client.example\0.evil"
    der = bytes([0x30, len(name) + 2, 0x82, len(name)]) + name
    make_client(proxy.folder, "nul", "subjectAltName=DER:" + ":".join(f"{b:02x}" for b in der) + "\n")
    proxy.start()
    try:
        code = status(dial(port, context("nul", proxy.folder)))
    except OSError:
        code = 0
    assert code == 0, code
    eventually(lambda: proxy.counter("listener.nul.ssl.fail_verify_san") == 1)
    assert status(dial(port, context("client", proxy.folder))) == 200
    return "refused, counted in fail_verify_san"


def test_a_server_certificate_is_no_client_certificate(proxy):
    port = proxy.listen("usage", {"validation_context": proxy.trust()}, require_client_certificate=True)
    make_client(proxy.folder, "usage", "extendedKeyUsage=serverAuth\n")
    proxy.start()
    try:
        code = status(dial(port, context("usage", proxy.folder)))
    except OSError:
        code = 0
    assert code == 0, code
    eventually(lambda: proxy.counter("listener.usage.ssl.fail_verify_error") == 1)
    return "refused by its extended key usage"


def test_an_expired_revocation_list_lets_nobody_in(proxy):
    certificates.openssl(proxy.folder + "/made", "ca", "-gencrl", "-config", "revocation.cnf", "-keyfile", "ca.key", "-cert",
                         "ca.crt", "-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200201000000Z", "-out", "old.crl")
    shutil.copy(proxy.folder + "/made/old.crl", proxy.folder)
    old = proxy.listen("old", {"validation_context": proxy.trust(crl={"filename": proxy.folder + "/old.crl"})},
                       require_client_certificate=True)
    new = proxy.listen("new", {"validation_context": proxy.trust(crl={"filename": proxy.folder + "/ca.crl"})},
                       require_client_certificate=True)
    proxy.start()
    codes = []
    for port, name in ((old, "client"), (new, "client"), (new, "revoked")):
        try:
            codes.append(status(dial(port, context(name, proxy.folder))))
        except OSError:
            codes.append(0)
    assert codes == [0, 200, 0], codes
    return "expired list: refused; current list: good one in, revoked one out"


def test_a_session_stays_where_its_trust_is(proxy):
    lax = proxy.listen("lax", {"validation_context": proxy.trust("other-ca")})
    strict = proxy.listen("strict", {"validation_context": proxy.trust()}, require_client_certificate=True)
    same = proxy.listen("same", {"validation_context": proxy.trust("other-ca")})
    proxy.start()
    seen = []
    for newest in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        tls = context("stranger", proxy.folder, newest)
        with dial(lax, tls) as sock:
            assert status(sock) == 200
            session = sock.session
        with dial(same, tls, session) as sock:
            seen.append(sock.session_reused)
        reused, code = False, 0
        try:
            with dial(strict, tls, session) as sock:
                reused, code = sock.session_reused, status(sock)
        except OSError:
            pass
        seen += [reused, code]
    assert seen == [True, False, 0] * 2, seen
    assert proxy.counter("listener.strict.ssl.session_reused") == 0
    return "resumed under the same trust, never under another (1.2 and 1.3)"


def test_two_identities_share_no_connection(proxy):
    served = []

    def serve(sock):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(f"{proxy.folder}/server.crt", f"{proxy.folder}/server.key")
        tls.verify_mode = ssl.CERT_REQUIRED
        tls.load_verify_locations(f"{proxy.folder}/ca.crt")
        sock = tls.wrap_socket(sock, server_side=True)
        subject = dict(part[0] for part in sock.getpeercert()["subject"])["commonName"]
        served.append((subject, sock.session_reused))
        data = b""
        while True:
            piece = sock.recv(65536)
            if not piece:
                return
            data += piece
            while b"\r\n\r\n" in data:
                data = data.split(b"\r\n\r\n", 1)[1]
                body = subject.encode()
                sock.sendall(b"HTTP/1.1 200 OK\r\nx-as: %s\r\ncontent-length: 0\r\n\r\n" % body)
    origin = ThreadServer(serve, timeout=10)
    ports = {}
    for name in ("client", "second", "revoked"):
        proxy.cluster(name, origin.port, {"tls_certificates": [proxy.files(name)]}, sni="example.com")
        ports[name] = proxy.listen("as_" + name, cluster=name, tls=False)
    proxy.start()

    def ask(name):
        with socket.create_connection(("127.0.0.1", ports[name]), timeout=10) as sock:
            for _ in range(20):
                answer = exchange(sock).decode()
                assert f"x-as: {names[name]}\r\n" in answer, (name, answer)
    names = {"client": "client", "second": "second.example", "revoked": "revoked"}
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, ["client", "second", "revoked"] * 4))
    assert {subject for subject, _ in served} == set(names.values())
    return f"240 requests under 3 identities over {len(served)} connections, each under its own"


def test_a_key_is_used_as_its_certificate_allows(proxy):
    """A key for encryption only, which an origin uses to sign. (Envoy's library refuses it whatever the field says.)"""
    def serve(sock):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(f"{proxy.folder}/rsa-encipher.crt", f"{proxy.folder}/rsa-encipher.key")
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        sock = tls.wrap_socket(sock, server_side=True)
        sock.recv(65536)
        sock.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    origin = ThreadServer(serve, timeout=10)
    ways = {"unset": {}, "enforced": {"enforce_rsa_key_usage": True}, "ignored": {"enforce_rsa_key_usage": False}}
    ports = {}
    for name, fields in ways.items():
        proxy.cluster(name, origin.port, {"validation_context": proxy.trust()}, sni="example.com", **fields)
        ports[name] = proxy.listen("to_" + name, cluster=name, tls=False)
    proxy.start()
    seen = {}
    for name, port in ports.items():
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            seen[name] = status(sock)
    assert seen == {"unset": 503, "enforced": 503, "ignored": 200}, seen
    eventually(lambda: proxy.counter("cluster.ignored.ssl.was_key_usage_invalid") == 1)
    origin.close()
    return "refused, unless enforce_rsa_key_usage says otherwise"


# ---- secrets


def test_files_are_exchanged_without_dropping_connections(proxy):
    live = proxy.folder + "/live"
    os.makedirs(live)

    def put(name):
        for end in ("crt", "key"):
            shutil.copy(f"{proxy.folder}/{name}.{end}", f"{live}/.next.{end}")
        for end in ("key", "crt"):
            os.rename(f"{live}/.next.{end}", f"{live}/tls.{end}")
    put("server")
    pair = {"certificate_chain": {"filename": live + "/tls.crt"}, "private_key": {"filename": live + "/tls.key"},
            "watched_directory": {"path": live}}
    with open(proxy.folder + "/sds.yaml", "w", encoding="ascii") as file:
        json.dump({"resources": [typed(TLS + "Secret", name="pair", tls_certificate=pair)]}, file)
    plain = proxy.listen("plain", {"tls_certificates": [pair]})
    sds = proxy.listen("sds", {"tls_certificate_sds_secret_configs": [{"name": "pair", "sds_config": {
        "path_config_source": {"path": proxy.folder + "/sds.yaml"}, "resource_api_version": "V3"}}]})
    proxy.start()
    old = {port: dial(port, context()) for port in (plain, sds)}
    first = {port: sock.getpeercert(True) for port, sock in old.items()}
    put("second")

    def exchanged():
        for port in (plain, sds):
            with dial(port, context()) as sock:
                if sock.getpeercert(True) == first[port]:
                    return False
        return True
    eventually(exchanged)
    assert [status(sock) for sock in old.values()] == [200, 200]
    # A pair that does not fit is refused: the one before stays.
    shutil.copy(f"{proxy.folder}/server.key", live + "/.next.key")
    os.rename(live + "/.next.key", live + "/tls.key")
    time.sleep(0.3)
    assert exchanged() and status(dial(plain, context())) == 200
    dump = proxy.ask("/config_dump")
    assert "PRIVATE KEY" not in dump and "[redacted]" in dump and '"pair"' in dump
    return "new certificate for new connections, old connections go on, a bad pair changes nothing, no key in /config_dump"


def test_a_client_must_name_the_server(proxy):
    port = proxy.listen("named", require_sni=True)
    proxy.start()
    assert status(dial(port, context())) == 200
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            code = status(context().wrap_socket(plain))
    except OSError:
        code = 0
    assert code == 0, code
    return "a client without SNI: refused"


def test_the_systems_authorities_are_not_ours(proxy):
    port = proxy.listen("system", {"validation_context": {"system_root_certs": {}}}, require_client_certificate=True)
    proxy.start()
    try:
        code = status(dial(port, context("client", proxy.folder)))
    except OSError:
        code = 0
    assert code == 0, code
    eventually(lambda: proxy.counter("listener.system.ssl.fail_verify_error") == 1)
    return "a certificate of our own authority: refused"


def test_a_secret_by_the_old_path(proxy):
    with open(proxy.folder + "/old.yaml", "w", encoding="ascii") as file:
        json.dump({"resources": [typed(TLS + "Secret", name="pair", tls_certificate=proxy.files("server"))]}, file)
    port = proxy.listen("old", {"tls_certificate_sds_secret_configs": [{"name": "pair", "sds_config": {
        "path": proxy.folder + "/old.yaml"}}]})
    proxy.start()
    assert status(dial(port, context())) == 200
    return "path names the file as path_config_source.path does"


def test_a_listener_waits_for_its_secret(proxy):
    sds = proxy.listen("wait", {"tls_certificate_sds_secret_configs": [{"name": "late", "sds_config": {
        "path_config_source": {"path": proxy.folder + "/late.yaml"}, "initial_fetch_timeout": "60s"}}]})
    other = proxy.listen("other")
    proxy.start(answers=lambda proxy: proxy.counter("listener_manager.total_listeners_active") == 2)
    assert status(dial(other, context())) == 200
    try:
        socket.create_connection(("127.0.0.1", sds), timeout=2).close()
        raise AssertionError("accepts without its certificate")
    except ConnectionRefusedError:
        pass
    with open(proxy.folder + "/.late", "w", encoding="ascii") as file:
        json.dump({"resources": [typed(TLS + "Secret", name="late", tls_certificate=proxy.files("server"))]}, file)
    os.rename(proxy.folder + "/.late", proxy.folder + "/late.yaml")

    def serves():
        return status(dial(sds, context())) == 200
    eventually(serves)
    return "refused until the secret was there"


def main():
    passed, failed = 0, 0
    wanted = sys.argv[1:]
    for name, test in list(globals().items()):
        if not name.startswith("test_") or (wanted and not any(part in name for part in wanted)):
            continue
        proxy = Proxy()
        try:
            print(f"{name[5:].replace('_', ' ')}: {test(proxy)}; {proxy.judge()}", flush=True)
            passed += 1
        except Exception as error:  # pylint: disable=broad-except
            failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}", flush=True)
            with open(os.path.join(proxy.folder, "output"), "rb") as output:
                print(output.read()[-1500:].decode("utf-8", "replace"))
        finally:
            proxy.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
