"""A shared cache that outlives its server: `from pulse.cache import cache`."""

from pulse.cache.computation import Entry
from pulse.cache.counters import Counters
from pulse.cache.service import CacheService

__all__ = ["CacheService", "Counters", "Entry", "cache"]

cache = CacheService()
