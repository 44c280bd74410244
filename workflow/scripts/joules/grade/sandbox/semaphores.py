"""Semaphores for the threads of a program, in the place of those that several processes share.

Python's own (module `_multiprocessing`) are files in /dev/shm, which no program may write. A solver
cannot start a process, so threads are all that a semaphore has to hold apart.
Loaded inside the sandbox: standard library only.
"""

import importlib.machinery
import types
from typing import Any

NAME = "_multiprocessing"


class Finder:
    """Finder and loader on the meta path, for the one module of that name."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the import spec of the module, None for other names."""
        return importlib.machinery.ModuleSpec(name, self) if name == NAME else None  # type: ignore[arg-type]

    def create_module(self, spec: Any) -> types.ModuleType:
        """Return the module."""
        module = types.ModuleType(NAME)
        module.SemLock = _semaphore_class()  # type: ignore[attr-defined]
        module.sem_unlink = lambda name: None  # type: ignore[attr-defined]
        module.flags = {}  # type: ignore[attr-defined]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """Do nothing: the module is complete."""


def _semaphore_class() -> type:
    import threading  # seldom needed

    class SemLock:
        """A recursive lock (kind 0) or a semaphore (kind 1), as multiprocessing uses it."""

        SEM_VALUE_MAX = 2**31 - 1

        def __init__(self, kind: int, value: int, maxvalue: int, name: str, unlink: bool) -> None:
            self.kind, self.maxvalue, self.handle = kind, maxvalue, id(self)
            self.name = None  # nothing that would have to be removed at the end
            self._free = value
            self._owner = self._held = 0
            self._changed = threading.Condition(threading.Lock())

        def acquire(self, block: bool = True, timeout: float | None = None) -> bool:
            me = threading.get_ident()
            with self._changed:
                if self.kind == 0 and self._owner == me and self._held:
                    self._held += 1
                    return True
                seconds = timeout if timeout is None else max(0.0, timeout)
                seconds = seconds if block else 0.0
                if not self._changed.wait_for(lambda: self._free > 0, seconds):
                    return False
                self._free -= 1
                self._held += 1
                self._owner = me
                return True

        __enter__ = acquire

        def release(self) -> None:
            with self._changed:
                if self.kind == 0:
                    if self._owner != threading.get_ident() or not self._held:
                        raise AssertionError(
                            "attempt to release recursive lock not owned by thread"
                        )
                    self._held -= 1
                    if self._held:
                        return
                elif self._free >= self.maxvalue:
                    raise ValueError("semaphore or lock released too many times")
                else:
                    self._held -= 1
                self._free += 1
                self._changed.notify()

        def __exit__(self, *error: object) -> None:
            self.release()

        def _count(self) -> int:
            return self._held

        def _is_mine(self) -> bool:
            return self._held > 0 and self._owner == threading.get_ident()

        def _get_value(self) -> int:
            return self._free

        def _is_zero(self) -> bool:
            return self._free == 0

        def _after_fork(self) -> None:
            self._held = 0

    return SemLock
