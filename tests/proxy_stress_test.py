#!/usr/bin/env python3
"""Nothing fails while the proxy is changed and replaced under load: a thousand configuration updates a second by xDS, and hot
restart after hot restart, while wrk and an HTTP/2 client that obeys GOAWAY ask without pause. Prints what was counted.

POSTERN_LONG=1: 30 s of updates and 50 restarts (./x test-all); otherwise 5 s and 5 restarts.
"""
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

from operation_harness import PROXY, Http1, Http2, Proxy, cluster, direct, http_listener, run_tests, socket_address, until

LONG = os.environ.get("POSTERN_LONG") == "1"
SECONDS = 30 if LONG else 5
RESTARTS = 50 if LONG else 5
BIN = os.path.dirname(PROXY)
ADS = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}


class Http2Client(threading.Thread):
    """Keeps streams open on a few connections; a connection that is told to end is replaced before its last answers come."""

    def __init__(self, port, connections=2, streams=8):
        super().__init__()
        self.port, self.count, self.streams = port, connections, streams
        self.stopped = False
        self.answers = self.goaways = self.asked_again = 0
        self.failures = []

    def run(self):
        try:
            self.work()
        except Exception as error:
            self.failures.append(repr(error))

    def work(self):
        active = [Http2(self.port) for _ in range(self.count)]
        leaving = []
        for each in active:
            each.open = set()
        while not self.stopped or any(each.open for each in active + leaving):
            for each in active:
                while not self.stopped and len(each.open) < self.streams and each.goaway is None and not each.gone:
                    each.open.add(each.request())
            for each in active + leaving:
                each.poll(0.002)
                self.settle(each)
            for each in [each for each in active if each.goaway is not None or each.gone]:
                self.goaways += 1
                active.remove(each)
                leaving.append(each)
                active.append(Http2(self.port))
                active[-1].open = set()
            for each in [each for each in leaving if not each.open or each.gone]:
                leaving.remove(each)
                each.close()
        for each in active + leaving:
            each.close()

    def settle(self, connection):
        for stream in [stream for stream in connection.open if stream in connection.done]:
            connection.open.remove(stream)
            status = connection.done.pop(stream)
            if status == 200:
                self.answers += 1
            elif connection.goaway is not None and stream > connection.goaway:
                self.asked_again += 1
            else:
                self.failures.append(status)
        if connection.goaway is not None:  # not processed: the client may ask again elsewhere (RFC 9113 6.8)
            above = {stream for stream in connection.open if stream > connection.goaway}
            self.asked_again += len(above)
            connection.open -= above
        if connection.gone and connection.open:
            self.failures.append("%d streams lost, goaway %s" % (len(connection.open), connection.goaway))
            connection.open.clear()

    def stop(self):
        self.stopped = True
        self.join(30)
        assert not self.is_alive()


class Load:
    """wrk and the HTTP/2 client together."""

    def __init__(self, port, seconds):
        self.wrk = subprocess.Popen(("wrk", "-t1", "-c16", "-d%ds" % seconds, "--timeout", "10s", "http://127.0.0.1:%d/" % port),
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.http2 = Http2Client(port)
        self.http2.start()

    def finish(self, interrupt=False):
        if interrupt:
            self.wrk.send_signal(signal.SIGINT)
        text = self.wrk.communicate(timeout=60)[0]
        self.http2.stop()
        requests = int(re.search(r"(\d+) requests in", text).group(1))
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", text)
        failed = sum(map(int, errors.groups())) if errors else 0
        other = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
        failed += int(other.group(1)) if other else 0
        print("wrk: %d requests, %d failed; HTTP/2: %d answers, %d failed, %d connections told to end, %d requests asked again"
              % (requests, failed, self.http2.answers, len(self.http2.failures), self.http2.goaways, self.http2.asked_again), flush=True)
        assert failed == 0, text
        assert not self.http2.failures, self.http2.failures[:5]
        assert requests > 100 and self.http2.answers > 100
        return requests + self.http2.answers


class Mesh:
    """A control plane, an origin and what a proxy needs to know of them."""

    def __init__(self, folder, rate=1000):
        self.demo = subprocess.Popen((os.path.join(BIN, "postern-demo"), "echo", "0"), stdin=subprocess.DEVNULL,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        origin = int(self.demo.stderr.readline().decode().rsplit(":", 1)[1])
        self.file = os.path.join(folder, "resources.json")
        with open(self.file, "w", encoding="utf-8") as out:
            json.dump(self.resources(origin), out)
        self.control = subprocess.Popen((os.path.join(BIN, "postern-test-control"), "127.0.0.1:0", self.file, str(rate)),
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.control.stdout.readline().rsplit(":", 1)[1])
        self.last_line = ""
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.control.stdout:
            self.last_line = line

    def counts(self):
        return dict(zip(*[iter(self.last_line.split())] * 2))

    def toggle(self):
        self.control.send_signal(signal.SIGUSR1)

    @staticmethod
    def resources(origin):
        """Each update changes a route, a cluster, its endpoints and a listener that nobody asks."""
        route = {"name": "r", "virtual_hosts": [
            {"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "app", "timeout": "15s"}}],
             "response_headers_to_add": [{"header": {"key": "x-version", "value": "@COUNTER@"}}]}]}
        web = http_listener("web", 0, [])
        manager = web["filter_chains"][0]["filters"][0]["typed_config"]
        del manager["route_config"]
        manager["rds"] = {"route_config_name": "r", "config_source": ADS}
        endpoint = {"endpoint": {"address": socket_address(origin)}}
        other = cluster("other", origin)
        other["connect_timeout"] = "5.@COUNTER@s"
        return {"clusters": [{"name": "app", "type": "EDS", "connect_timeout": "5s", "eds_cluster_config": {"eds_config": ADS}}, other],
                "endpoints": [{"cluster_name": "app", "endpoints": [
                    {"lb_endpoints": [dict(endpoint, metadata={"filter_metadata": {"t": {"n": "@COUNTER@"}}})]}]}],
                "listeners": [web, http_listener("unasked", 0, direct("@COUNTER@"))],
                "routes": [route]}

    def bootstrap(self):
        xds = cluster("xds", self.port)
        xds["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}}}
        return {"node": {"id": "stress", "cluster": "stress"}, "admin": {"address": socket_address(0)},
                "static_resources": {"clusters": [xds]},
                "dynamic_resources": {"cds_config": ADS, "lds_config": ADS,
                                      "ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3",
                                                     "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}}}

    def close(self):
        for each in (self.control, self.demo):
            each.kill()
            each.wait(10)


def test_a_thousand_updates_a_second():
    with Proxy({}, wait=False, folder=None, program="/bin/true") as place:
        mesh = Mesh(place.folder)
        try:
            with Proxy(mesh.bootstrap(), "--concurrency", "2", "--disable-hot-restart", folder=place.folder) as proxy:
                port = proxy.port("web")
                load = Load(port, 600)
                before = int(mesh.counts().get("changes", 1))
                begin = time.monotonic()
                mesh.toggle()
                # A machine that does other things as well may need longer for them.
                until(lambda: int(mesh.counts().get("changes", 0)) - before >= 1000 * SECONDS, 5 * SECONDS + 10, 0.1)
                took = time.monotonic() - begin
                mesh.toggle()
                load.finish(interrupt=True)
                time.sleep(1.1)
                after = mesh.counts()
                made = int(after["changes"]) - before
                print("%d updates in %.1f s (%d/s), %s responses accepted, %s refused; routes taken %d times" % (
                    made, took, made / took, after["accepted"], after["refused"], proxy.stat("http.rds.update_success")), flush=True)
                assert after["refused"] == "0" and int(after["accepted"]) > made / 10, after
                # Of each kind the last one is in effect, and on the way there the proxy took many.
                version = int(Http1(port).get()[1]["x-version"])
                assert version >= before + 1000 * SECONDS, (version, before)
                for kind in ("http.rds", "listener_manager.lds", "cluster_manager.cds"):
                    assert proxy.stat(kind + ".update_success") > made / 100, kind
                assert proxy.info()["state"] == "LIVE"
        finally:
            mesh.close()


def test_hot_restarts_under_load():
    with Proxy({}, wait=False, folder=None, program="/bin/true") as place:
        mesh = Mesh(place.folder)
        running = []
        base = str(os.getpid())
        flags = ("--drain-time-s", "1", "--parent-shutdown-time-s", "20", "--drain-strategy", "immediate", "--base-id", base)
        load = None
        try:
            concurrency = (2, 1, 3)
            for epoch in range(RESTARTS + 1):
                proxy = Proxy(mesh.bootstrap(), *flags, "--restart-epoch", str(epoch), "--concurrency", str(concurrency[epoch % 3]),
                              name="epoch%d" % epoch, folder=place.folder)
                running.append(proxy)
                if load is None:
                    port = proxy.port("web")
                    load = Load(port, 600)
                    time.sleep(0.5)
                    continue
                assert proxy.port("web") == port
                assert running[-2].wait(15) == 0, running[-2].log()[-500:]
            time.sleep(0.5)
            total = load.finish(interrupt=True)
            counted = running[-1].stat("http.web.downstream_rq_total")
            print("%d hot restarts; the last process has counted %d requests of %d" % (RESTARTS, counted, total), flush=True)
            assert counted >= total, (counted, total)
        finally:
            for each in running:
                each.close()
            if load is not None and load.wrk.poll() is None:
                load.wrk.kill()
            if load is not None:
                load.http2.stopped = True
            mesh.close()


if __name__ == "__main__":
    until(lambda: os.path.exists(PROXY), 1)
    sys.exit(run_tests(list(globals().items()), sys.argv[1] if len(sys.argv) > 1 else None))
