"""The scripted client of a case. What it receives is recorded by itself."""
import socket
import ssl

from . import wire as wires


class Connection(wires.Wire):
    """One connection to the proxy."""

    def __init__(self, sock, record):
        super().__init__(sock)
        self.record = record

    def send(self, data):
        """What cannot be sent because the proxy closed is no error of the case: the answer shows it."""
        try:
            super().send(data)
        except wires.Ended:
            pass

    def response(self, head=False, connect=False):
        """Reads and records one response (or that there is none)."""
        try:
            message = wires.read_response(self, head, connect)
        except wires.Ended as end:
            # Whether RST or FIN comes depends on what was unread, and so on time.
            how = "closed" if end.how == "reset" else end.how
            self.record.append({"no response": how, "bytes": wires.show(self.buffer)})
            self.buffer = b""
            return None
        self.record.append(message.seen())
        return message

    def raw(self, count):
        """Reads and records so many bytes."""
        try:
            data = self.exactly(count)
        except wires.Ended as end:
            self.record.append({"bytes": wires.show(self.buffer), "end": end.how})
            self.buffer = b""
            return b""
        self.record.append({"bytes": wires.show(data)})
        return data

    def end(self, seconds=3.0, tell_reset=False):
        """Records whether the proxy ends the connection within a time. FIN and RST are told apart on demand: which
        comes depends on what was unread."""
        try:
            self.socket.settimeout(seconds)
        except OSError:
            pass
        data, how = self.rest()
        if how == "reset" and not tell_reset:
            how = "closed"
        seen = {"end": "open" if how == "silent" else how}
        if data:
            seen["bytes"] = wires.show(data)
        self.record.append(seen)


class Client:
    """Given to a case's function: opens connections, notes what else should be the same on both sides."""

    def __init__(self, case, folder):
        self.case, self.folder, self.port, self.record = case, folder, case.port, []
        self.connections = []

    def connect(self, port=None, tls=None, address="127.0.0.1", server_name=None, first=b"", source=None):
        """`tls`: an ssl.SSLContext, `first`: bytes before the handshake. A failed handshake is recorded and gives None."""
        record = []
        self.record.append(record)
        try:
            sock = socket.create_connection((address, port or self.port), timeout=wires.SECONDS_MAX,
                                            source_address=source and (source, 0))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if first:
                sock.sendall(first)
            if tls:
                sock = tls.wrap_socket(sock, server_hostname=server_name)
        except ssl.SSLError as error:
            record.append({"tls": error.reason})
            return None
        except OSError as error:
            record.append({"connect": type(error).__name__})
            return None
        connection = Connection(sock, record)
        self.connections.append(connection)
        return connection

    def note(self, name, value):
        self.record.append([{name: value}])

    def close(self):
        for connection in self.connections:
            try:
                connection.close()
            except OSError:
                pass


def exchange(*requests, head=False, responses=None, linger=0.1):
    """The usual client: on one connection each piece is sent and one response read; at the end it is noted whether the
    proxy closes. `responses`: how many to read after everything was sent at once."""

    def run(client):
        connection = client.connect()
        last = None
        for request in requests:
            connection.send(request)
            if responses is None:
                last = connection.response(head or request.startswith(b"HEAD "))
        for _ in range(responses or 0):
            last = connection.response(head)
        closing = last is None or last.status >= 400 or "close" in last.get("connection").lower()
        connection.end(3.0 if closing else linger)
    return run


def get(path="/", *headers, host="example.com", method="GET", body=None):
    """A request as bytes. Headers as "name: value"."""
    lines = [f"{method} {path} HTTP/1.1", f"host: {host}", *headers]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode("latin1") + b"\r\n\r\n" + (body or b"")
