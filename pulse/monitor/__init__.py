"""The service watches itself: queries, requests, events, targets, alerts and advice."""

from pulse.monitor.report import analyze_query_patterns, get_query_stats
from pulse.monitor.shared import reset as reset_query_stats
from pulse.monitor.tracking import track_query

__all__ = ["analyze_query_patterns", "get_query_stats", "reset_query_stats", "track_query"]
