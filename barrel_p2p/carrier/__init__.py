"""Connections and streams as awaitables on one event loop.

In:   engine events.
Out:  Endpoint, Connection, Stream.
From: Barrel P2P documentation, "Dist channel".
"""
