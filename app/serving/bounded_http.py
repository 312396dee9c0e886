"""HTTP connection with one deadline for a whole exchange, and a limit on received bytes.

The timeout of a socket applies to each call, so that a server that sends a byte now and then is
never too late, and `http.client` reads a body of any size.
"""

import http.client
import io
import socket
import ssl
import time

_PIECE = 2**16  # bytes per read, because http.client allocates what it is asked to read


class TooLargeError(Exception):
    """A response that exceeds the limit on bytes."""


class Connection(http.client.HTTPConnection):
    """Connection that is reused and, after an error, reopened.

    Args:
        host: Host name or address.
        port: Port; None for the default of the protocol.
        tls: Whether the protocol is HTTPS.
        max_bytes: Most bytes of a response, headers included.
    """

    def __init__(self, host: str, port: int | None, tls: bool, max_bytes: int):
        if tls:
            self.default_port = http.client.HTTPS_PORT
        # With the port, because http.client looks for one in a bare IPv6 address.
        super().__init__(host, self.default_port if port is None else port)
        self._tls = ssl.create_default_context() if tls else None
        self._max_bytes = max_bytes
        self._deadline = 0.0

    def exchange(
        self, method: str, path: str, body: bytes | None, seconds: float
    ) -> tuple[int, bytes, bool]:
        """Sends a request and reads the whole response.

        Args:
            method: HTTP method.
            path: Path of the URL.
            body: JSON to send.
            seconds: Time limit. Only the look-up of the host name can exceed it.

        Returns:
            The status, the body, and whether the body is known to be complete.

        Raises:
            TimeoutError: The response was not complete in time.
            TooLargeError: The response exceeds the limit.
            OSError, http.client.HTTPException: The connection or the response is broken.
        """
        self._deadline = time.monotonic() + seconds
        try:
            if self.sock:
                self.sock.begin(self._deadline)
            self.request(method, path, body, {"Content-Type": "application/json"})
            response = self.getresponse()
            # If the connection broke within the headers, the response seems to have no length.
            complete = response.chunked or response.length is not None
            if (response.length or 0) > self._max_bytes:
                raise TooLargeError
            pieces = []
            while piece := response.read(_PIECE):
                pieces.append(piece)
            if response.length:
                raise http.client.IncompleteRead(b"", response.length)
            return response.status, b"".join(pieces), complete
        except ValueError as error:  # for a negative size, for example
            self.close()
            raise http.client.HTTPException(str(error)) from error
        except BaseException:
            self.close()
            raise

    def connect(self) -> None:
        """Connects to the first address of the host that accepts, within the deadline."""
        sock = self._connect()
        try:
            if self._tls:
                sock.settimeout(_remaining(self._deadline))
                sock = self._tls.wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise
        self.sock = BoundedSocket(sock, self._max_bytes)
        self.sock.begin(self._deadline)

    def _connect(self) -> socket.socket:
        failure = OSError("the host has no address")
        for address in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
            family, kind, protocol, _, destination = address
            sock = socket.socket(family, kind, protocol)
            try:
                sock.settimeout(_remaining(self._deadline))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.connect(destination)
            except OSError as error:
                sock.close()
                failure = error
            else:
                return sock
        raise failure


class BoundedSocket:
    """The part of a socket that `http.client` uses, with a deadline and a limit on bytes.

    Args:
        sock: The socket.
        max_bytes: Most bytes that are received in an exchange.
    """

    def __init__(self, sock: socket.socket, max_bytes: int):
        self._sock, self._max_bytes = sock, max_bytes
        self._deadline, self._allowance = 0.0, 0

    def begin(self, deadline: float) -> None:
        """Begins an exchange: sets its deadline, and allows the full number of bytes again."""
        self._deadline, self._allowance = deadline, self._max_bytes

    def wait(self) -> None:
        """Lets the next call wait until the deadline.

        Raises:
            TimeoutError: It has passed.
        """
        self._sock.settimeout(_remaining(self._deadline))

    def count(self, size: int) -> None:
        """Counts received bytes.

        Raises:
            TooLargeError: They exceed the limit.
        """
        self._allowance -= size
        if self._allowance < 0:
            raise TooLargeError

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self.wait()
            rest = rest[self._sock.send(rest) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self, self._sock.makefile(mode, buffering=0)))

    def close(self) -> None:
        self._sock.close()


class _Reader(io.RawIOBase):
    """Stream of a socket that counts bytes and respects the deadline."""

    def __init__(self, sock: BoundedSocket, stream: io.RawIOBase):
        super().__init__()
        self._sock, self._stream = sock, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        self._sock.wait()
        size = self._stream.readinto(buffer) or 0
        self._sock.count(size)
        return size

    def close(self) -> None:
        self._stream.close()
        super().close()


def _remaining(deadline: float) -> float:
    """Returns the seconds until a deadline.

    Raises:
        TimeoutError: It has passed.
    """
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("the deadline has passed")
    return seconds
