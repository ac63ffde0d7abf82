"""Channels: one admitted connection to each peer, and the endpoint under them.

In:   engine events; ``auth`` decides who is admitted; a resolver says where nodes are.
Out:  Endpoint, Connection, Stream; Channels, Channel, Dispatcher; NodeUp and NodeDown.
From: Barrel P2P documentation, "Dist channel"; docs/reference/wire.md.
"""
