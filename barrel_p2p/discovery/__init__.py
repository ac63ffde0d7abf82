"""Where a node listens, asked of everyone who might know.

In:   a node's name, or another way to say whom one means; our endpoint to publish.
Out:  Answer: addresses to dial, and what each back-end said and how long it took.
From: Barrel P2P documentation, "Discovery"; RFC 2782 (SRV).
"""
