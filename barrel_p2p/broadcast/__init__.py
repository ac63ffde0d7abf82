"""Plumtree: what one node says reaches all of them, each once, over a tree that heals.

In:   PeerUp and PeerDown; GOSSIP, IHAVE, GRAFT, PRUNE of peers; what is said here.
Out:  the same four to peers; a Delivery to listeners, also of what was said here.
From: Leitao, Pereira, Rodrigues, "Epidemic Broadcast Trees", SRDS 2007.
"""
