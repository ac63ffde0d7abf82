"""Bytes to values and back, with every input assumed hostile.

In:   bytes from a peer or a file; values from the application.
Out:  terms (Erlang External Term Format) and frames.
From: Erlang documentation, "External Term Format".
"""
