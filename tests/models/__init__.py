"""Plain-Python definitions of what compiled code must do. They never ship."""
