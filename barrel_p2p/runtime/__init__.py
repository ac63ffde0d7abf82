"""Processes that talk, on one node or across two.

In:   SEND, CALL, REPLY and the signals of links and monitors, from lines and from here.
Out:  the same; mailboxes, exits, answers.
From: Erlang/OTP, "Processes" and "Distributed Erlang"; gen_server, supervisor.
"""
