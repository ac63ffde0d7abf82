"""Values and pure data structures that every other room may use.

In:   nothing but Python values.
Out:  hybrid logical clock, atoms, pids and references.
From: Kulkarni et al., "Logical Physical Clocks", 2014.
"""
