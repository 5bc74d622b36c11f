"""HTTP/2 frame by frame, for both ends: what is sent is exactly what the case says, wrong or not. HPACK by PyPI's hpack."""
import struct

import hpack

from . import wire as wires

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NAMES = ["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE",
         "CONTINUATION"]
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK, PADDED = 1, 4, 1, 8


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def request(path="/", *more, method="GET", authority="example.com", scheme="http"):
    """Header pairs of a usual request; "name: value" after it."""
    return [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path),
            *[tuple(m.split(": ", 1)) for m in more]]


class Peer:
    """One end of a connection, over a Wire. `seen` collects per stream what came; control frames go to `control`."""

    def __init__(self, wire, server=False, settings=b""):
        self.wire, self.server = wire, server
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.streams, self.control, self.ended = {}, [], set()
        self.how = None
        if server:
            wire.exactly(len(PREFACE))
        else:
            wire.send(PREFACE)
        wire.send(frame(SETTINGS, 0, 0, settings))

    def block(self, headers):
        return self.encoder.encode([hpack.NeverIndexedHeaderTuple(*pair) for pair in headers])

    def headers(self, stream, headers, end=True, flags=END_HEADERS):
        self.wire.send(frame(HEADERS, flags | (END_STREAM if end else 0), stream, self.block(headers)))

    def data(self, stream, data, end=True):
        self.wire.send(frame(DATA, END_STREAM if end else 0, stream, data))

    def send(self, raw):
        self.wire.send(raw)

    def stream(self, number):
        return self.streams.setdefault(number, {})

    def read_frame(self):
        head = self.wire.exactly(9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        number = int.from_bytes(head[5:], "big") & 0x7fffffff
        payload = self.wire.exactly(length)
        if kind == HEADERS:
            while not flags & END_HEADERS:
                more = self.wire.exactly(9)
                payload += self.wire.exactly(int.from_bytes(more[:3], "big"))
                flags |= more[4] & END_HEADERS
            fields = [[str(n), str(v)] for n, v in self.decoder.decode(payload)]
            # The order among pseudo-headers has no meaning (RFC 9113 8.3); that they come first has.
            count = sum(1 for n, _ in fields[:5] if n.startswith(":"))
            fields = sorted(fields[:count]) + fields[count:]
            seen = self.stream(number)
            if "headers" not in seen:
                seen["headers"] = fields
            elif dict(seen["headers"]).get(":status", "").startswith("1"):
                seen["informational"], seen["headers"] = seen["headers"], fields
            else:
                seen["trailers"] = fields
        elif kind == DATA:
            seen = self.stream(number)
            seen["body"] = seen.get("body", "") + payload.decode("latin1")
            if payload:
                update = struct.pack(">I", len(payload))
                self.wire.send(frame(WINDOW, 0, 0, update) + frame(WINDOW, 0, number, update))
        elif kind == RST:
            self.stream(number)["reset"] = int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & ACK:
            self.wire.send(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self.wire.send(frame(PING, ACK, 0, payload))
        elif kind == PING:
            self.control.append("PING ACK " + payload.decode("latin1"))
        elif kind == GOAWAY:
            self.control.append(f"GOAWAY {int.from_bytes(payload[4:8], 'big')}")
        if kind in (HEADERS, DATA) and flags & END_STREAM or kind == RST:
            self.ended.add(number)
        return kind, flags, number, payload

    def until_ended(self, *streams):
        """Reads until all of them have ended or the connection has."""
        try:
            while not set(streams) <= self.ended:
                self.read_frame()
        except wires.Ended as end:
            self.how = end.how
        return self

    def until_quiet(self, seconds):
        """Reads until nothing comes for a time or the connection ends."""
        self.wire.socket.settimeout(seconds)
        try:
            while True:
                self.read_frame()
        except wires.Ended as end:
            self.how = end.how
        return self

    def seen(self):
        out = {str(k): v for k, v in sorted(self.streams.items())}
        for each in out.values():
            if len(each.get("body", "")) > 4096:
                each["body"] = wires.show(each["body"].encode("latin1"))
        if self.control:
            out["control"] = self.control
        return out


def client(*steps, quiet=None, tls=None, settings=b""):
    """A case's client: `steps` are functions (peer) or raw bytes; afterwards streams 1, 3, … that were opened by steps of
    `ask` are waited for, or, with `quiet`, everything up to so many seconds of silence. How it ended is recorded when the
    proxy ended it."""

    def run(given):
        connection = given.connect(tls=tls)
        peer = Peer(connection, settings=settings)
        peer.asked = []
        for step in steps:
            if callable(step):
                step(peer)
            else:
                peer.send(step)
        if quiet is None:
            peer.until_ended(*peer.asked)
        else:
            peer.until_quiet(quiet)
        seen = peer.seen()
        if peer.how in ("closed", "reset"):
            seen["end"] = "closed"
        elif quiet is None and peer.how == "silent":
            seen["end"] = "silent"
        connection.record.append(seen)
    return run


def ask(stream, headers, body=None, trailers=None):
    """A step: a whole request, whose answer is waited for."""

    def run(peer):
        peer.asked.append(stream)
        peer.headers(stream, headers, end=body is None and trailers is None)
        if body is not None:
            peer.data(stream, body, end=trailers is None)
        if trailers is not None:
            peer.headers(stream, trailers)
    return run


def origin(answer):
    """A script for `origin=`: `answer(peer, stream)` is called when a request is complete (or has sent what `early` says)."""

    def serve(wire):
        peer = Peer(wire, server=True)
        wire.record.append(peer.streams)
        done = set()
        while True:
            peer.read_frame()
            for number in sorted(peer.ended - done):
                done.add(number)
                if "reset" not in peer.stream(number):
                    answer(peer, number)
    return serve


def reply(status="200", body=b"ok", headers=(), trailers=None):
    """For origin(): a whole answer."""

    def give(peer, stream):
        peer.headers(stream, [(":status", status), *headers], end=not body and trailers is None)
        if body:
            peer.data(stream, body, end=trailers is None)
        if trailers is not None:
            peer.headers(stream, trailers)
    return give
