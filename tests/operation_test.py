#!/usr/bin/env python3
"""The proxy in operation: command line, draining, the end. Real processes, ports chosen by the kernel, bounded waits."""
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time

from operation_harness import (PROXY, TERM, Http1, Http2, Origin, Proxy, bootstrap, cluster, direct, http_listener, run_tests,
                               socket_address, tcp_listener, to_cluster, until)


def run(*flags):
    done = subprocess.run((PROXY,) + flags, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20,
                          check=False, text=True)
    return done.returncode, done.stdout, done.stderr


# ---- command line ----

def test_log_flags_have_effect():
    with Proxy(bootstrap([http_listener("web", 0, direct())]), "--log-format", "<%l|%n> %v", "--component-log-level", "main:debug") as proxy:
        proxy.signal(TERM)
        proxy.wait()
        assert "<info|main> shutting down" in proxy.log(), proxy.log()
    with Proxy(bootstrap([http_listener("web", 0, direct())]), "-l", "error", "--component-log-level", "main:info") as proxy:
        proxy.signal(TERM)
        proxy.wait()
        assert "shutting down" in proxy.log() and "all configuration" not in proxy.log(), proxy.log()


def test_log_path_is_opened_again():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "log")
        with Proxy(bootstrap([http_listener("web", 0, direct())]), "--log-path", path) as proxy:
            os.rename(path, path + ".1")
            proxy.signal(10)
            until(lambda: os.path.exists(path))
            proxy.signal(TERM)
            proxy.wait()
            with open(path, encoding="utf-8") as file:
                assert "shutting down" in file.read()
        assert run("--log-path", folder, "-c", "x") [0] == 1


def test_wrong_flags_name_themselves():
    code, _, text = run("-c", "x", "--component-log-level", "nonsense:debug")
    assert code == 1 and text == 'postern-proxy: --component-log-level: "nonsense:debug" is not NAME:LEVEL,...\n', text
    code, _, text = run("-c", "x", "--restart-epoch", "1", "--disable-hot-restart")
    assert code == 1 and "--restart-epoch: needs hot restart" in text, text
    code, text, _ = run("--hot-restart-version")
    assert code == 0 and re.fullmatch(r"postern\.\d+\n", text), text


def test_help_names_every_flag_of_envoys_users():
    _, text, _ = run("--help")
    for flag in ("-c, --config-path", "--config-yaml", "--mode", "--concurrency", "-l, --log-level", "--component-log-level",
                 "--log-format", "--base-id", "--restart-epoch", "--disable-hot-restart", "--drain-time-s", "--drain-strategy",
                 "--parent-shutdown-time-s", "--file-flush-interval-msec", "--service-node", "--service-cluster",
                 "--admin-address-path", "--local-address-ip-version", "--skip-deprecated-logs", "--allow-unknown-static-fields",
                 "--reject-unknown-dynamic-fields", "--version"):
        assert flag in text, flag


def test_ipv6_from_the_client_and_to_the_origin():
    origin = Origin(address="::1")
    six = cluster("six", 0)
    six["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = socket_address(origin.port, "::1")
    pipe = tcp_listener("tcp", 0, "six")
    pipe["address"] = socket_address(0, "::1")
    with Proxy(bootstrap([http_listener("web", 0, to_cluster("six"), address=socket_address(0, "::1"), use_remote_address=True), pipe], [six])) as proxy:
        assert Http1(proxy.port("web"), address="::1").get()[2] == b"origin"
        assert "x-envoy-external-address: ::1\r\n" in origin.last_head, origin.last_head
        assert Http1(proxy.port("tcp"), address="::1").get()[2] == b"origin"
    origin.close()


def test_version_is_one_line():
    assert re.fullmatch(r"postern-proxy version: \d+\.\d+\.\d+\n", run("--version")[1]), run("--version")


def test_text_is_merged_over_the_file():
    text = json.dumps({"node": {"id": "merged"}, "static_resources": {"listeners": [http_listener("second", 0, direct("of the text"))]}})
    with Proxy(bootstrap([http_listener("web", 0, direct())]), "--config-yaml", text) as proxy:
        assert proxy.info()["node"]["id"] == "merged" and proxy.info()["node"]["cluster"] == "test", proxy.info()
        assert Http1(proxy.port("web")).get()[2] == b"ok"
        assert Http1(proxy.port("second")).get()[2] == b"of the text"


def test_validate_serves_nothing_and_says_what_is_wrong():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bootstrap.json")
        with socket.create_server(("127.0.0.1", 0)) as taken:  # nobody needs the port
            with open(path, "w", encoding="utf-8") as out:
                json.dump(bootstrap([http_listener("web", taken.getsockname()[1], direct())]), out)
            assert run("--mode", "validate", "-c", path) == (0, f"configuration '{path}' OK\n", "")
        with open(path, "w", encoding="utf-8") as out:
            json.dump(bootstrap([http_listener("web", 0, to_cluster("nowhere"), no_such_field=1)]), out)
        code, out, text = run("--mode", "validate", "-c", path)
        assert code == 1 and out == "" and "static_resources.listeners[0].filter_chains[0].filters[0].typed_config.no_such_field" in text, text


def test_flags_name_the_node():
    config = bootstrap([http_listener("web", 0, direct())])
    del config["node"]
    with Proxy(config, "--service-node", "n", "--service-cluster", "c", "--service-zone", "z") as proxy:
        node = proxy.info()["node"]
        assert (node["id"], node["cluster"], node["locality"]["zone"]) == ("n", "c", "z"), node


def test_one_worker_for_each_processor_it_may_run_on():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        for flags in ((), ("--concurrency", "0")):
            with Proxy(bootstrap([http_listener("web", 0, direct())]), *flags) as proxy:
                assert proxy.info()["command_line_options"]["concurrency"] == 1, flags
    finally:
        os.sched_setaffinity(0, before)


def test_unknown_static_fields_are_left_out_when_allowed():
    config = bootstrap([http_listener("web", 0, direct(), no_such_field=1, http3_protocol_options={})], grpc_async_client_manager_config={})
    with Proxy(config, wait=False) as proxy:
        assert proxy.wait() == 1 and "no_such_field: unknown field" in proxy.log(), proxy.log()
    del config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["no_such_field"]
    with Proxy(config, wait=False) as proxy:
        assert proxy.wait() == 1 and "is not supported" in proxy.log(), proxy.log()
    config["no_such_field"] = 1
    with Proxy(config, "--allow-unknown-static-fields") as proxy:
        assert proxy.stat("server.static_unknown_fields") == 3, proxy.log()
        assert Http1(proxy.port("web")).get()[0] == 200
        for path in ("no_such_field", "http3_protocol_options", "grpc_async_client_manager_config"):
            assert path + ": is not supported, left out" in proxy.log(), proxy.log()


def test_concurrency_zero_and_one():
    with Proxy(bootstrap([http_listener("web", 0, direct())]), "--concurrency", "0") as proxy:
        assert 1 <= proxy.info()["command_line_options"]["concurrency"] <= os.cpu_count()
        assert Http1(proxy.port("web")).get()[0] == 200


def test_flush_flags_delay_the_access_log():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "access")
        log = [{"name": "file", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                                                 "path": path}}]
        with Proxy(bootstrap([http_listener("web", 0, direct(), access_log=log)]), "--file-flush-interval-msec", "700") as proxy:
            client = Http1(proxy.port("web"))
            client.get()
            begin = time.monotonic()
            until(lambda: os.path.exists(path) and os.path.getsize(path))
            assert 0.3 < time.monotonic() - begin < 2, time.monotonic() - begin


# ---- the end ----

def test_term_ends_with_the_next_answer():
    with Proxy(bootstrap([http_listener("web", 0, direct())]), "--drain-time-s", "20", "--disable-hot-restart") as proxy:
        port = proxy.port("web")
        busy = Http1(port)
        assert busy.get()[1].get("connection") is None
        proxy.signal(TERM)
        for _ in range(1000):  # the workers hear of it a little later
            status, headers, body = busy.get()
            assert (status, body) == (200, b"ok"), (status, headers, body)
            if headers.get("connection") == "close":
                break
        assert headers.get("connection") == "close" and busy.ended(2)
        assert proxy.wait(3) == 0


def test_term_refuses_new_connections_and_ends_silent_ones():
    with Proxy(bootstrap([http_listener("web", 0, direct())]), "--drain-time-s", "20") as proxy:
        port = proxy.port("web")
        silent = Http1(port)
        silent.get()
        proxy.signal(TERM)
        begin = time.monotonic()

        def refused():
            try:
                Http1(port).close()
                return False
            except ConnectionResetError:  # it came in the moment the socket closed
                return False
            except ConnectionRefusedError:
                return True
        until(refused, 3)
        assert silent.ended(5)
        assert proxy.wait(3) == 0
        assert time.monotonic() - begin < 5


def test_term_lets_a_slow_answer_finish():
    origin = Origin()
    config = bootstrap([http_listener("web", 0, to_cluster("origin"))], [cluster("origin", origin.port)])
    with Proxy(config, "--drain-time-s", "20") as proxy:
        client = Http1(proxy.port("web"))
        client.send("/delay/1500")
        until(lambda: origin.requests == 1)
        proxy.signal(TERM)
        status, headers, body = client.receive()
        assert (status, headers.get("connection"), body) == (200, "close", b"origin"), (status, headers, body)
        assert proxy.wait(3) == 0
    origin.close()


def test_term_sends_goaway_and_finishes_streams():
    origin = Origin()
    config = bootstrap([http_listener("web", 0, to_cluster("origin"))], [cluster("origin", origin.port)])
    with Proxy(config, "--drain-time-s", "20") as proxy:
        client = Http2(proxy.port("web"))
        assert client.get() == 200
        slow = client.request("/delay/1000")
        until(lambda: origin.requests == 2)
        proxy.signal(TERM)
        until(lambda: client.poll(0.05) or client.goaway is not None)
        late = client.request("/")  # before the second GOAWAY: still taken
        assert client.answer(late) in (200, 0)
        assert client.answer(slow) == 200
        until(lambda: client.poll(0.05) or client.gone, 3)
        assert client.goaway in (slow, late), client.goaway
        assert proxy.wait(3) == 0
    origin.close()


def test_drain_time_ends_what_does_not_end():
    origin = Origin(echo=True)
    config = bootstrap([tcp_listener("tcp", 0, "origin")], [cluster("origin", origin.port)])
    with Proxy(config, "--drain-time-s", "2") as proxy:
        client = Http1(proxy.port("tcp"))
        client.socket.sendall(b"hello")
        assert client.more()
        proxy.signal(TERM)
        begin = time.monotonic()
        time.sleep(0.5)
        client.socket.sendall(b"again")
        assert client.more() and client.buffer == b"helloagain", client.buffer
        assert proxy.wait(5) == 0
        assert 1.5 < time.monotonic() - begin < 4, time.monotonic() - begin
    origin.close()


def test_second_term_ends_at_once():
    origin = Origin(echo=True)
    config = bootstrap([tcp_listener("tcp", 0, "origin")], [cluster("origin", origin.port)])
    with Proxy(config) as proxy:
        client = Http1(proxy.port("tcp"))
        client.socket.sendall(b"hello")
        assert client.more()
        proxy.signal(TERM)
        until(lambda: "shutting down" in proxy.log())
        assert proxy.process.poll() is None
        proxy.signal(TERM)
        assert proxy.wait(2) == 0
    origin.close()


# ---- draining while serving ----

def test_healthcheck_fail_ends_connections_with_their_answers():
    with Proxy(bootstrap([http_listener("web", 0, direct())])) as proxy:
        port = proxy.port("web")
        assert proxy.ask("/healthcheck/fail", "POST")[0] == 200
        assert proxy.ask("/ready") == (503, "DRAINING\n")
        until(lambda: Http1(port).get()[1].get("connection") == "close")
        proxy.ask("/healthcheck/ok", "POST")
        until(lambda: Http1(port).get()[1].get("connection") is None)


def closing_share(port, connections=40):
    """How many of so many fresh connections are told to end with their first answer."""
    closed = 0
    for _ in range(connections):
        client = Http1(port)
        closed += client.get()[1].get("connection") == "close"
        client.close()
    return closed / connections


def test_gradual_drain_rises():
    with Proxy(bootstrap([http_listener("web", 0, direct())]), "--drain-time-s", "6", "--drain-strategy", "gradual") as proxy:
        port = proxy.port("web")
        kept = [Http1(port) for _ in range(40)]
        for each in kept:
            each.get()
        assert proxy.ask("/drain_listeners?graceful&skip_exit", "POST")[0] == 200
        begin = time.monotonic()
        early = closing_share(port)
        assert time.monotonic() - begin < 2
        time.sleep(max(0, 3 - (time.monotonic() - begin)))
        middle = closing_share(port)
        time.sleep(max(0, 6.2 - (time.monotonic() - begin)))
        late = closing_share(port)
        assert early < 0.35 and 0.25 < middle < 0.9 and late == 1, (early, middle, late)
        until(lambda: all(each.ended() for each in kept), 4)  # silent connections have ended, too
        assert proxy.stat("http.web.downstream_cx_drain_close") >= 40


def test_immediate_drain_concerns_all_at_once():
    with Proxy(bootstrap([http_listener("web", 0, direct())]), "--drain-time-s", "3", "--drain-strategy", "immediate") as proxy:
        port = proxy.port("web")
        assert proxy.ask("/drain_listeners?graceful", "POST")[0] == 200
        until(lambda: closing_share(port, 5) == 1, 2)

        def refused():
            try:
                Http1(port).close()
                return False
            except ConnectionRefusedError:
                return True
        until(refused, 5)  # after the drain time the listeners stop
        assert proxy.process.poll() is None


# ---- overload ----

MONITORS = "type.googleapis.com/envoy.extensions.resource_monitors."
INJECTED = "envoy.resource_monitors.injected_resource"
ACTIONS = "envoy.overload_actions."


class Pressure:
    """A file that holds a pressure, for the monitor of tests."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="postern-pressure-")
        self.path = os.path.join(self.folder, "pressure")
        self.set(0)

    def set(self, value):
        with open(self.path + ".new", "w", encoding="utf-8") as out:
            out.write("%s\n" % value)
        os.rename(self.path + ".new", self.path)

    def manager(self, *actions, **more):
        monitor = {"name": INJECTED, "typed_config": {"@type": MONITORS + "injected_resource.v3.InjectedResourceConfig",
                                                      "filename": self.path}}
        return dict({"refresh_interval": "0.05s", "resource_monitors": [monitor], "actions": list(actions)}, **more)


def action(name, threshold=0.9, monitor=INJECTED, **more):
    return dict({"name": ACTIONS + name, "triggers": [{"name": monitor, "threshold": {"value": threshold}}]}, **more)


def scale_of(proxy, name):
    return proxy.stat("overload." + ACTIONS + name + ".scale_percent")


def test_overload_stops_accepting_requests():
    pressure = Pressure()
    log = os.path.join(pressure.folder, "access")
    logs = [{"name": "file", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog", "path": log,
        "log_format": {"text_format_source": {"inline_string": "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n"}}}}]
    config = bootstrap([http_listener("web", 0, direct(), access_log=logs),
                        dict(http_listener("free", 0, direct()), bypass_overload_manager=True)],
                       overload_manager=pressure.manager(action("stop_accepting_requests")))
    with Proxy(config) as proxy:
        port = proxy.port("web")
        assert Http1(port).get()[0] == 200
        pressure.set(0.95)
        until(lambda: proxy.stat("overload." + ACTIONS + "stop_accepting_requests.active") == 1)
        status, _, body = Http1(port).get()
        assert (status, body) == (503, b"envoy overloaded"), (status, body)
        assert Http1(proxy.port("free")).get()[0] == 200
        assert proxy.stat("overload." + INJECTED + ".pressure") == 95
        assert proxy.stat("http.web.downstream_rq_overload_close") == 1
        pressure.set(0.5)
        until(lambda: Http1(port).get()[0] == 200)

        def logged():
            with open(log, encoding="utf-8") as file:
                return "503 OM overload\n" in file.read()
        until(logged)
        pressure.set("nonsense")
        until(lambda: proxy.stat("overload." + INJECTED + ".failed_updates") > 0)


def test_overload_ends_keep_alive_with_a_rising_probability():
    pressure = Pressure()
    scaled = {"name": ACTIONS + "disable_http_keepalive",
              "triggers": [{"name": INJECTED, "scaled": {"scaling_threshold": 0.5, "saturation_threshold": 0.9}}]}
    with Proxy(bootstrap([http_listener("web", 0, direct())], overload_manager=pressure.manager(scaled))) as proxy:
        port = proxy.port("web")
        for value, low, high in ((0.4, 0, 0), (0.7, 0.2, 0.8), (0.9, 1, 1)):
            pressure.set(value)
            until(lambda v=value: scale_of(proxy, "disable_http_keepalive") == round(max(0, (v - 0.5) / 0.4) * 100))
            time.sleep(0.1)
            assert low <= closing_share(port, 60) <= high, value
        assert proxy.stat("http.web.downstream_cx_overload_disable_keepalive") >= 60


def test_overload_rejects_connections():
    pressure = Pressure()
    with Proxy(bootstrap([http_listener("web", 0, direct())],
                         overload_manager=pressure.manager(action("reject_incoming_connections")))) as proxy:
        port = proxy.port("web")
        pressure.set(1)
        until(lambda: scale_of(proxy, "reject_incoming_connections") == 100)
        assert Http1(port).ended(2)
        _, body = proxy.ask("/stats?filter=downstream_cx_overload_reject&usedonly")
        assert body.endswith("downstream_cx_overload_reject: 1\n"), body


def test_overload_lets_connections_wait():
    pressure = Pressure()
    with Proxy(bootstrap([http_listener("web", 0, direct())],
                         overload_manager=pressure.manager(action("stop_accepting_connections")))) as proxy:
        port = proxy.port("web")
        old = Http1(port)
        old.get()
        pressure.set(1)
        until(lambda: scale_of(proxy, "stop_accepting_connections") == 100)
        time.sleep(0.2)
        waiting = Http1(port)
        waiting.send()
        assert not waiting.ended(0.5) and not waiting.buffer
        assert old.get()[0] == 200
        pressure.set(0)
        assert waiting.receive()[0] == 200


def test_overload_reduces_timeouts():
    pressure = Pressure()
    timers = {"@type": "type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig", "timer_scale_factors": [
        {"timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout": "0.3s"},
        {"timer": "HTTP_DOWNSTREAM_STREAM_IDLE", "min_scale": {"value": 1}}]}
    origin = Origin()
    config = bootstrap([http_listener("web", 0, to_cluster("origin"), stream_idle_timeout="30s")], [cluster("origin", origin.port)],
                       overload_manager=pressure.manager(action("reduce_timeouts", typed_config=timers)))
    with Proxy(config) as proxy:
        port = proxy.port("web")
        idle = Http1(port)
        idle.get()
        slow = Http1(port)
        slow.send("/delay/5000")
        time.sleep(0.5)
        assert not idle.ended()
        pressure.set(1)
        assert idle.ended(3)
        assert slow.receive()[0] == 504  # 30 s became 0.3 s
        assert proxy.stat("http.web.downstream_rq_idle_timeout") == 1
    origin.close()


def deaf_port():
    """A port whose connections are never made: its backlog is full. (port, what keeps it so)"""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    kept = [listener]
    for _ in range(4):
        kept.append(socket.socket())
        kept[-1].setblocking(False)
        try:
            kept[-1].connect(listener.getsockname())
        except BlockingIOError:
            pass
    return listener.getsockname()[1], kept


def test_overload_of_memory_resets_the_largest_streams():
    """A heap limit that is really reached: bodies of requests wait for connections that are never made."""
    port, kept = deaf_port()
    plain = bootstrap([http_listener("web", 0, to_cluster("origin"))], [dict(cluster("origin", port), connect_timeout="60s")])
    with Proxy(plain) as proxy:
        floor = int(json.loads(proxy.ask("/memory")[1])["allocated"])
    limit = floor + 8 * 1024 * 1024
    monitor = "envoy.resource_monitors.fixed_heap"
    heap = {"name": monitor, "typed_config": {"@type": MONITORS + "fixed_heap.v3.FixedHeapConfig", "max_heap_size_bytes": limit}}
    manager = {"refresh_interval": "0.1s", "resource_monitors": [heap],
               "buffer_factory_config": {"minimum_account_to_track_power_of_two": 14},
               "actions": [action("shrink_heap", 0.9, monitor), action("reset_high_memory_stream", 0.95, monitor)]}
    with Proxy(dict(plain, overload_manager=manager)) as proxy:
        web = proxy.port("web")
        clients, peak = [], 0
        for i in range(400):
            client = Http1(web)
            clients.append(client)
            client.socket.sendall(b"POST / HTTP/1.1\r\nhost: test\r\ncontent-length: 900000\r\n\r\n" + b"x" * 100_000)
            if i % 20 == 19:
                time.sleep(0.05)
                peak = max(peak, proxy.stat("overload." + monitor + ".pressure"))
        resets = until(lambda: proxy.stat("envoy.overload_actions.reset_high_memory_stream.count"), 5)
        until(lambda: proxy.stat("overload." + monitor + ".pressure") < 95)
        peak = max(peak, proxy.stat("overload." + monitor + ".pressure"))
        ended = sum(client.ended() for client in clients)
        print("  heap limit %.1f MB, at most %d %% of it seen, %d streams reset" % (limit / 1e6, peak, resets))
        assert 90 < peak < 200 and 0 < ended < 400, (peak, ended)
        assert proxy.stat("overload." + ACTIONS + "shrink_heap.shrink_count") > 0
        for client in clients:
            client.close()
        until(lambda: proxy.stat("overload." + monitor + ".pressure") < 60)
    for each in kept:
        each.close()


def test_overload_limits_connections():
    limit = {"name": "envoy.resource_monitors.global_downstream_max_connections", "typed_config": {
        "@type": MONITORS + "downstream_connections.v3.DownstreamConnectionsConfig", "max_active_downstream_connections": 2}}
    with Proxy(bootstrap([http_listener("web", 0, direct())],
                         overload_manager={"refresh_interval": "0.05s", "resource_monitors": [limit]})) as proxy:
        port = proxy.port("web")
        first, second = Http1(port), Http1(port)
        assert first.get()[0] == second.get()[0] == 200
        assert Http1(port).ended(2)
        until(lambda: proxy.stat("overload.envoy.resource_monitors.global_downstream_max_connections.pressure") == 100)
        first.close()
        until(lambda: Http1(port).get()[0] == 200)


def test_overload_refuses_what_it_does_not_know():
    pressure = Pressure()

    def error(manager):
        with Proxy(bootstrap([], overload_manager=manager), wait=False) as proxy:
            assert proxy.wait() == 1
            return proxy.log()
    assert 'overload_manager.actions[0].name: "envoy.overload_actions.nonsense" is not supported' in error(
        pressure.manager(action("nonsense")))
    assert "overload_manager.actions[0].triggers[0].name: Unknown trigger resource x" in error(
        pressure.manager(action("shrink_heap", 0.5, "x")))
    assert "overload_manager.loadshed_points: is not supported" in error(
        pressure.manager(loadshed_points=[{"name": "envoy.load_shed_points.tcp_listener_accept"}]))
    assert "needs buffer_factory_config" in error(pressure.manager(action("reset_high_memory_stream")))
    assert "triggers[0].threshold.value: must be between 0 and 1" in error(pressure.manager(action("shrink_heap", 1.5)))


# ---- the last good configuration ----

ADS = {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"}


class Control:
    """A control plane that serves a file of resources."""

    def __init__(self, folder, port=0):
        self.file = os.path.join(folder, "resources.json")
        self.folder, self.port = folder, port
        self.process = None

    def put(self, **resources):
        with open(self.file, "w", encoding="utf-8") as out:
            json.dump(resources, out)
        if self.process is not None:
            self.process.send_signal(1)

    def start(self):
        self.process = subprocess.Popen((os.path.join(os.path.dirname(PROXY), "postern-test-control"),
                                         "127.0.0.1:%d" % self.port, self.file), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.port = int(self.process.stdout.readline().rsplit(":", 1)[1])

    def stop(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def bootstrap(self):
        xds = cluster("xds", self.port)
        xds["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}}}
        return {"node": {"id": "saved", "cluster": "test"}, "admin": {"address": socket_address(0)},
                "static_resources": {"clusters": [xds]},
                "dynamic_resources": {"cds_config": ADS, "lds_config": ADS,
                                      "ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3",
                                                     "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}}}


def routed(name, body):
    """A listener and its routes by RDS."""
    listener = http_listener(name, 0, [])
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    del manager["route_config"]
    manager["rds"] = {"route_config_name": name, "config_source": ADS}
    return listener, {"name": name, "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": direct(body)}]}


def test_saved_configuration_serves_without_a_control_plane():
    folder = tempfile.mkdtemp(prefix="postern-saved-")
    saved = os.path.join(folder, "saved")
    path = os.path.join(saved, "dynamic_resources")
    control = Control(folder)
    web, routes = routed("web", "body-1")
    old, old_routes = routed("old", "old")
    control.put(listeners=[web, old], routes=[routes, old_routes], clusters=[cluster("c", 1)])
    control.start()
    flags = ("--saved-config-path", saved, "--disable-hot-restart")
    try:
        with Proxy(control.bootstrap(), *flags) as proxy:
            assert Http1(proxy.port("web")).get()[2] == b"body-1"
            until(lambda: os.path.exists(path))
            assert os.stat(path).st_mode & 0o777 == 0o600
            web, routes = routed("web", "body-2")
            control.put(listeners=[web, old], routes=[routes, old_routes], clusters=[cluster("c", 1)])
            until(lambda: Http1(proxy.port("web")).get()[2] == b"body-2")

            def written():
                with open(path, "rb") as file:
                    return b"body-2" in file.read()
            until(written)
        control.stop()
        with Proxy(control.bootstrap(), *flags) as proxy:  # nobody answers
            assert Http1(proxy.port("web")).get()[2] == b"body-2"
            assert Http1(proxy.port("old")).get()[2] == b"old"
            assert "c::" in proxy.ask("/clusters")[1]
            # The control plane returns without the old listener.
            control.put(listeners=[web], routes=[routes], clusters=[cluster("d", 1)])
            control.start()
            until(lambda: "old::" not in proxy.ask("/listeners")[1], 20)
            until(lambda: "d::" in proxy.ask("/clusters")[1] and "c::" not in proxy.ask("/clusters")[1])
            assert Http1(proxy.port("web")).get()[2] == b"body-2"
        control.stop()
        for damage in (lambda b: b[:-3], lambda b: b[:200] + b"X" + b[201:], lambda b: b"", lambda b: b"nonsense"):
            with open(path, "rb") as file:
                whole = file.read()
            with open(path, "wb") as file:
                file.write(damage(whole))
            with Proxy(control.bootstrap(), *flags, wait=False) as proxy:
                until(lambda: "starting without it" in proxy.log())
                until(lambda: proxy.ask("/ready")[0] == 503)
                assert proxy.ask("/listeners")[1] == ""
            with open(path, "wb") as file:
                file.write(whole)
        os.chmod(path, 0o666)
        with Proxy(control.bootstrap(), *flags, wait=False) as proxy:
            until(lambda: "others may have written it" in proxy.log())
        os.chmod(path, 0o600)
        with Proxy(dict(control.bootstrap(), node={"id": "another", "cluster": "c"}), *flags, wait=False) as proxy:
            until(lambda: "is that of another node" in proxy.log())
    finally:
        control.stop()


# ---- the admin port ----

def test_admin_answers_as_envoy_does():
    with Proxy(bootstrap([http_listener("web", 0, direct())], [cluster("origin", 1)])) as proxy:
        for path, method, status, text in (
                ("/ready", "GET", 200, "LIVE\n"), ("/reset_counters", "POST", 200, "OK\n"), ("/reopen_logs", "POST", 200, "OK\n"),
                ("/stats?filter=%28", "GET", 400, "Invalid re2 regex: missing ): (\n"),
                ("/stats?type=foo", "GET", 400, "invalid &type= param"),
                ("/config_dump?resource=foo", "GET", 404, "foo not found in config dump"),
                ("/config_dump?resource=bootstrap", "GET", 400,
                 "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field"),
                ("/config_dump?mask=bad.field", "GET", 400,
                 "FieldMask bad.field could not be successfully applied to any configs."),
                ("/stats?filter=^server.live$", "GET", 200, "server.live: 1\n"),
                ("/clusters?filter=nothing", "GET", 200, "")):
            assert proxy.ask(path, method) == (status, text), (path, proxy.ask(path, method))
        for path in ("/logging", "/quitquitquit", "/reset_counters", "/drain_listeners", "/healthcheck/fail", "/healthcheck/ok",
                     "/reopen_logs"):
            for method in ("GET", "HEAD", "PUT", "DELETE"):
                status, text = proxy.ask(path, method)
                assert status == 405 and (method == "HEAD" or text == "Method %s not allowed, POST required." % method), (path, method)
        one = json.loads(proxy.ask("/config_dump?resource=static_clusters&name_regex=orig.*&mask=cluster.name")[1])
        assert one == {"configs": [{"@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster",
                                    "cluster": {"name": "origin"}}]} or one["configs"][0]["cluster"]["name"] == "origin", one
        assert proxy.ask("/config_dump?resource=static_clusters&name_regex=orig")[1].strip() == "{}"
        assert proxy.ask("/nowhere")[0] == 404 and "/stats/prometheus" in proxy.ask("/nowhere")[1]
        assert "quitquitquit" in proxy.ask("/")[1]


def test_admin_reset_counters_and_runtime():
    config = bootstrap([http_listener("web", 0, direct())], layered_runtime={"layers": [
        {"name": "s", "static_layer": {"a": {"b": 5, "c": True}, "d": "x"}}, {"name": "admin", "admin_layer": {}}]})
    with Proxy(config) as proxy:
        Http1(proxy.port("web")).get()
        until(lambda: proxy.stat("http.web.downstream_rq_total") == 1)
        proxy.ask("/reset_counters", "POST")
        until(lambda: proxy.stat("http.web.downstream_rq_total") == 0)
        runtime = json.loads(proxy.ask("/runtime")[1])
        assert runtime["layers"] == ["s", "admin"]
        assert runtime["entries"]["a.b"] == {"layer_values": ["5", ""], "final_value": "5"}, runtime
        assert runtime["entries"]["a.c"]["final_value"] == "true" and runtime["entries"]["d"]["final_value"] == "x"


def test_logs_to_the_standard_streams():
    stream = "type.googleapis.com/envoy.extensions.access_loggers.stream.v3."
    logs = [{"name": kind, "typed_config": {"@type": stream + kind, "log_format": {"text_format_source": {
        "inline_string": kind + " says %RESPONSE_CODE%\n"}}}} for kind in ("StdoutAccessLog", "StderrAccessLog")]
    plain = [{"name": "log", "typed_config": {"@type": stream + "StdoutAccessLog"}}]
    config = bootstrap([http_listener("web", 0, direct(), access_log=logs), http_listener("plain", 0, direct(), access_log=plain)])
    with Proxy(config) as proxy:
        Http1(proxy.port("web")).get()
        Http1(proxy.port("plain")).get()
        for line in ("StdoutAccessLog says 200\n", "StderrAccessLog says 200\n", '"GET / HTTP/1.1" 200 - 0 2 '):
            until(lambda line=line: line in proxy.log())


def test_admin_changes_levels():
    with Proxy(bootstrap([http_listener("web", 0, direct())])) as proxy:
        assert proxy.ask("/logging?main=trace", "POST")[0] == 200
        assert "  main: trace\n" in proxy.ask("/logging", "POST")[1]
        assert "  main: error\n" in proxy.ask("/logging?paths=main:error,config:debug", "POST")[1]
        for query, text in (("level=foo", "unknown logger level"), ("foo=debug", "unknown logger name"),
                            ("paths=foo:debug", "unknown logger name"), ("paths=foo", "empty logger name or empty logger level"),
                            ("a=b&c=d", "invalid number of parameters"), ("paths=main:trace,foo:debug", "unknown logger name")):
            status, body = proxy.ask("/logging?" + query, "POST")
            assert status == 400 and body.startswith("error: " + text), (query, body)
        assert "  main: error\n" in proxy.ask("/logging", "POST")[1]  # a list is taken whole or not at all


def test_admin_allows_only_what_it_is_told_to():
    config = bootstrap([http_listener("web", 0, direct())])
    config["admin"]["allow_paths"] = [{"exact": "/ready"}, {"prefix": "/stats"}, {"prefix": "/server_info"}]
    with Proxy(config) as proxy:
        assert proxy.ask("/ready") == (200, "LIVE\n") and proxy.ask("/stats?filter=server.live")[0] == 200
        for path in ("/", "/help", "/config_dump", "/ready?x=1", "/READY", "//ready", "/quitquitquit", "/clusters"):
            for method in ("GET", "POST"):
                assert proxy.ask(path, method) == (403, "request to path %s not allowed\n" % path), (path, proxy.ask(path, method))
        assert proxy.process.poll() is None


def test_admin_on_a_unix_socket_is_the_owners():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "admin")
        config = bootstrap([http_listener("web", 0, direct())])
        config["admin"] = {"address": {"pipe": {"path": path}}}
        with Proxy(config, wait=False) as proxy:
            until(lambda: os.path.exists(path))
            assert os.stat(path).st_mode & 0o777 == 0o600
            client = Http1.__new__(Http1)
            client.socket, client.buffer = socket.socket(socket.AF_UNIX), b""
            client.socket.connect(path)
            assert client.get("/ready")[2] in (b"LIVE\n", b"INITIALIZING\n")
            until(lambda: proxy.process.poll() is None)


if __name__ == "__main__":
    sys.exit(run_tests(list(globals().items()), sys.argv[1] if len(sys.argv) > 1 else None))
