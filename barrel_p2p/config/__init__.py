"""Everything a node can be told, in one frozen object that was checked once.

In:   keyword arguments, environment variables, a TOML file.
Out:  Config; ConfigError that names the key, where the value came from and the range.
From: Barrel P2P documentation, "Configuration reference".
"""

from barrel_p2p.config.settings import Config, TrustMode

__all__ = ["Config", "TrustMode"]
