"""Load: realistic traffic, the demo stream, load tests with their verdicts, history and comparison."""
