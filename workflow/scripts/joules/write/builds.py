"""Builds of llama.cpp, as the facts of runtimes tell them, and how far two of them are apart."""

import datetime
from collections.abc import Sequence
from typing import NamedTuple

from joules.core.wording import number_of
from joules.write.arm_words import in_sentence
from joules.write.claims_file import StudiedRuntime
from joules.write.kernels import differing_switches

SHOWN_OF_A_HASH = 12
ROUND_DIFFERENTLY = (
    "Runtimes round differently, so the same weights can give other texts, and a text that differs "
    "can flip a verdict. The table counts the flips."
)


class Engine(NamedTuple):
    """What a runtime's facts say of the library that it computes with; None: not said.

    `sha256` is that of the library, `build` llama.cpp's number, `date` that of its commit.
    """

    sha256: str | None
    build: int | None
    date: datetime.date | None
    commit: str | None

    @property
    def words(self) -> str:
        """Return it as `llama.cpp b10760, sha256 9c484d58d2ed`; empty where nothing is known."""
        number = "" if self.build is None else f"llama.cpp b{self.build}"
        commit = "" if number or not self.commit else f"llama.cpp {self.commit}"
        known = f"sha256 {self.sha256[:SHOWN_OF_A_HASH]}" if self.sha256 else ""
        return ", ".join(part for part in (number, commit, known) if part)

    def is_same_as(self, other: "Engine") -> bool:
        """Return whether both are one library, byte for byte, as far as their hashes tell."""
        return self.sha256 is not None and self.sha256 == other.sha256

    def differs_from(self, other: "Engine") -> bool:
        """Return whether the two are known to be no one library.

        One runtime tells a commit where another tells its tag, so that commits are asked last.
        """
        if self.sha256 is not None and other.sha256 is not None:
            return self.sha256 != other.sha256
        if self.build is not None and other.build is not None:
            return self.build != other.build
        return None not in (self.commit, other.commit) and self.commit != other.commit


class Build(NamedTuple):
    """A row of the table of builds."""

    label: str
    version: str
    build: str
    date: str
    commit: str
    switches: str
    sha256: str


def engine_of(runtime: StudiedRuntime) -> Engine:
    """Return what the facts of a runtime say of its engine."""
    facts = runtime.facts
    build, date = str(facts.get("llama_cpp_build")), str(facts.get("llama_cpp_date") or "")
    try:
        day = datetime.date.fromisoformat(date[:10])
    except ValueError:
        day = None
    return Engine(
        sha256=facts.get("engine_sha256") or None,
        build=int(build) if build.isdecimal() else None,
        date=day,
        commit=facts.get("llama_cpp_commit") or None,
    )


def builds(runtimes: Sequence[StudiedRuntime]) -> list[Build]:
    """Return the builds of all runtimes whose facts tell one; the switches are those that differ.

    Empty where none does.
    """
    engines = [engine_of(runtime) for runtime in runtimes]
    telling = [each for each in zip(runtimes, engines, strict=True) if any(each[1])]
    switches = differing_switches([runtime for runtime, _ in telling])
    return [
        Build(
            label=runtime.label,
            version=runtime.version,
            build="" if engine.build is None else f"b{engine.build}",
            date="" if engine.date is None else engine.date.isoformat(),
            commit=engine.commit or "",
            switches=named,
            sha256=(engine.sha256 or "")[:SHOWN_OF_A_HASH],
        )
        for (runtime, engine), named in zip(telling, switches, strict=True)
    ]


def distance(a: StudiedRuntime, b: StudiedRuntime) -> str:
    """Return how far the llama.cpp of two runtimes is apart, as a sentence; empty where unknown.

    In days only where both dates are known.
    """
    first, second = engine_of(a), engine_of(b)
    if first.build is None or second.build is None or first.build == second.build:
        return ""
    newer, older = (a, b) if first.build > second.build else (b, a)
    apart = number_of(abs(first.build - second.build), "build")
    if first.date and second.date:
        apart += f" and {number_of(abs((first.date - second.date).days), 'day')}"
    newer_label, older_label = in_sentence(newer.label), in_sentence(older.label)
    return f"The llama.cpp of {newer_label} is {apart} newer than that of {older_label}."


def why_texts(compared: Sequence[tuple[StudiedRuntime, StudiedRuntime, float]]) -> str:
    """Return what explains that texts are the same or not, of pairs with their share of same texts.

    Texts part where two sums are rounded otherwise: by other kernels, another build, another
    setting, or other batches of a prompt. Empty where nothing is compared.
    """
    if not compared:
        return ""
    one = [(a, b) for a, b, _ in compared if engine_of(a).is_same_as(engine_of(b))]
    if all(share == 1 for *_, share in compared):
        if len(one) == len(compared):
            return (
                "Every text is the same. All of them compute with one library of llama.cpp, byte "
                "for byte, with the same settings and batches, so that they round alike."
            )
        return "Every text is the same: where the engines round differently, no answer shows it."
    parted = [(a, b) for a, b, share in compared if share < 1]
    alike = _pairs([pair for pair in parted if pair in one])
    found = [ROUND_DIFFERENTLY]
    if alike:
        found.append(
            f"One library computes for {alike}: there a setting parts the texts, or how the "
            "program feeds the library."
        )
    if other := _pairs([pair for pair in parted if pair not in one]):
        found.append(
            f"Not known to compute with one library, and so with the same kernels: {other}."
        )
    return " ".join(found)


def _pairs(pairs: Sequence[tuple[StudiedRuntime, StudiedRuntime]]) -> str:
    """Return the pairs in words, each once."""
    told = (f"{in_sentence(a.label)} and {in_sentence(b.label)}" for a, b in pairs)
    return "; ".join(dict.fromkeys(told))
