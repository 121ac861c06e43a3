"""The façade of the harness: all that a plugin or a notebook may import, loaded when first used.

The names stand in `__init__.pyi`, once for type checkers and for the loader.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
