"""Who a node is, and how it proves it.

In:   names, key files, certificates.
Out:  the transport certificate (identity keys and the handshake follow).
From: RFC 5280; Barrel P2P documentation, "Authentication".
"""
