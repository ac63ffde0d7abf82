"""What ``doctor`` looks at on this host. Each check changes nothing.

Source: Linux, proc(5), getrlimit(2).
"""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from barrel_p2p.auth.identity import PRIVATE_FILE, load_key_pair
from barrel_p2p.cli.check import Check, State
from barrel_p2p.cli.network import network_checks
from barrel_p2p.config import Config
from barrel_p2p.core.clock import SystemClock
from barrel_p2p.core.names import host_of
from barrel_p2p.discovery.configured import chain_of
from barrel_p2p.errors import BarrelError
from barrel_p2p.node.data_dir import CREATION_EPOCH_S
from barrel_p2p.quic.library import picoquic_table
from barrel_p2p.storage.files import read_file

__all__ = ["checks_of"]

_FILES_MIN: Final = 1_024


def checks_of(config: Config, name: str, directory: Path) -> Iterator[Check]:
    """Look at everything that a node of these settings depends on.

    Args:
        config: Its settings.
        name: Its name.
        directory: Its data directory, which may not exist.
    """
    yield from _settings(config)
    yield from _transport()
    yield _port(config)
    yield from _files(directory, config)
    yield _clock(directory)
    yield from _names(config, name)
    yield _descriptors()
    yield from network_checks(config, name, directory)


def _settings(config: Config) -> Iterator[Check]:
    warnings = config.warnings()
    for warning in warnings:
        default = warning.startswith("dist_cookie")
        fix = "set dist_cookie_file to a file of mode 0600" if default else None
        yield Check("cookie" if default else "config", "warn", warning, fix)
    if not any(warning.startswith("dist_cookie") for warning in warnings):
        yield Check("cookie", "ok", "not the default")


def _transport() -> Iterator[Check]:
    try:
        picoquic_table()
    except ImportError as error:
        yield Check("picoquic", "fail", str(error), "make setup")
    else:
        yield Check("picoquic", "ok", "found, and all its symbols")


def _port(config: Config) -> Check:
    host, port = config.bind_host, config.listen_port
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(found[0], socket.SOCK_DGRAM) as probe:
            probe.bind(found[4])
    except OSError as error:
        return Check(
            "port",
            "fail",
            f"{host} UDP port {port} cannot be bound: {error.strerror or error}",
            "stop what uses it (ss -lunp), or choose another --port",
        )
    return Check("port", "ok", f"{host} UDP port {port or 'any'} can be bound")


def _files(directory: Path, config: Config) -> Iterator[Check]:
    if not directory.exists():
        yield Check("data", "ok", f"{directory} is made at the first start")
        return
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & 0o077:
        fix = f"chmod 700 {directory}"
        yield Check("data", "fail", f"{directory} has mode {mode:04o}", fix)
    else:
        yield Check("data", "ok", f"{directory} has mode {mode:04o}")
    yield _holder(directory)
    keys = directory / config.auth_key_dir
    if not os.path.lexists(keys / PRIVATE_FILE):
        yield Check("keys", "ok", f"{keys} gets a key pair at the first start")
        return
    try:
        load_key_pair(keys)
    except BarrelError as error:
        yield Check("keys", "fail", str(error), error.hint)
    else:
        yield Check("keys", "ok", f"{keys / PRIVATE_FILE} is private and fits node.pub")


def _holder(directory: Path) -> Check:
    """Whether a process holds the lock, found out without taking it."""
    path = directory / "lock"
    try:
        inode = path.stat().st_ino
        locks = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return Check("lock", "ok", "no node uses the directory")
    for line in locks:
        fields = line.split()
        if len(fields) > 5 and fields[5].rpartition(":")[2] == str(inode):
            return Check("lock", "ok", f"process {fields[4]} uses the directory")
    return Check("lock", "ok", "no node uses the directory")


def _clock(directory: Path) -> Check:
    now_s = int(time.time())
    if now_s < CREATION_EPOCH_S:
        text = f"the clock shows {time.strftime('%Y-%m-%d', time.gmtime(now_s))}"
        return Check("clock", "fail", text, "synchronise it (timedatectl)")
    try:
        stored = int(read_file(directory / "creation", bytes_max=16)) + CREATION_EPOCH_S
    except (BarrelError, ValueError):
        stored = now_s
    if stored > now_s + 60:
        text = f"the last start was {stored - now_s} s in the future of this clock"
        return Check("clock", "warn", text, "synchronise it (timedatectl)")
    return Check("clock", "ok", "plausible; --peer compares it with another node's")


def _names(config: Config, name: str) -> Iterator[Check]:
    host = config.advertise_host or host_of(name)
    try:
        found = {str(each[4][0]) for each in socket.getaddrinfo(host, None)}
    except OSError as error:
        yield Check(
            "dns",
            "warn",
            f"{host} has no address: {error.strerror or error}",
            "others find this node only where its address is written down",
        )
    else:
        yield Check("dns", "ok", f"{host} is {', '.join(sorted(found))}")
    for contact in config.contact_nodes:
        yield asyncio.run(_contact(config, contact))


async def _contact(config: Config, contact: str) -> Check:
    try:
        answer = await chain_of(config, clock=SystemClock()).resolve(contact)
    except BarrelError as error:
        return Check(f"contact {contact}", "fail", str(error), error.hint)
    state: State = "ok" if answer.addresses else "fail"
    fix = None if answer.addresses else "write name@host:port in contact_nodes"
    return Check(f"contact {contact}", state, str(answer), fix)


def _descriptors() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= _FILES_MIN:
        return Check("open files", "ok", f"limit {soft:,}")
    fix = f"ulimit -n {min(hard, 65_536)}" if hard > soft else "raise LimitNOFILE"
    return Check("open files", "warn", f"limit {soft:,}, below {_FILES_MIN:,}", fix)
