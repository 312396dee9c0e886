"""Validation of TF_CONFIG, which describes a cluster and the place of this process in it."""

import re
from collections.abc import Mapping
from typing import NoReturn

from tasks.core.errors import UserError
from tasks.core.json_text import parse_json

VARIABLE = "TF_CONFIG"
_TYPES = ("chief", "worker")
_EXAMPLE = (
    '{"cluster": {"worker": ["one:2222", "two:2222"]}, "task": {"type": "worker", "index": 0}}'
)
# A host name, an IPv4 address, or an IPv6 address in brackets; then a port.
_ADDRESS = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%]+\]):([0-9]{1,5})")
_MAX_SHOWN = 200  # characters of a value in a message


def check(text: str) -> None:
    """Checks the value of TF_CONFIG.

    TensorFlow accepts some invalid values, or waits forever for a process that does not exist.

    Raises:
        UserError: It does not describe a cluster of workers and this process.
    """
    if not text.strip():
        _fail("must be set", text)
    try:
        config = parse_json(text, VARIABLE)
    except UserError as error:
        _fail(f"must be a JSON object ({str(error).removeprefix(f'{VARIABLE}: ')[:100]})", text)
    if not isinstance(config, dict):
        _fail("must be a JSON object", config)
    cluster = config.get("cluster")
    if not isinstance(cluster, dict) or not cluster:
        _fail("cluster must be an object with the addresses of each type of process", cluster)
    for kind, addresses in cluster.items():
        _check_addresses(kind, addresses)
    _check_unique(cluster)
    _check_task(config.get("task"), cluster)


def _check_addresses(kind: str, addresses: object) -> None:
    if kind not in _TYPES:
        _fail(
            "cluster must have only the types chief and worker; parameter servers and "
            "evaluators are not supported",
            kind,
        )
    if not isinstance(addresses, list) or not addresses:
        _fail(f"cluster.{kind} must be a list of addresses", addresses)
    if kind == "chief" and len(addresses) > 1:
        _fail("cluster.chief must have one address", addresses)
    for address in addresses:
        match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if not match or not 1 <= int(match[2]) <= 65535:
            _fail(
                f"cluster.{kind} must hold strings HOST:PORT with a port from 1 to 65535", address
            )


def _check_unique(cluster: Mapping[str, list[str]]) -> None:
    every = [address for addresses in cluster.values() for address in addresses]
    for address in every:
        if every.count(address) > 1:
            _fail("cluster must have each address once", address)


def _check_task(task: object, cluster: Mapping[str, list[str]]) -> None:
    if not isinstance(task, dict):
        _fail("task must be an object with the type and the index of this process", task)
    kind, index = task.get("type"), task.get("index")
    if not isinstance(kind, str) or kind not in cluster:
        _fail(f"task.type must be one of the types in cluster, {list(cluster)}", kind)
    if isinstance(index, str) and re.fullmatch("[0-9]{1,9}", index):
        index = int(index)  # as TensorFlow does
    last = len(cluster[kind]) - 1
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index <= last:
        _fail(
            f"task.index must be an integer from 0 to {last}, the last index of cluster.{kind}",
            index,
        )


def _fail(rule: str, value: object) -> NoReturn:
    shown = repr(value)
    if len(shown) > _MAX_SHOWN:
        shown = shown[:_MAX_SHOWN] + "..."
    raise UserError(
        f"--strategy multiworker: TF_CONFIG: {rule}, got {shown}.\n"
        f"An example for the first of two processes: {_EXAMPLE}"
    )
