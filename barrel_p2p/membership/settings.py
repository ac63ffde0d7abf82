"""How large the views are and how often they are tended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from barrel_p2p.config import Config
from barrel_p2p.core.names import Address, NodeReference

__all__ = ["Settings", "address_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The keys of ``docs/reference/config.md`` that the views go by.

    Args:
        active_size: Most peers at a time, at least 1. ``Config`` asks for 2.
        passive_size: Most nodes remembered as replacements, at least 1.
        arwl: Steps of a walk that introduces a newcomer, or that carries a shuffle.
        prwl: Steps before its end at which a node remembers the newcomer.
        shuffle_length: Nodes told in a shuffle, the teller included.
        shuffle_period: Milliseconds between shuffles.
        max_fail_count: Failures in a row after which a node is no replacement.
        base_backoff_ms: Half the wait after the first failure; it doubles.
        passive_max_age_ms: Age at which a replacement that nobody met is dropped.
        passive_cleanup_period: Milliseconds between looks at ages.
        pending_timeout_ms: Longest that a request of ours is kept.
        churn_window_ms: Time over which comings and goings count as churn.
        contact_retry_ms: Milliseconds between attempts while there is no peer.
        contact_nodes: Whom to join; an empty host leaves the address to discovery.
    """

    active_size: int = 5
    passive_size: int = 30
    arwl: int = 6
    prwl: int = 3
    shuffle_length: int = 8
    shuffle_period: int = 10_000
    max_fail_count: int = 5
    base_backoff_ms: int = 1_000
    passive_max_age_ms: int = 300_000
    passive_cleanup_period: int = 60_000
    pending_timeout_ms: int = 30_000
    churn_window_ms: int = 30_000
    contact_retry_ms: int = 5_000
    contact_nodes: tuple[Address, ...] = ()

    @classmethod
    def of(cls, config: Config) -> Self:
        """The settings in a configuration.

        Raises:
            InvalidValue: An item of ``contact_nodes`` names no node.
        """
        return cls(
            active_size=config.active_size,
            passive_size=config.passive_size,
            arwl=config.arwl,
            prwl=config.prwl,
            shuffle_length=config.shuffle_length,
            shuffle_period=config.shuffle_period,
            max_fail_count=config.max_fail_count,
            base_backoff_ms=config.base_backoff_ms,
            passive_max_age_ms=config.passive_max_age_ms,
            passive_cleanup_period=config.passive_cleanup_period,
            pending_timeout_ms=config.pending_timeout_ms,
            churn_window_ms=config.churn_window_ms,
            contact_retry_ms=config.contact_retry_ms,
            contact_nodes=tuple(
                address_of(NodeReference.parse(text)) for text in config.contact_nodes
            ),
        )


def address_of(reference: NodeReference) -> Address:
    """``reference`` as views keep it: with an empty host where it has no address."""
    return Address(reference.name, reference.host or "", reference.port or 0)
