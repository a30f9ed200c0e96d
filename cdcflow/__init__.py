"""cdcflow: copies a database's tables, follows its log, and never loses a row.

from cdcflow import Pipeline, read

Pipeline.from_file("cdcflow.yaml").run()

for event in read("postgresql://localhost/shop", tables=["public.orders"]):
    print(event.table, event.op, event.after)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdcflow.app import Pipeline
    from cdcflow.events import Event, read

__version__ = "0.1.0"

__all__ = ["Event", "Pipeline", "__version__", "read"]


def __getattr__(name: str) -> object:
    # Late, so that `cdcflow version` and `cdcflow --help` do not load drivers first.
    if name == "Pipeline":
        from cdcflow.app import Pipeline

        return Pipeline
    if name in ("Event", "read"):
        from cdcflow import events

        return getattr(events, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
