"""HyParView membership: who this node's neighbours are.

In:   NodeUp and NodeDown; Join, ForwardJoin, Neighbor, NeighborReply, Disconnect,
      Shuffle and ShuffleReply from other nodes; what a dial came to; timers.
Out:  Send, Dial, SetTimer, Persist; publishes PeerUp and PeerDown, Joined and Left.
From: Leitao, Pereira, Rodrigues, "HyParView", DSN 2007; Barrel P2P documentation,
      "Cluster membership"; docs/reference/wire.md.
"""
