"""`cdcflow demo`: two private databases, a shop with traffic, a crash in the middle, and the proof at the end."""

from cdcflow.demo.story import down, run

__all__ = ["down", "run"]
