"""QUIC for one event loop: the C engine in csrc/quic over picoquic.

In:   datagrams (recvmmsg, GRO), writes to streams.
Out:  a batch of events per wake-up; datagrams (sendmmsg, GSO).
From: RFC 9000, RFC 9001, RFC 9002.
"""
