"""The TCP proxy: how connections end. cases_listeners.py has more of it."""
import time

from .case import case
from .origin import BLACK_HOLE


def both_ways(client):
    connection = client.connect()
    connection.send(b"ping")
    connection.raw(4)
    connection.half_close()
    connection.end(tell_reset=True)


def echo(wire):
    data = wire.exactly(4)
    wire.record.append(data.decode())
    wire.send(data.upper())
    wire.record.append(list(wire.rest()))


def tcp(name, run, origin=echo, tcp=None, **options):
    case(f"stream_{name}", run, tcp=tcp or {}, origin=origin, **options)


def listens(seconds=3):
    return lambda client: client.connect().end(seconds, tell_reset=True)


tcp("both_ways", both_ways, counters=["tcp.$case.downstream_cx_rx_bytes_total", "tcp.$case.downstream_cx_tx_bytes_total"])
tcp("refused", listens(), origin=None, counters=["cluster.$case.upstream_cx_connect_fail"])
tcp("refused_three_times", listens(), origin=None, tcp={"max_connect_attempts": 3}, counters=[
    "cluster.$case.upstream_cx_connect_fail", "cluster.$case.upstream_cx_connect_attempts_exceeded"])
tcp("connect_timeout", listens(), origin=BLACK_HOLE, cluster={"connect_timeout": "0.3s"}, counters=["cluster.$case.upstream_cx_connect_timeout"])
tcp("origin_speaks_first", lambda c: (lambda x: (x.raw(5), x.end(1, tell_reset=True)))(c.connect()) and None, origin=lambda w: w.send(b"hello"))
tcp("origin_resets", lambda c: (lambda x: (x.send(b"ping"), x.end()))(c.connect()) and None, origin=lambda w: (w.exactly(4), w.reset()))
tcp("client_resets", lambda c: (lambda x: (x.send(b"ping"), x.raw(4), x.reset(), time.sleep(0.2)))(c.connect()) and None)
tcp("client_leaves", lambda c: (lambda x: (x.send(b"ping"), x.raw(4), x.close(), time.sleep(0.2)))(c.connect()) and None)
tcp("origin_half_closes", lambda c: (lambda x: (x.raw(3), x.send(b"more"), x.half_close(), x.end(tell_reset=True)))(c.connect()) and None,
    origin=lambda w: (w.send(b"bye"), w.half_close(), w.record.append(list(w.rest()))))
tcp("idle", listens(), tcp={"idle_timeout": "0.4s"}, counters=["tcp.$case.idle_timeout"])
tcp("duration", listens(), tcp={"max_downstream_connection_duration": "0.4s"}, counters=["tcp.$case.max_downstream_connection_duration"])
tcp("no_hosts", listens(), cluster={"load_assignment": {"cluster_name": "$case", "endpoints": []}}, counters=["cluster.$case.upstream_cx_none_healthy"])
tcp("no_cluster", listens(), tcp={"cluster": "nowhere"}, counters=["tcp.$case.downstream_cx_no_route"])
tcp("weighted", both_ways, origins={"b": echo}, tcp={"weighted_clusters": {"clusters": [{"name": "$case_b", "weight": 1}]}})
tcp("connection_limit", lambda c: (lambda a: (a.send(b"pi"), time.sleep(0.3), c.connect().end(2)))(c.connect()) and None,
    cluster={"circuit_breakers": {"thresholds": [{"max_connections": 1}]}}, sort_log=True, counters=["cluster.$case.upstream_cx_overflow"],
    origin=lambda w: w.rest())
tcp("big", lambda c: (lambda x: (x.send(b"z" * 200000), x.half_close(), x.raw(200000), x.end(tell_reset=True)))(c.connect()) and None,
    origin=lambda w: w.send(w.rest()[0]))

