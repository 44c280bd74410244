"""How engines of one family differ, by the line that each prints about itself."""

import re
from collections.abc import Sequence

from joules.core.wording import listed
from joules.write.arm_words import in_sentence
from joules.write.claims_file import StudiedRuntime

# Switches of llama.cpp's build (ggml's CPU backend), and what each does.
SWITCHES = {
    "REPACK": "weights are laid out anew for the processor's vector unit when they are loaded",
    "OPENMP": "threads are those of OpenMP and not the engine's own",
    "LLAMAFILE": "matrix products by the kernels of llamafile",
}


NAMED = re.compile(r"\b([A-Z][A-Z0-9_]*)\s*=\s*1\b")


def line_of(runtime: StudiedRuntime) -> str:
    """Return the line that a runtime's engine prints about itself; empty where it has none."""
    return str(runtime.facts.get("simd") or "")


def switches_of(runtime: StudiedRuntime) -> set[str]:
    """Return what a line says was compiled in and can be used, as `AVX2` or `REPACK`."""
    return set(NAMED.findall(line_of(runtime)))


def differing_switches(runtimes: Sequence[StudiedRuntime]) -> list[str]:
    """Return per runtime what its line names and another's line does not, in words."""
    named = [switches_of(runtime) for runtime in runtimes]
    telling = [each for each in named if each]
    by_all = set.intersection(*telling) if telling else set()
    return [(", ".join(sorted(each - by_all)) or "none") if each else "" for each in named]


def kernel_sentences(runtimes: Sequence[StudiedRuntime]) -> list[str]:
    """Return one sentence per switch that any line names, and one on runtimes without a line.

    A line names what was compiled in; what it does not name is not said to be off. Empty where no
    runtime has a line.
    """
    lines = {in_sentence(runtime.label): line_of(runtime) for runtime in runtimes}
    telling = [label for label, line in lines.items() if line]
    if not telling:
        return []
    sentences = []
    for switch, meaning in SWITCHES.items():
        named = [label for label in telling if re.search(rf"\b{switch}\s*=\s*1", lines[label])]
        others = [label for label in telling if label not in named]
        if not named:
            continue
        who = "all of them name it" if not others else f"named by {listed(named)}"
        if others:
            who += f", not by {listed(others)}"
        sentences.append(f"{switch} ({meaning}): {who}.")
    if silent := [label for label in lines if label not in telling]:
        sentences.append(f"No such line is known of {listed(silent)}.")
    return sentences
