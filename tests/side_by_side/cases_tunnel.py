"""Upgrades and CONNECT."""
from .case import case, route_to
from .client import exchange, get

UPGRADE = get("/ws", "connection: upgrade", "upgrade: websocket", "sec-websocket-key: abc", "sec-websocket-version: 13")
ALLOWED = {"upgrade_configs": [{"upgrade_type": "websocket"}]}
FOR_EVER = [route_to(timeout="0s")]


def agrees(wire):
    head = wire.until(b"\r\n\r\n").decode()
    wire.record.append(head.split("\r\n"))
    wire.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n")
    data = wire.exactly(4)
    wire.record.append(data.decode())
    wire.send(data.upper())
    wire.record.append(list(wire.rest()) and "ended")


def talks(connection):
    connection.send(b"ping")
    connection.raw(4)


def upgrade(client):
    connection = client.connect()
    connection.send(UPGRADE)
    connection.response()
    talks(connection)


case("upgrade_allowed", upgrade, hcm=ALLOWED, routes=FOR_EVER, origin=agrees)
case("upgrade_with_timeout", upgrade, hcm=ALLOWED, origin=agrees)
case("upgrade_not_allowed", exchange(UPGRADE))
case("upgrade_other_type", exchange(get("/", "connection: upgrade", "upgrade: other")), hcm=ALLOWED)
case("upgrade_refused_by_origin", exchange(UPGRADE, get("/next")), hcm=ALLOWED, routes=FOR_EVER)
case("upgrade_disabled_by_route", exchange(UPGRADE), hcm=ALLOWED, routes=[route_to(upgrade_configs=[
    {"upgrade_type": "websocket", "enabled": False}])])
case("upgrade_enabled_by_route", upgrade, routes=[route_to(timeout="0s", upgrade_configs=[{"upgrade_type": "websocket"}])],
     origin=agrees)
case("upgrade_h2c_ignored", exchange(get("/", "connection: upgrade, http2-settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQAAP__")))
case("upgrade_without_connection", exchange(get("/", "upgrade: websocket")))
CONNECT = b"CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n"
case("connect_not_allowed", exchange(CONNECT))
ROUTE = [{"match": {"connect_matcher": {}}, "route": {"cluster": "$case", "timeout": "0s"}}]


def connect(client):
    connection = client.connect()
    connection.send(CONNECT)
    connection.response(connect=True)
    talks(connection)


def accepts(wire):
    wire.record.append(wire.until(b"\r\n\r\n").decode().split("\r\n"))
    wire.send(b"HTTP/1.1 200 OK\r\n\r\n")
    wire.send(wire.exactly(4).upper())
    wire.rest()


case("connect_forwarded", connect, routes=ROUTE, hcm={"upgrade_configs": [{"upgrade_type": "CONNECT"}]}, origin=accepts)
case("connect_refused_by_origin", exchange(CONNECT), routes=ROUTE, hcm={"upgrade_configs": [{"upgrade_type": "CONNECT"}]},
     origin=[b"HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno"])
case("connect_ended_here", connect, routes=[{"match": {"connect_matcher": {}}, "route": {"cluster": "$case", "upgrade_configs": [
    {"upgrade_type": "CONNECT", "connect_config": {}}]}}], origin=lambda wire: (wire.send(wire.exactly(4).upper()), wire.rest()))
case("connect_no_route", exchange(CONNECT), hcm={"upgrade_configs": [{"upgrade_type": "CONNECT"}]}, routes=[])
case("connect_without_port", exchange(b"CONNECT a.example HTTP/1.1\r\nhost: a.example\r\n\r\n"), routes=ROUTE,
     hcm={"upgrade_configs": [{"upgrade_type": "CONNECT"}]}, origin=[b"HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n"])
