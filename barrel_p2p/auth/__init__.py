"""Who a node is, and how it proves it to another.

In:   key files, pins, the cookie; messages of the peer's auth stream, with times.
Out:  messages for ours; StorePin, AskWanted; in the end Admitted or Refused.
      Besides: the transport's certificate.
From: RFC 8032, RFC 9106, RFC 5280; Krawczyk, "SIGMA", CRYPTO 2003; Barrel P2P
      documentation, "Authentication".
"""
