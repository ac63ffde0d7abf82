"""Engines in many threads at once share nothing that one could spoil for another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tests.endpoints import certificate
from tests.tools import rounds
from tests.tree import ROOT

THREADS = 16
SECONDS_MAX = 50

HAMMER = """
import asyncio, faulthandler, hashlib, sys, threading
from pathlib import Path
import uvloop
from barrel_p2p.auth.certs import ensure_certificate
from barrel_p2p.carrier.endpoint import Endpoint

faulthandler.enable()
directory, factory, threads, turns = sys.argv[1:]
files = ensure_certificate(Path(directory))
start = threading.Barrier(int(threads))
echoed, failed = [], []

async def echo(stream):
    while chunk := await stream.read():
        await stream.write(chunk)
    stream.finish()

async def send(stream, data):
    await stream.write(data)
    stream.finish()

async def turn(near, far, data):
    dialled, accepted = await asyncio.gather(near.connect(*far.address), far.accept())
    stream = dialled.open_stream()
    sending = asyncio.create_task(send(stream, data))
    echoing = asyncio.create_task(echo(await accepted.accept_stream()))
    got = bytearray()
    while chunk := await stream.read():
        got += chunk
    await asyncio.gather(sending, echoing)
    assert got == data, "other bytes came back"
    echoed.append(len(got))
    dialled.close()
    await accepted.wait_closed()

async def hammer(number):
    for i in range(int(turns)):
        seed = hashlib.sha256(b"%d %d" % (number, i)).digest()
        near = await Endpoint.open("127.0.0.1", 0, certificate=files)
        far = await Endpoint.open("127.0.0.1", 0, certificate=files)
        async with asyncio.timeout(40), near, far:
            await turn(near, far, seed * 2_000)

def run(number):
    loops = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.SelectorEventLoop}
    try:
        start.wait()
        with asyncio.Runner(loop_factory=loops[factory]) as runner:
            runner.run(hammer(number))
    except BaseException as error:
        failed.append(f"thread {number}: {error!r}")

running = [threading.Thread(target=run, args=(i,)) for i in range(int(threads))]
for thread in running:
    thread.start()
for thread in running:
    thread.join()
assert not failed, failed
print(len(echoed), sum(echoed))
"""


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_threads_with_an_engine_pair_each_echo_every_byte_and_none_crashes(
    loop: str,
) -> None:
    """O7: 16 threads, each with a loop and two endpoints of its own."""
    turns = rounds(3, whole=60)
    directory = str(certificate().cert_file.parent)
    done = subprocess.run(
        [sys.executable, "-c", HAMMER, directory, loop, str(THREADS), str(turns)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert done.returncode >= 0, _death(-done.returncode, done.stderr)
    assert (done.returncode, done.stderr) == (0, "")
    total = THREADS * turns
    assert done.stdout.split() == [str(total), str(total * 64_000)]


def _death(number: int, told: str) -> str:
    return f"killed by {signal.Signals(number).name}:\n{told}"
