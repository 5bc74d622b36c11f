"""Bytes over a socket, and HTTP/1 messages as both ends of the harness see them: exact, nothing repaired."""
import re
import socket
import struct

SECONDS_MAX = 10.0


class Ended(Exception):
    """The peer ended the connection: "closed" or "reset"; or said nothing for too long: "silent"."""

    def __init__(self, how):
        super().__init__(how)
        self.how = how


class Wire:
    """A socket with what was read too much. Every wait is bounded."""

    def __init__(self, sock, seconds=SECONDS_MAX):
        self.socket, self.buffer = sock, b""
        sock.settimeout(seconds)

    def fill(self):
        try:
            piece = self.socket.recv(65536)
        except TimeoutError:
            raise Ended("silent") from None
        except OSError:
            raise Ended("reset") from None
        if not piece:
            raise Ended("closed")
        self.buffer += piece

    def exactly(self, count):
        while len(self.buffer) < count:
            self.fill()
        out, self.buffer = self.buffer[:count], self.buffer[count:]
        return out

    def until(self, mark):
        while mark not in self.buffer:
            self.fill()
        end = self.buffer.index(mark) + len(mark)
        out, self.buffer = self.buffer[:end], self.buffer[end:]
        return out

    def rest(self):
        """Everything up to the end, and how it ended."""
        while True:
            try:
                self.fill()
            except Ended as end:
                out, self.buffer = self.buffer, b""
                return out, end.how

    def send(self, data):
        try:
            self.socket.sendall(data)
        except OSError:
            raise Ended("reset") from None

    def half_close(self):
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def reset(self):
        """Ends it with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self):
        self.socket.close()


def show(data):
    """Bytes as text that JSON can carry; long ones by length and ends."""
    text = data.decode("latin1")
    return text if len(text) <= 4096 else f"{text[:64]}...{text[-64:]} ({len(text)} bytes)"


class Message:
    """One request or response. `start` is its first line, `headers` pairs in the order they came."""

    def __init__(self):
        self.start, self.headers, self.body, self.trailers = "", [], b"", []
        self.framing, self.cut = "none", ""

    def get(self, name):
        return next((value for key, value in self.headers if key.lower() == name), "")

    @property
    def status(self):
        return int(self.start.split()[1])

    @property
    def method(self):
        return self.start.split()[0]

    @property
    def path(self):
        return self.start.split()[1]

    def seen(self):
        out = {"start": self.start, "headers": self.headers, "body": show(self.body), "framing": self.framing}
        if self.trailers:
            out["trailers"] = self.trailers
        if self.cut:
            out["cut"] = self.cut
        return out


def fields(block):
    pairs = []
    for line in block.split(b"\r\n"):
        if line:
            name, _, value = line.decode("latin1").partition(":")
            pairs.append((name, value.lstrip(" ") if value[:2] != "  " else value))
    return pairs


def read_head(wire):
    message = Message()
    head = wire.until(b"\r\n\r\n")
    first, _, rest = head.partition(b"\r\n")
    message.start, message.headers = first.decode("latin1"), fields(rest)
    return message


def read_chunks(wire, message):
    message.framing = "chunked"
    while True:
        size = int(wire.until(b"\r\n").split(b";")[0], 16)
        if size == 0:
            break
        message.body += wire.exactly(size)
        wire.exactly(2)
    line = wire.until(b"\r\n")
    while line != b"\r\n":
        message.trailers += fields(line)
        line = wire.until(b"\r\n")


def read_length(wire, message, length):
    message.framing = "length"
    try:
        message.body = wire.exactly(length)
    except Ended:
        message.body, wire.buffer = wire.buffer, b""
        raise


def read_body(wire, message, none, to_end):
    length = message.get("content-length")
    try:
        if none:
            message.framing = "none"
        elif "chunked" in message.get("transfer-encoding").lower():
            read_chunks(wire, message)
        elif re.fullmatch(r"\d+", length):
            read_length(wire, message, int(length))
        elif to_end:
            message.framing = "to the end"
            message.body, how = wire.rest()
            message.cut = "" if how == "closed" else how
    except Ended as end:
        message.cut = end.how
    return message


def read_request(wire):
    message = read_head(wire)
    upgrade = message.start.startswith("CONNECT ")
    return read_body(wire, message, none=upgrade, to_end=False)


def read_response(wire, head=False, connect=False):
    """The next response, 1xx ones included."""
    message = read_head(wire)
    status = message.status
    bodiless = head or status < 200 or status in (204, 304) or (connect and status // 100 == 2)
    return read_body(wire, message, none=bodiless, to_end=True)
