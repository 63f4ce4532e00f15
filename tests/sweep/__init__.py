"""Tiny checkpoints of every architecture that the engine runs, each in its family's layout.

The makers are in modules by family, which `sweep.registry.TYPES` takes together.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
