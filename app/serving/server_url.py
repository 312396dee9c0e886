"""Checks of what names a server and bounds its requests, without TensorFlow."""

import re
from urllib.parse import SplitResult, urlsplit

from tasks.core.errors import UserError

MAX_TIMEOUT = 86_400  # seconds; the system accepts only some years
MAX_VERSION = 2**63 - 1  # the server's type of versions is int64
_MAX_RESPONSE = 1024  # MiB; the limit of gRPC is a number of 32 bits


def check(
    url: str, version: int | None, timeout: float, retries: int, max_response: int
) -> SplitResult:
    """Returns the parts of a URL after checking it and the other arguments of a client.

    Args:
        url: `http://HOST:PORT` or `https://HOST:PORT` for REST, `grpc://HOST:PORT` for gRPC.
        version: Version of the model; None for the latest on the server.
        timeout: Time limit of a request in seconds, retries included.
        retries: Additional attempts of a request.
        max_response: Size limit of a response in MiB.

    Raises:
        UserError: The URL is invalid, or a number is out of range.
    """
    parts = _parse(url)
    if not 0 < timeout <= MAX_TIMEOUT:  # false for nan
        raise UserError(
            f"--timeout must be above 0 and at most {MAX_TIMEOUT} seconds, got {timeout:g}."
        )
    if version is not None and not 0 <= version <= MAX_VERSION:
        raise UserError(f"--version must be at least 0 and fit into 63 bits, got {version}.")
    if retries < 0:
        raise UserError(f"--retries must be at least 0, got {retries}.")
    if not 1 <= max_response <= _MAX_RESPONSE:
        raise UserError(
            f"--max-response must be at least 1 and at most {_MAX_RESPONSE} MiB, got "
            f"{max_response}."
        )
    return parts


def _parse(url: str) -> SplitResult:
    rule = "--server must be http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UserError(f"{rule}, got {url!r}: {error}.") from error
    has_host = parts.hostname and not parts.netloc.endswith(":")
    if parts.scheme not in ("http", "https", "grpc") or not has_host:
        raise UserError(f"{rule}, got {url!r}.")
    if not _is_host(parts.hostname) or not re.fullmatch(r"[!-~]*", parts.path):
        raise UserError(f"{rule}; its host must be a domain name, its path ASCII, got {url!r}.")
    if parts.scheme == "grpc" and (port is None or parts.path.strip("/")):
        raise UserError(f"{rule}; gRPC requires a port and has no path, got {url!r}.")
    if parts.query or parts.fragment or parts.username is not None:
        raise UserError(f"{rule}, without a user, a query or a fragment, got {url!r}.")
    return parts


def _is_host(name: str) -> bool:
    """Returns whether a name can be looked up as a domain name or an address."""
    try:
        ascii_name = name.encode("idna").decode("ascii")
    except UnicodeError:
        return False
    return re.fullmatch(r"[!-~]+", ascii_name) is not None
