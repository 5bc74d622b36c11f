#!/usr/bin/env python3
"""Hot restart: sockets, admin port and counters go to the next process; what fails leaves the old one serving."""
import os
import socket
import sys
import tempfile
import threading
import time

from operation_harness import (CONT, KILL, STOP, TERM, Http1, Origin, Proxy, bootstrap, cluster, direct, http_listener, run_tests,
                               tcp_listener, to_cluster, until)

FAST = ("--drain-time-s", "2", "--parent-shutdown-time-s", "4", "--drain-strategy", "immediate")
_next_base_id = [os.getpid() * 100 % 1_000_000_000]


def base_id():
    _next_base_id[0] += 1
    return str(_next_base_id[0])


class Chain:
    """Processes of one base id."""

    def __init__(self, config, *flags):
        self.folder = tempfile.mkdtemp(prefix="postern-restart-")
        self.base = base_id()
        self.flags = flags
        self.all = []
        self.start(config)

    def start(self, config, *flags, epoch=None, wait=True):
        epoch = len(self.all) if epoch is None else epoch
        flags = FAST + self.flags + flags + ("--base-id", self.base, "--restart-epoch", str(epoch))
        proxy = Proxy(config, *flags, name="epoch%d-%d" % (epoch, len(self.all)), wait=wait, folder=self.folder)
        self.all.append(proxy)
        return proxy

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for each in self.all:
            each.close()


def web(body="one", port=0):
    return bootstrap([http_listener("web", port, direct(body))])


class Hammer:
    """Opens connections without pause and counts what does not get an answer."""

    def __init__(self, port, threads=3):
        self.port, self.stopped = port, False
        self.answers, self.failures = 0, []
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]
        for each in self.threads:
            each.start()

    def run(self):
        while not self.stopped:
            try:
                client = Http1(self.port)
                for _ in range(3):
                    status, headers, _ = client.get()
                    if status != 200:
                        self.failures.append(status)
                    self.answers += 1
                    if headers.get("connection") == "close":
                        break
                client.close()
            except OSError as error:
                self.failures.append(repr(error))

    def stop(self):
        self.stopped = True
        for each in self.threads:
            each.join(10)
        assert not self.failures, (len(self.failures), self.failures[:5], self.answers)
        assert self.answers > 20, self.answers
        return self.answers


def test_the_next_process_takes_everything_over():
    with Chain(web("one")) as chain:
        first = chain.all[0]
        port, admin = first.port("web"), first.admin_port()
        hammer = Hammer(port)
        second = chain.start(web("two"))
        assert second.port("web") == port and second.admin_port() == admin
        assert first.wait(8) == 0
        hammer.stop()
        assert Http1(port).get()[2] == b"two"
        assert second.info()["command_line_options"]["restart_epoch"] == 1
        assert second.stat("server.hot_restart_epoch") == 1
        assert second.ask("/hot_restart_version")[1].startswith("postern.")


def test_counters_are_carried_on_and_gauges_while_both_live():
    origin = Origin(echo=True)
    config = bootstrap([http_listener("web", 0, direct()), tcp_listener("tcp", 0, "origin")], [cluster("origin", origin.port)])
    with Chain(config) as chain:
        first = chain.all[0]
        port, tcp = first.port("web"), first.port("tcp")
        for _ in range(7):
            Http1(port).get()
        held = Http1(tcp)
        held.socket.sendall(b"x")
        held.more()
        until(lambda: first.stat("http.web.downstream_rq_total") == 7)
        second = chain.start(config)
        until(lambda: second.stat("http.web.downstream_rq_total") == 7)
        until(lambda: second.stat("tcp.tcp.downstream_cx_total") == 1)
        assert second.stat("server.total_connections") >= 1
        until(lambda: second.stat("server.parent_connections") >= 1)
        for _ in range(3):
            Http1(port).get()
        assert second.stat("http.web.downstream_rq_total") == 10
        assert first.wait(10) == 0  # told to end: the connection would not
        until(lambda: second.stat("server.parent_connections") == 0)
        assert second.stat("http.web.downstream_rq_total") == 10
        assert held.ended(2)
        third = chain.start(config)
        until(lambda: third.stat("http.web.downstream_rq_total") == 10)
    origin.close()


def test_connections_queued_at_the_hand_over_are_served():
    """The old process stands still while they come, into all of its sockets, and while the new one asks for these."""
    for workers in ("1", "6"):
        with Chain(web(), "--concurrency", "4") as chain:
            first = chain.all[0]
            port = first.port("web")
            first.signal(STOP)
            waiting = [Http1(port) for _ in range(60)]
            for each in waiting:
                each.send()
            second = chain.start(web(), "--concurrency", workers, wait=False)
            time.sleep(0.3)
            first.signal(CONT)
            assert [each.receive()[0] for each in waiting] == [200] * 60
            second.wait_live()
            assert first.wait(8) == 0


def test_fewer_and_more_workers_follow_under_load():
    origin = Origin()
    config = bootstrap([http_listener("web", 0, to_cluster("origin"))], [cluster("origin", origin.port)])
    with Chain(config, "--concurrency", "4") as chain:
        first = chain.all[0]
        port = first.port("web")
        second = chain.start(config, "--concurrency", "1", wait=False)
        hammer = Hammer(port)
        second.wait_live()
        assert first.wait(8) == 0
        waiting = []
        for _ in range(64):  # spread by the kernel over all four sockets
            client = Http1(port)
            client.send()
            waiting.append(client)
        assert all(each.receive()[0] == 200 for each in waiting)
        hammer.stop()
        third = chain.start(config, "--concurrency", "3")
        assert second.wait(8) == 0
        assert all(Http1(port).get()[0] == 200 for _ in range(64))
        fourth = chain.start(config, "--concurrency", "8")
        assert third.wait(8) == 0
        assert all(Http1(port).get()[0] == 200 for _ in range(64))
        assert fourth.info()["command_line_options"]["concurrency"] == 8
    origin.close()


def test_connections_that_wait_while_nobody_accepts():
    with Chain(web(), "--concurrency", "3") as chain:
        first = chain.all[0]
        port = first.port("web")
        second = chain.start(web(), "--concurrency", "1", wait=False)
        second.wait_live()
        first.wait(8)
        second.signal(STOP)
        waiting = [Http1(port) for _ in range(60)]
        for each in waiting:
            each.send()
        second.signal(CONT)
        assert [each.receive()[0] for each in waiting] == [200] * 60


def test_open_connections_finish_in_the_old_process():
    origin = Origin()
    config = bootstrap([http_listener("web", 0, to_cluster("origin"))], [cluster("origin", origin.port)])
    with Chain(config) as chain:
        client = Http1(chain.all[0].port("web"))
        client.send("/delay/1500")
        until(lambda: origin.requests == 1)
        chain.start(config)
        status, headers, body = client.receive()
        assert (status, headers.get("connection"), body) == (200, "close", b"origin"), (status, headers, body)
        assert chain.all[0].wait(5) == 0
    origin.close()


def test_a_child_that_fails_leaves_the_parent_serving():
    with Chain(web()) as chain:
        first = chain.all[0]
        port = first.port("web")
        bad = web()
        bad["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]["codec_type"] = "HTTP3"
        broken = chain.start(bad, epoch=1, wait=False)
        assert broken.wait() == 1
        until(lambda: "ended before it served" in first.log())
        assert Http1(port).get()[0] == 200
        assert first.info()["state"] == "LIVE"
        good = chain.start(web("two"), epoch=1)
        assert first.wait(8) == 0
        assert Http1(port).get()[2] == b"two" and good.info()["state"] == "LIVE"


def never_ready(port=0):
    """A configuration whose control plane does not answer."""
    config = bootstrap([http_listener("web", port, direct("two"))], [cluster("xds", 1)])
    config["static_resources"]["clusters"][0]["typed_extension_protocol_options"] = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}}}}
    config["dynamic_resources"] = {
        "cds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
        "ads_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]}}
    return config


def test_a_child_killed_before_it_serves_gives_all_back():
    with Chain(web("one")) as chain:
        first = chain.all[0]
        port, admin = first.port("web"), first.admin_port()
        child = chain.start(never_ready(), epoch=1, wait=False)
        until(lambda: child.info().get("state") == "INITIALIZING")  # the admin port is its
        child.signal(KILL)
        child.wait()
        until(lambda: first.info().get("state") == "LIVE")
        assert first.admin_port() == admin
        assert all(Http1(port).get()[2] == b"one" for _ in range(20))


def test_a_parent_killed_while_it_hands_over():
    with Chain(web("one")) as chain:
        first = chain.all[0]
        port = first.port("web")
        first.signal(STOP)  # it accepts the child's connection in the kernel, and never answers
        child = chain.start(web("two", port), epoch=1, wait=False)
        time.sleep(0.3)
        first.signal(KILL)
        child.wait_live()
        assert "ended while it handed over" in child.log(), child.log()
        assert Http1(port).get()[2] == b"two"


def test_a_parent_killed_while_it_drains():
    with Chain(web("one")) as chain:
        first = chain.all[0]
        port = first.port("web")
        Http1(port).get()
        held = Http1(port)
        held.send("/", "content-length: 5\r\n")
        child = chain.start(web("two"))
        first.signal(KILL)
        first.wait()
        assert Http1(port).get()[2] == b"two"
        assert child.stat("http.web.downstream_rq_total") >= 2


def test_two_children_at_once():
    with Chain(web("one")) as chain:
        first = chain.all[0]
        port = first.port("web")
        slow = chain.start(never_ready(), epoch=1, wait=False)
        until(lambda: "takes over" in first.log())
        other = chain.start(web("three"), "--socket-path", "@postern_proxy", epoch=1, wait=False)
        assert other.wait() == 1
        assert "a process with --base-id %s and --restart-epoch 1 runs already" % chain.base in other.log(), other.log()
        assert Http1(port).get()[0] == 200
        slow.signal(KILL)
        slow.wait()
        last = chain.start(web("two"), epoch=1)
        assert first.wait(8) == 0 and last.info()["state"] == "LIVE"


def test_wrong_epochs_are_told_clearly():
    with Chain(web()) as chain:
        for epoch in (3, 2):
            wrong = chain.start(web(), epoch=epoch, wait=False)
            assert wrong.wait() == 1
            assert "no process with --base-id %s and --restart-epoch %d can be reached" % (chain.base, epoch - 1) in wrong.log()
        again = chain.start(web(), epoch=0, wait=False)
        assert again.wait() == 1
        assert "a process with --base-id %s and --restart-epoch 0 runs already" % chain.base in again.log()
        assert Http1(chain.all[0].port("web")).get()[0] == 200
        alone = chain.start(web(), "--skip-hot-restart-on-no-parent", epoch=7)
        assert Http1(alone.port("web")).get()[0] == 200


def test_dynamic_base_id_is_written():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "id")
        with Proxy(web(), "--use-dynamic-base-id", "--base-id-path", path, *FAST) as first:
            with open(path, encoding="utf-8") as file:
                number = file.read()
            assert first.info()["command_line_options"]["base_id"] == number
            with Proxy(web("two"), "--base-id", number, "--restart-epoch", "1", *FAST) as second:
                assert first.wait(8) == 0 and second.info()["state"] == "LIVE"


def test_sockets_as_files_and_of_unix_listeners():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "web")
        config = bootstrap([http_listener("web", 0, direct("unix"), address={"pipe": {"path": path}})])
        name = os.path.join(folder, "restart")

        def get():
            client = Http1.__new__(Http1)
            client.socket, client.buffer = socket.socket(socket.AF_UNIX), b""
            client.socket.connect(path)
            return client.get()[2]
        with Chain(config, "--socket-path", name, "--socket-mode", "0600") as chain:
            assert os.stat("%s_%s_0" % (name, chain.base)).st_mode & 0o777 == 0o600
            assert get() == b"unix"
            chain.start(config)
            assert get() == b"unix"
            assert chain.all[0].wait(8) == 0
            assert get() == b"unix"
            assert not os.path.exists("%s_%s_0" % (name, chain.base))


def test_a_listener_that_is_gone_is_refused():
    both = bootstrap([http_listener("web", 0, direct("one")), http_listener("old", 0, direct("old"))])
    with Chain(both) as chain:
        old = chain.all[0].port("old")
        chain.start(web("two"))
        assert chain.all[0].wait(8) == 0
        try:
            Http1(old).get()
            raise AssertionError("still accepts")
        except ConnectionRefusedError:
            pass


def test_term_to_the_parent_in_between():
    with Chain(web("one")) as chain:
        first = chain.all[0]
        port = first.port("web")
        hammer = Hammer(port)
        chain.start(web("two"))
        first.signal(TERM)
        assert first.wait(8) == 0
        hammer.stop()


if __name__ == "__main__":
    sys.exit(run_tests(list(globals().items()), sys.argv[1] if len(sys.argv) > 1 else None))
