"""What the harness costs: each runtime by its bare loop against the same through the harness.

The model is a ghost of Qwen2.5-Coder-0.5B's shape. Bare: the runtime's own client in a plain
process (`bare_loop.py`). Through the harness: the runtime's module inside
`protocol.measure_tasks`, with CodeCarbon's trackers and the own counters on. Both answer the same
prompts with the same number of tokens, threads and settings; both processes live throughout, and
Ollama's server is the same one. A pair is one pass of each, and every second pair starts with the
harness, so that a steady drift cancels.

Printed per runtime: `ratio`, tokens per second through the harness over bare, where the harness
counts the seconds of its task windows; `ratio_low` and `ratio_high`, its 95 % t interval over the
logarithms of the pairs; `window_ratio`, the same over the whole tasks window, in which the flush
prompts and the bookkeeping between tasks lie. Pairs are added to the least number until the lower
end of the interval reaches its goal, and no more than the most; an interval that is looked at after
each pair covers a little less than it says. `tracker_cpu_share` is the CPU time of the harness
process per second while it measures, less the same while it asks the same without any tracker.
"""

import argparse
import contextlib
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from scipy import stats

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "workflow/scripts"), str(ROOT / "tests"), str(Path(__file__).parent)]

import ghost  # noqa: E402
from real_runtimes import make_runtime, model_of, prompts_of  # noqa: E402

from joules.core.inference import Settings  # noqa: E402
from joules.machine import machine_state  # noqa: E402
from joules.machine.lock import measuring  # noqa: E402
from joules.measure import protocol  # noqa: E402
from joules.measure.instrument import Instrument, keep_messages  # noqa: E402
from joules.meters import all_meters  # noqa: E402
from joules.meters.reader import OwnReader  # noqa: E402
from joules.runtimes.shared import ollama_server  # noqa: E402

Work = Callable[[], tuple[int, float, float]]
RUNTIMES = ("ollama", "llama_cpp")
FLUSH = "~"
# Different first letters: no prompt shares a prefix with another, so no cache shortens one.
TEXTS = (
    "def mean(values):\n",
    "import math\n\ndef root(x):\n",
    "class Stack:\n",
    "for i in range(",
)
GOAL_RATIO, GOAL_LOW, GOAL_SHARE = 0.99, 0.98, 0.005


class Pass(NamedTuple):
    """One pass over the prompts.

    `seconds` are those of the answers alone, `window_s` those from the first to the last of them,
    `cpu_s` is the CPU time of this process in `wall_s`.
    """

    tokens: int
    seconds: float
    window_s: float
    wall_s: float
    cpu_s: float


class Trial(NamedTuple):
    """One pair and the pass without trackers."""

    bare: Pass
    harness: Pass
    untracked: Pass


def ratio_interval(ratios: Sequence[float], confidence: float = 0.95) -> tuple[float, ...]:
    """Return the geometric mean of ratios with its t interval over their logarithms.

    With a single ratio the interval is not known: nan.
    """
    logs = [math.log(ratio) for ratio in ratios]
    centre = statistics.fmean(logs)
    half = math.nan
    if len(logs) > 1:
        quantile = float(stats.t.ppf((1 + confidence) / 2, len(logs) - 1))
        half = quantile * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(centre), math.exp(centre - half), math.exp(centre + half)


def tracker_share(trials: Sequence[Trial]) -> float:
    """Return the trackers' CPU seconds per second: passes with them less those without."""
    with_trackers = sum(t.harness.cpu_s for t in trials) / sum(t.harness.wall_s for t in trials)
    without = sum(t.untracked.cpu_s for t in trials) / sum(t.untracked.wall_s for t in trials)
    return with_trackers - without


def speed_ratios(trials: Sequence[Trial], whole_window: bool) -> list[float]:
    """Return per pair tokens per second through the harness over bare."""
    found = []
    for bare, harness, _ in trials:
        assert bare.tokens == harness.tokens, (bare, harness)
        seconds = harness.window_s if whole_window else harness.seconds
        found.append(harness.tokens / seconds / (bare.tokens / bare.seconds))
    return found


def is_enough(trials: Sequence[Trial], least: int, most: int) -> bool:
    """Return whether the pairs of one runtime suffice: the interval's lower end is at its goal.

    Never with fewer than `least`, always with `most`. One pair has no interval, and no such end.
    """
    if len(trials) < least:
        return False
    return len(trials) >= most or ratio_interval(speed_ratios(trials, False))[1] >= GOAL_LOW


def lines_of(trials: dict[str, list[Trial]]) -> list[str]:
    """Return what the benchmark prints."""
    lines = []
    for name, own in trials.items():
        ratio, low, high = ratio_interval(speed_ratios(own, False))
        window = ratio_interval(speed_ratios(own, True))[0]
        lines += [
            f"pairs_{name}: {len(own)}",
            f"ratio_{name}: {ratio:.4f}",
            f"ratio_{name}_low: {low:.4f}",
            f"ratio_{name}_high: {high:.4f}",
            f"window_ratio_{name}: {window:.4f}",
        ]
    together = [trial for own in trials.values() for trial in own]
    return [*lines, f"tracker_cpu_share: {tracker_share(together):.4f}"]


def clocked(work: Work) -> Pass:
    """Run one pass, which returns tokens, seconds and window; add its wall and CPU time."""
    before, start = psutil.Process().cpu_times(), time.perf_counter()
    tokens, seconds, window_s = work()
    wall_s, after = time.perf_counter() - start, psutil.Process().cpu_times()
    cpu_s = after.user + after.system - before.user - before.system
    return Pass(tokens, seconds, window_s, wall_s, cpu_s)


@contextlib.contextmanager
def bare_loop(runtime: str, *arguments: Any) -> Iterator[Work]:
    """Yield a function that makes one pass in a plain process."""
    script = str(Path(__file__).with_name("bare_loop.py"))
    texts = [each if isinstance(each, str) else json.dumps(each) for each in arguments]
    with subprocess.Popen(
        [sys.executable, script, runtime, *texts],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None

        def answer_all() -> tuple[int, float, float]:
            assert process.stdin is not None and process.stdout is not None
            print("go", file=process.stdin, flush=True)
            answer = json.loads(process.stdout.readline())
            return answer["tokens"], answer["seconds"], answer["seconds"]

        yield answer_all
        process.stdin.close()


def compare(
    name: str, path: Path, settings: Settings, pairs: tuple[int, int], folder: Path
) -> list[Trial]:
    """Return the trials of one runtime; `pairs` are the least and the most of them.

    The first pass of each way is thrown away.
    """
    model = model_of(path)
    *asked, flush = prompts_of(model, *TEXTS, FLUSH)
    prompts = protocol.Prompts([(p.text, "", p) for p in asked], [], flush)
    with (
        OwnReader(all_meters()) as meter,
        make_runtime(name, folder) as runtime,
    ):
        keep_messages(folder / "codecarbon.log")
        instrument = Instrument("NLD", folder, meter)
        runtime.start(model, settings)
        if name == "ollama":
            # The module's own options, so that only the way of asking differs.
            request = {"model": "measured", "raw": True, "stream": False, "keep_alive": -1}
            request["options"] = ollama_server.sampling(settings, settings.max_tokens)
            arguments: tuple[Any, ...] = (runtime._url, request)  # type: ignore[attr-defined]
        else:
            arguments = (str(path), vars(settings))

        def through_the_harness() -> tuple[int, float, float]:
            window, answers, _ = protocol.measure_tasks(
                runtime, prompts, instrument, lambda line: None
            )
            tokens = sum(each.completion.generated_tokens for each in answers)
            seconds = sum(each.lap.duration_s for each in answers)
            return tokens, seconds, window.duration_s

        def without_trackers() -> tuple[int, float, float]:
            tokens, start = 0, time.perf_counter()
            for prompt in asked:
                runtime.complete(flush, max_tokens=1)
                tokens += runtime.complete(prompt).generated_tokens
            seconds = time.perf_counter() - start
            return tokens, seconds, seconds

        with bare_loop(name, *arguments, list(TEXTS)) as bare:
            bare(), through_the_harness()
            trials = []
            while not is_enough(trials, *pairs):
                ways = [bare, through_the_harness]
                if len(trials) % 2:
                    ways.reverse()
                passes = {way: clocked(way) for way in ways}
                untracked = clocked(without_trackers)
                trials.append(Trial(passes[bare], passes[through_the_harness], untracked))
                low = ratio_interval(speed_ratios(trials, False))[1]
                print(
                    f"{name}: pair {len(trials)} of {pairs[0]} to {pairs[1]}, from {low:.4f} on",
                    file=sys.stderr,
                )
    return trials


def main() -> None:
    """Run the benchmark and print its lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=8, help="the least of each runtime")
    parser.add_argument("--most", type=int, default=60, help="no more than so many pairs")
    parser.add_argument("--tokens", type=int, default=64)
    options = parser.parse_args()
    settings = Settings(
        context_length=512,
        threads=machine_state.threads_of("auto"),
        batch_size=512,
        micro_batch_size=512,
        flash_attention=False,
        gpu_layers=0,
        seed=1,
        max_tokens=options.tokens,
        # The ghost never ends an answer, so both runtimes can be asked alike.
        ignore_eos=False,
    )
    with tempfile.TemporaryDirectory() as scratch, measuring(lambda line: print(line, flush=True)):
        folder = Path(scratch)
        path = ghost.write_ghost(folder / "ghost-0.5b.gguf", ghost.HALF_BILLION)
        trials = {}
        for name in RUNTIMES:
            (folder / name).mkdir()
            pairs = (options.pairs, max(options.pairs, options.most))
            trials[name] = compare(name, path, settings, pairs, folder / name)
    print("\n".join(lines_of(trials)))
    print(f"goals: ratio >= {GOAL_RATIO}, its low >= {GOAL_LOW}, tracker_cpu_share <= {GOAL_SHARE}")


if __name__ == "__main__":
    main()
