"""What is said of the engines' kernels, from lines as engines print them."""

from joules.write.claims_file import StudiedRuntime
from joules.write.kernels import kernel_sentences

# Of a campaign with Ollama 0.24, shortened.
PIP = "CPU : AVX2 = 1 | AVX512 = 1 | LLAMAFILE = 1 | OPENMP = 1 | REPACK = 1"
OLLAMA = "CPU.0.AVX2=1 CPU.0.AVX512=1 CPU.0.LLAMAFILE=1 compiler=cgo(gcc)"


def runtime(label: str, line: str | None) -> StudiedRuntime:
    facts = {} if line is None else {"simd": line}
    return StudiedRuntime(
        name=label, label=label, facts=facts, cannot_hold=[], version="", unobservable=[]
    )


def test_switches_that_engines_name_or_not_are_told_apart() -> None:
    found = kernel_sentences([runtime("Ollama", OLLAMA), runtime("pip", PIP)])
    assert len(found) == 3
    assert found[0].startswith("REPACK (") and found[0].endswith("named by pip, not by Ollama.")
    assert found[1].startswith("OPENMP (") and found[1].endswith("named by pip, not by Ollama.")
    assert found[2].startswith("LLAMAFILE (") and found[2].endswith("all of them name it.")


def test_an_engine_without_a_line_is_said_to_have_none() -> None:
    found = kernel_sentences([runtime("pip", PIP), runtime("other", None)])
    assert found[-1] == "No such line is known of other."
    assert "not by" not in " ".join(found), "what prints no line is not said to lack a switch"


def test_a_switch_that_is_off_is_not_named() -> None:
    (found,) = kernel_sentences([runtime("a", "LLAMAFILE = 1 | REPACK = 0")])
    assert found.startswith("LLAMAFILE")
