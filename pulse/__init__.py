"""Analytics-Pulse: self-hosted web analytics that shows its own performance."""

__version__ = "0.1.0"
