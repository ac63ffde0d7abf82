"""What runs from a shell.

In:   arguments, signals.
Out:  text or one JSON object on stdout, an exit code.
From: POSIX Utility Syntax Guidelines.
"""
