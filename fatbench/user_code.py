"""Running Python files that users bring: from their source alone."""

import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType


class _SourceLoader(SourceFileLoader):
    """Compiles the source every time. Python's bytecode files would lie beside the user's file, and one that was edited
    twice within a second would be taken for what it was."""

    def __init__(self, name: str, path: Path, source: str | None) -> None:
        super().__init__(name, str(path))
        self._source = source

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path) if self._source is None else self._source.encode()
        return self.source_to_code(source, self.path)


def run_file(name: str, path: Path, source: str | None = None) -> ModuleType:
    """Return the module of a file that has been run; while it runs, and from then on, it is `sys.modules[name]`.

    Args:
        name: what the module calls itself.
        path: the file, as tracebacks name it.
        source: what to run; what the file holds, if None.

    Raises:
        BaseException: whatever the file raises.
    """
    loader = _SourceLoader(name, path, source)
    spec = spec_from_file_location(name, path, loader=loader)
    assert spec is not None  # a loader is given
    module = module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look a class's module up there
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
