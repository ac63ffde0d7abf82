"""What survives a restart, and what it is worth after a crash.

In:   bytes to keep; a path.
Out:  the same bytes, whole and private, or a StorageError that says what to do.
From: POSIX open, rename and fsync.
"""
