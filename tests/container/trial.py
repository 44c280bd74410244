"""What `build.sh` asks of grading in the container: samples, their verdicts, hostile completions.

A script: `samples FILE` writes samples of known verdicts, `verdicts FILE` checks what `make grade`
made of them, `facts` prints what the sandbox is made of, and `hostile FILE` checks what
`hostile_run.py` printed. Exit status 1, with what was seen, where that is not as expected.
"""

import json
import sys
from collections import Counter
from pathlib import Path

from joules.grade.sandbox import sandbox
from joules.inputs.humaneval import problems

HOSTILE = sorted((Path(__file__).resolve().parents[1] / "data").glob("*hostile_completions.jsonl"))


def write_samples(path: Path) -> None:
    """Write two samples per task: the reference solution, and one that returns nothing."""
    rows = [
        {"task_id": problem.task_id, "completion": completion}
        for problem in problems().values()
        for completion in (problem.canonical_solution, "    return None\n")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def check_verdicts(path: Path) -> None:
    """Leave with status 1 unless every reference solution passed and every other sample failed."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    seen = Counter((number % 2, row["verdict"]) for number, row in enumerate(rows))
    expected = {(0, "passed"): len(problems()), (1, "failed"): len(problems())}
    if seen != expected:
        sys.exit(f"expected {expected}, found {dict(seen)}")
    print(f"samples: {len(problems())} references passed, {len(problems())} stubs failed")


def print_facts() -> None:
    """Print layers, kernel and scratch folder of the sandbox; it tries to break out first."""
    facts = sandbox.self_test()
    print(f"sandbox: {facts.mechanism}; bubblewrap {facts.bubblewrap}")
    print(f"         Landlock ABI {facts.landlock_abi}, scratch {facts.scratch_bytes} bytes")


def check_hostile(path: Path) -> None:
    """Leave with status 1 unless every hostile completion was judged, and none did harm."""
    report = json.loads(path.read_text(encoding="utf-8"))
    count = sum(len(file.read_text(encoding="utf-8").splitlines()) for file in HOSTILE)
    if report["problems"] or len(report["verdicts"]) != count:
        sys.exit(f"expected no harm and {count} verdicts, found {report}")
    print(f"hostile: {count} judged, no harm (user {report['user']}, {report['bubblewrap']})")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["samples", file]:
            write_samples(Path(file))
        case ["verdicts", file]:
            check_verdicts(Path(file))
        case ["facts"]:
            print_facts()
        case ["hostile", file]:
            check_hostile(Path(file))
        case _:
            sys.exit(__doc__)
