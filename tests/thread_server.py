"""A TCP server of the tests with a thread for each connection: what every scripted origin is (not a suite)."""
import socket
import threading


class ThreadServer:
    """Listens on `address` until closed. `serve(connection)` has a connection to itself; it is closed after that."""

    def __init__(self, serve=None, port=0, timeout=None, address="127.0.0.1"):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = socket.create_server((address, port), family=family, backlog=4096)
        self.port, self.timeout = self.listener.getsockname()[1], timeout
        if serve is not None:
            self.serve = serve
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            connection.settimeout(self.timeout)
            threading.Thread(target=self.run, args=(connection,), daemon=True).start()

    def run(self, connection):
        """The end of a connection is no error of the test."""
        with connection:
            try:
                self.serve(connection)
            except OSError:
                pass

    def serve(self, connection):
        raise NotImplementedError

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)  # a thread that waits in accept() would keep the port
        self.listener.close()
