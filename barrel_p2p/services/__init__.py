"""Services: who belongs to the cluster, and which processes can be found by name.

In:   leases and suspicions of peers; channels and peers that come and go; one replica;
      requests and replies of routers.
Out:  Members, Registry, Router, Proxies, Names; MemberUp, MemberDead, MemberGone; the
      service events.
From: Das, Gupta, Motivala, "SWIM", DSN 2002; Barrel P2P documentation, "Service
      registry".
"""
