"""Benchmarks: every performance claim is a ratio measured here, in one run.

``bench.transport`` drives the QUIC engine beside its peers, ``bench.messages`` calls
and messages between nodes, ``bench.codec`` the term codec and the clock.
``bench.state`` measures what is kept.
``bench.micro`` is the pytest-benchmark suite, and ``bench.compare`` holds two results
against each other.
"""
