"""The structures of llama-cpp-python are those of the llama.cpp that the runtimes share.

The package declares them once more, by hand. Where it is of another age than the library, a field
may lie elsewhere, and nothing says so: a setting is then read as another one. A C program that is
compiled against the library's own header says where each field lies and what the defaults are.
"""

import ctypes
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from joules.inputs import llama_cpp_bindings
from joules.machine.llama_cpp_package import VARIABLE, package_folder
from joules.runtimes.shared import llama_cpp_library

DEFAULTS = {
    "llama_model_params": "llama_model_default_params",
    "llama_context_params": "llama_context_default_params",
    "llama_sampler_chain_params": "llama_sampler_chain_default_params",
    "llama_model_quantize_params": "llama_model_quantize_default_params",
}
FOR_TRAINING_ONLY = "llama_opt_params"  # nothing here trains; 0.3.36 has it otherwise
# Of functions that the library lacks: no other file of the package names it, as a test holds.
NEWER = {"llama_embd"}
LEAST_COMPARED = 100  # fields
NAMES = ("llama_cpp.llama_cpp", "llama_cpp")  # modules of the package
Structure = type[ctypes.Structure]


class Field(NamedTuple):
    """Where a field lies in its structure, in bytes, and its bytes in the default as hexadecimal.

    The default is "" where there is none.
    """

    offset: int
    size: int
    default: str


class Layout(NamedTuple):
    """The bytes that a structure takes, and its fields by name; those of a union stand beside."""

    size: int
    fields: dict[str, Field]


def declared(header: str) -> dict[str, list[str]]:
    """Return the fields of each structure that a header defines."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", header, flags=re.DOTALL)
    found = {}
    for start in re.finditer(r"\bstruct (\w+)\s*\{", text):
        depth, end = 1, start.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        body = re.sub(r"\bunion\s*\{|\}", "", text[start.end() : end - 1])
        found[start[1]] = [name for each in body.split(";") for name in names_in(each)]
    return found


def names_in(declaration: str) -> list[str]:
    """Return the names that one declaration of C gives."""
    if function := re.search(r"\(\s*\*\s*(\w+)\s*\)", declaration):
        return [function[1]]
    names = (re.search(r"(\w+)\s*(\[\w+\])?\s*$", each) for each in declaration.split(","))
    return [found[1] for found in names if found]


def program(structures: dict[str, list[str]]) -> str:
    """Return a C program that prints the layouts of these structures as JSON."""
    lines = ['#include "llama.h"', "#include <stddef.h>", "#include <stdio.h>"]
    lines += ["static void hex(const void * p, size_t n) {"]
    lines += ['  for (size_t i = 0; i < n; i++) printf("%02x", ((const unsigned char *) p)[i]); }']
    lines += ["int main(void) {", '  printf("{");']
    for number, (name, fields) in enumerate(structures.items()):
        comma = "," if number else ""
        default = DEFAULTS.get(name)
        made = f"{default}()" if default else "{0}"
        lines += [f"  {{ struct {name} s = {made}; (void) s;"]
        lines += [f'  printf("{comma}\\"{name}\\": [%zu, {{", sizeof s);']
        for place, field in enumerate(fields):
            lines += [f'  printf("{"," if place else ""}\\"{field}\\": [%zu, %zu, \\"", ']
            lines += [f"    offsetof(struct {name}, {field}), sizeof s.{field});"]
            lines += [f"  hex(&s.{field}, sizeof s.{field});"] if default else []
            lines += ['  printf("\\"]");']
        lines += ['  printf("}]"); }']
    return "\n".join([*lines, '  printf("}\\n");', "  return 0;", "}"])


def of_library(library: Path, names: set[str], work: Path) -> dict[str, Layout]:
    """Return the layouts of those of these structures that the library's header defines."""
    headers = library / llama_cpp_library.HEADERS
    known = declared((headers / "llama.h").read_text(encoding="utf-8"))
    (work / "layouts.c").write_text(program({n: f for n, f in known.items() if n in names}))
    command = ["cc", "-w", "-I", headers, work / "layouts.c", "-o", work / "layouts"]
    command += ["-L", library, "-lllama", f"-Wl,-rpath,{library}", f"-Wl,-rpath-link,{library}"]
    subprocess.run(command, check=True)
    told = subprocess.run([work / "layouts"], capture_output=True, text=True, check=True).stdout
    return {
        name: Layout(size, {field: Field(*values) for field, values in fields.items()})
        for name, (size, fields) in json.loads(told).items()
    }


def placed(structure: Structure, base: int = 0) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size of each field, those of a union instead of the union."""
    for name, kind, *_ in structure._fields_:
        offset = base + getattr(structure, name).offset
        if isinstance(kind, type) and issubclass(kind, ctypes.Union):
            yield from placed(kind, offset)  # type: ignore[arg-type]
        else:
            yield name, offset, ctypes.sizeof(kind)


def structures_of(package: ModuleType) -> dict[str, Structure]:
    """Return the structures of the package that have fields, by their names in C."""
    everything = vars(package).values()
    found = {each for each in everything if isinstance(each, type) and each.__module__ in NAMES}
    return {
        each.__name__: each
        for each in found
        if issubclass(each, ctypes.Structure) and getattr(each, "_fields_", None)
    }


def of_package(package: ModuleType) -> dict[str, Layout]:
    """Return the layouts as the package has them, with the defaults as it reads them."""
    found = {}
    for name, structure in structures_of(package).items():
        data = bytes(getattr(package, DEFAULTS[name])()) if name in DEFAULTS else b""
        fields = {
            field: Field(offset, size, data[offset : offset + size].hex())
            for field, offset, size in placed(structure)
        }
        found[name] = Layout(ctypes.sizeof(structure), fields)
    return found


def differing(ours: dict[str, Layout], theirs: dict[str, Layout]) -> list[str]:
    """Return what differs: sizes, and fields that lie elsewhere or have another default."""
    found = [f"{name} is in one alone" for name in ours.keys() ^ theirs.keys()]
    for name in sorted(ours.keys() & theirs.keys()):
        a, b = ours[name], theirs[name]
        if a.size != b.size:
            found.append(f"sizeof {name}: {a.size}, {b.size}")
        for field in [*a.fields, *(each for each in b.fields if each not in a.fields)]:
            if a.fields.get(field) != b.fields.get(field):
                found.append(f"{name}.{field}: {a.fields.get(field)}, {b.fields.get(field)}")
    return found


@pytest.fixture(scope="module")
def package() -> Any:
    """The package, over the shared library whatever its own is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(llama_cpp_library.provide()))
        return llama_cpp_bindings.load()


@pytest.fixture(scope="module")
def layouts(package: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Layout]:
    """The layouts of the library for all structures of the package."""
    names = set(structures_of(package))
    return of_library(llama_cpp_library.provide(), names, tmp_path_factory.mktemp("layouts"))


def test_every_field_lies_where_the_library_has_it_and_every_default_is_the_same(
    package: Any, layouts: dict[str, Layout]
) -> None:
    compared, layouts = of_package(package), dict(layouts)
    assert set(DEFAULTS) <= set(compared)
    assert sum(len(layout.fields) for layout in layouts.values()) >= LEAST_COMPARED
    assert set(compared) - set(layouts) == NEWER
    for name in NEWER | {FOR_TRAINING_ONLY}:
        del compared[name]
    del layouts[FOR_TRAINING_ONLY]
    assert differing(compared, layouts) == []


def test_a_field_of_another_version_is_noticed(package: Any, layouts: dict[str, Layout]) -> None:
    class Older(ctypes.Structure):
        _fields_ = package.llama_context_params._fields_[1:]

    fields = {name: Field(offset, size, "") for name, offset, size in placed(Older)}
    name = "llama_context_params"
    older = {name: Layout(ctypes.sizeof(Older), fields)}
    found = differing(older, {name: layouts[name]})
    assert len(found) > len(fields)
    assert any(each.startswith(f"{name}.n_batch: ") for each in found)


def test_no_function_that_the_library_lacks_is_called_by_the_package(package: Any) -> None:
    """Outside the module that declares them."""
    folder = package_folder()
    assert folder is not None
    declaring = (folder / "llama_cpp.py").read_text(encoding="utf-8")
    asked = re.findall(r'@ctypes_function\(\s*"(\w+)"', declaring)
    library = ctypes.CDLL(str(llama_cpp_library.provide() / "libllama.so"))
    lacking = {name for name in asked if not hasattr(library, name)}
    assert 0 < len(lacking) < len(asked) / 10
    for file in [*folder.glob("*.py"), *(folder / "server").glob("*.py")]:
        if file.name != "llama_cpp.py":
            called = set(re.findall(r"\bllama_\w+", file.read_text(encoding="utf-8")))
            assert not called & (lacking | NEWER), file.name
