"""Replicas: one OR-Map on every node, kept alike by deltas, digests and chunks.

In:   writes of a store's owner; deliveries of ``broadcast``; sync frames; PeerUp,
      PeerDown and NodeDown; timers.
Out:  gossip to send; what others wrote, for the owner's callbacks; SYNC_REQUEST,
      SYNC_CHUNK and SYNC_DONE.
From: Barrel P2P documentation, "The replicated substrate"; Demers et al., "Epidemic
      Algorithms for Replicated Database Maintenance", PODC 1987 (anti-entropy).
"""
