"""HTTP/2 for cases: a client and an origin, frame by frame. What depends on nothing but the program's taste (SETTINGS, windows,
when a PING comes) is not recorded; messages, resets and ends are."""
import hpack

import h2_raw as raw

from . import wire as wires


class Message:
    def __init__(self):
        self.headers, self.trailers, self.body, self.informational = None, None, b"", []
        self.reset, self.ended = None, False

    def get(self, name):
        return next((value for key, value in self.headers or [] if key == name), "")

    def seen(self):
        out = {}
        if self.informational:
            out["informational"] = self.informational
        # The order of pseudo headers means nothing and differs by where they came from.
        out["headers"] = self.headers and (sorted(h for h in self.headers if h[0][0] == ":")
                                           + [h for h in self.headers if h[0][0] != ":"])
        if self.body:
            out["body"] = wires.show(self.body)
        if self.trailers is not None:
            out["trailers"] = self.trailers
        if self.reset is not None:
            out["reset"] = self.reset
        if not self.ended and self.reset is None:
            out["unfinished"] = True
        return out


class Peer:
    """Either end of a connection over a Wire."""

    def __init__(self, wire):
        self.wire, self.decoder, self.messages = wire, hpack.Decoder(max_header_list_size=1 << 20), {}
        self.goaway, self.last, self.ended, self.pongs, self.settings, self.block = None, None, None, 0, {}, b""

    def send(self, *frames):
        try:
            self.wire.send(b"".join(frames))
        except wires.Ended:
            pass

    def message(self, stream):
        return self.messages.setdefault(stream, Message())

    def step(self):
        """One frame. False at the end of the connection."""
        try:
            head = self.wire.exactly(9)
            payload = self.wire.exactly(int.from_bytes(head[:3], "big"))
        except wires.Ended as end:
            self.ended = end.how
            return False
        self.on_frame(head[3], head[4], int.from_bytes(head[5:9], "big"), payload)
        return True

    def on_frame(self, kind, flags, stream, payload):
        if kind in (raw.HEADERS, raw.CONTINUATION):
            self.block += payload[5:] if kind == raw.HEADERS and flags & raw.PRIORITY_FLAG else payload
            if kind == raw.HEADERS:
                self.ends = bool(flags & raw.END_STREAM)
            if flags & raw.END_HEADERS:
                fields = [(n.decode("latin1"), v.decode("latin1")) for n, v in self.decoder.decode(self.block, raw=True)]
                self.block = b""
                self.on_headers(stream, fields, self.ends)
        elif kind == raw.DATA:
            message = self.message(stream)
            message.body += payload
            message.ended = message.ended or bool(flags & raw.END_STREAM)
            if payload:
                self.send(raw.window(0, len(payload)), *([] if message.ended else [raw.window(stream, len(payload))]))
        elif kind == raw.RST:
            self.message(stream).reset = int.from_bytes(payload, "big")
        elif kind == raw.GOAWAY:
            self.last, self.goaway = int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")
        elif kind == raw.SETTINGS and not flags & raw.ACK:
            for at in range(0, len(payload), 6):
                self.settings[int.from_bytes(payload[at:at + 2], "big")] = int.from_bytes(payload[at + 2:at + 6], "big")
            self.send(raw.frame(raw.SETTINGS, raw.ACK))
        elif kind == raw.PING:
            if flags & raw.ACK:
                self.pongs += 1
            else:
                self.send(raw.frame(raw.PING, raw.ACK, 0, payload))

    def on_headers(self, stream, fields, end):
        message = self.message(stream)
        if dict(fields).get(":status", "").startswith("1"):
            message.informational.append(fields)
            return
        if message.headers is None:
            message.headers = fields
        else:
            message.trailers = fields
        message.ended = message.ended or end


class Http2(Peer):
    """The client of a case: h2 = Http2(client); h2.ask(...); h2.answers(1, 3)."""

    def __init__(self, client, **settings):
        self.connection = client.connect()
        super().__init__(self.connection)
        self.next = 1
        self.send(raw.PREFACE, raw.settings(**settings))

    def ask(self, path="/", method="GET", more=(), body=None, end=True, fields=None, trailers=None):
        """Sends a request and returns its stream. `fields`: all of them instead."""
        stream, self.next = self.next, self.next + 2
        block = raw.block(fields) if fields is not None else raw.request(path, method, "example.com", more=more)
        frames = [raw.headers(stream, block, end=end and body is None and trailers is None)]
        if body is not None:
            frames.append(raw.data(stream, body, end=end and trailers is None))
        if trailers is not None:
            frames.append(raw.headers(stream, raw.block(trailers), end=True))
        self.send(*frames)
        return stream

    def until(self, done):
        while not done() and self.step():
            pass

    def answers(self, *streams):
        """Reads until these are over (or the connection is) and records them."""
        over = lambda s: self.message(s).ended or self.message(s).reset is not None  # noqa: E731
        self.until(lambda: all(over(s) for s in streams))
        for stream in streams:
            self.connection.record.append(self.message(stream).seen())
        if self.ended or self.goaway is not None:
            self.connection.record.append({"goaway": self.goaway, "connection": "over" if self.ended else "open"})
        return [self.message(s) for s in streams]

    def finish(self, seconds=3.0):
        """Records whether the proxy ends the connection."""
        self.wire.socket.settimeout(seconds)
        self.until(lambda: False)
        self.connection.record.append({"goaway": self.goaway, "connection": "open" if self.ended == "silent" else "over"})


def exchange(*requests, **settings):
    """The usual client: requests (dictionaries for ask()) at once on one connection, then their answers."""

    def run(client):
        h2 = Http2(client, **settings)
        h2.answers(*[h2.ask(**each) for each in requests])
    return run


class Server(Peer):
    """The origin of a case. `answer(server, stream, message)` is called for each request when it is complete (or, with
    `early`, when its headers came). What a connection brought is recorded per request."""

    def __init__(self, wire, answer, early):
        super().__init__(wire)
        self.answer, self.early, self.answered = answer, early, set()

    def run(self):
        self.wire.exactly(len(raw.PREFACE))
        self.send(raw.settings(connect=1))
        while self.step():
            for stream, message in list(self.messages.items()):
                ready = message.headers is not None and (message.ended or self.early) and stream not in self.answered
                if not ready:
                    continue
                self.answered.add(stream)
                if not self.early:
                    self.wire.record.append(message.seen())
                if self.answer(self, stream, message) is False:
                    return
        if self.early:
            self.wire.record.extend(self.messages[s].seen() for s in sorted(self.messages) if s)

    def respond(self, stream, *more, status=200, body=b"", trailers=None, end=True):
        ends = end and not body and trailers is None
        self.send(raw.headers(stream, raw.block([(":status", str(status)), *more]), end=ends))
        if body:
            self.send(raw.data(stream, body, end=end and trailers is None))
        if trailers is not None:
            self.send(raw.headers(stream, raw.block(trailers)))


def origin(answer, early=False):
    return lambda wire: Server(wire, answer, early).run()


def ok(server, stream, _):
    server.respond(stream, ("content-type", "text/plain"), body=b"ok")
