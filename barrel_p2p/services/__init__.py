"""Services: who belongs to the cluster, which processes can be found by name, and what
all nodes share: maps, leaders, placement, reminders.

In:   leases and suspicions of peers; channels and peers that come and go; one replica;
      requests and replies of routers.
Out:  Members, Registry, Router, Proxies, Names, Maps, Leaders, Shards, Reminders;
      MemberUp, MemberDead, MemberGone; the events of services, maps, leaders, shards
      and reminders.
From: Das, Gupta, Motivala, "SWIM", DSN 2002; Barrel P2P documentation, "Service
      registry".
"""
