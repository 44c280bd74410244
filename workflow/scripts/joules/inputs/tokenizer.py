"""The model file's own tokenizer, in a process of its own.

Started as `python -m joules.inputs.tokenizer MODEL` it reads one JSON list of texts from standard
input and writes one JSON list of lists of token ids. Special tokens are parsed, as the runtimes do;
a beginning-of-text token is added where the file asks for one.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from joules.core.errors import UserError
from joules.core.places import SCRIPTS
from joules.inputs import llama_cpp_bindings
from joules.machine.llama_cpp_package import VARIABLE
from joules.machine.virtual_environments import python_of

PACKAGE = "llama-cpp-python"  # the distribution that reads the file


def tokenize(model: Path, texts: Sequence[str], add_bos: bool = True) -> list[list[int]]:
    """Return the token ids of each text. Raises UserError where llama-cpp-python cannot read it."""
    flag = str(int(add_bos))
    done = subprocess.run(
        [python_of("llama_cpp"), "-P", "-m", "joules.inputs.tokenizer", str(model), flag],
        input=json.dumps(list(texts)),
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != VARIABLE}
        | {"PYTHONPATH": str(SCRIPTS)},
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise UserError(
            f"The tokenizer of {model} could not be used: {last[0]} "
            "It is read by llama-cpp-python. Check that the file is a GGUF and that "
            "llama-cpp-python is installed (requirements/install.sh main)."
        )
    return json.loads(done.stdout)


def main(model: str, add_bos: str) -> None:
    """Read texts from standard input, write their token ids to standard output."""
    tokenizer = llama_cpp_bindings.load().Llama(model, vocab_only=True, verbose=False)
    texts = json.load(sys.stdin)
    ids = [
        tokenizer.tokenize(
            text.encode("utf-8", "surrogatepass"), add_bos=add_bos == "1", special=True
        )
        for text in texts
    ]
    json.dump(ids, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
