"""The conditions that a study measures under: settings, windows, settle rule and limits.

Each key has its type, default, limits and meaning here and nowhere else. The defaults are strict.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from joules.core.inference import KvCacheType

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
NotNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=1)]


class AskedSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What every runtime must hold equal, as the study asks for it."""

    context_length: Annotated[
        int,
        Meta(
            ge=16,
            description="Tokens of prompt and answer together. A prompt that does not fit is "
            "refused, never cut.",
        ),
    ] = 4096
    threads: Annotated[
        Literal["auto"] | Count,
        Meta(
            description="Threads of the runtime. `auto`: the physical cores that this process may "
            "use, less one, at least one. A runtime on all cores starves itself and the meter."
        ),
    ] = "auto"
    batch_size: Annotated[
        Count, Meta(description="Largest number of prompt tokens handed over at once.")
    ] = 512
    micro_batch_size: Annotated[
        Count, Meta(description="Largest number of prompt tokens computed at once.")
    ] = 512
    flash_attention: Annotated[
        bool,
        Meta(description="The fused attention kernel. It changes rounding, and with it texts."),
    ] = False
    gpu_layers: Annotated[
        int,
        Meta(
            ge=0,
            description="Layers computed on the GPU; 0 is the CPU alone, as is the llama.cpp that "
            "runtimes share. llama-cpp-python then needs `runtime_options.llama_cpp.library: "
            "stock`, built for the GPU: `CMAKE_ARGS=-DGGML_CUDA=on make all`.",
        ),
    ] = 0
    kv_cache: Annotated[
        KvCacheType,
        Meta(
            description="Type of the keys and values that are kept of prompt and answer. Another "
            "than `f16` changes rounding and needs `flash_attention`; a runtime that cannot hold "
            "it is refused by name."
        ),
    ] = "f16"
    seed: Annotated[
        Count,
        Meta(
            description="Sent to the sampler. Decoding is greedy, so it changes nothing; it must "
            "not be 0, which means random to some runtimes."
        ),
    ] = 1
    max_tokens: Annotated[
        Literal["catalogue"] | Count,
        Meta(
            description="Answers end here at the latest. `catalogue`: at the limit of the model's "
            "prompt style in `models.yaml`."
        ),
    ] = "catalogue"


class Windows(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Lengths in seconds of the windows around the tasks."""

    preflight_s: Annotated[
        Positive, Meta(description="Seconds for which the machine is watched before a run.")
    ] = 10.0
    idle_s: Annotated[
        Positive,
        Meta(
            description="Seconds of each idle window: before the model is loaded, after it is "
            "loaded, after the tasks."
        ),
    ] = 30.0
    rest_s: Annotated[NotNegative, Meta(description="Seconds of rest after a run, at least.")] = (
        60.0
    )
    rest_margin_c: Annotated[
        NotNegative,
        Meta(
            description="Where there is a sensor, the rest lasts until the processor is within so "
            "many °C of its temperature before the first run of the sitting."
        ),
    ] = 2.0
    rest_cap_s: Annotated[
        NotNegative,
        Meta(
            description="The rest ends after so many seconds, or after `windows.rest_s` where that "
            "is longer, however warm the processor is."
        ),
    ] = 300.0


class SettleRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Prompts of our own before the measured ones, for the same time on every runtime."""

    limit: Annotated[
        Positive,
        Meta(
            description="A run whose time per token was not steady at the end of settling is "
            "counted as such and keeps its claims: steady is a coefficient of variation over the "
            "last four prompts of at most this."
        ),
    ] = 0.02
    seconds: Annotated[
        NotNegative,
        Meta(
            description="Before the measured prompts, short answers to prompts of our own "
            "(`data/warm_up_prompts.jsonl`) are asked for, for so many seconds: the same time on "
            "every runtime, so that each finds the machine equally warm."
        ),
    ] = 60.0


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What makes a run invalid: fixed in advance, blind to energy."""

    attempts: Annotated[
        Count,
        Meta(
            description="Attempts per run. Invalid ones are kept beside the record; when all are "
            "invalid, the workflow stops."
        ),
    ] = 3
    flag_only: Annotated[
        bool,
        Meta(
            description="`true` keeps a run that broke a rule and flags it; a flagged run is shown "
            "and carries no claim. The demonstration must end on a busy machine; a real study has "
            "`false`: where every attempt at a run broke a rule, the workflow stops."
        ),
    ] = False
    cpu_busy: Annotated[
        Share, Meta(description="Share of the machine that may be busy during the preflight.")
    ] = 0.05
    foreign_cpu: Annotated[
        Share, Meta(description="Share of the machine that others may use during the tasks.")
    ] = 0.02
    wait_s: Annotated[
        NotNegative,
        Meta(
            description="A machine that is busy before a run is watched again, for so long at "
            "most, before the run starts and is judged."
        ),
    ] = 600.0
    steal: Annotated[
        Share,
        Meta(
            description="Share of the machine that its host may take during the tasks (virtual "
            "machines)."
        ),
    ] = 0.01
    swap_bytes: Annotated[
        int, Meta(ge=0, description="Bytes that may move to or from swap during a run.")
    ] = 0
    clock_jump_s: Annotated[
        NotNegative,
        Meta(
            description="Wall clock against monotonic clock over a run. A machine that was "
            "suspended shows here."
        ),
    ] = 1.0
    sampling_gap_s: Annotated[
        Positive,
        Meta(
            description="Longest time without a reading of the meters, which is due every second."
        ),
    ] = 5.0
    bracket_s: Annotated[
        Positive,
        Meta(
            description="Longest time between either end of a window or task and the tracker's "
            "reading there."
        ),
    ] = 0.1
    wrap_share: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="Longest time between readings, as a share of the time in which a counter "
            "wraps.",
        ),
    ] = 0.8
    cross_check: Annotated[
        Positive,
        Meta(
            description="CodeCarbon's energy of the tasks window against that of the own reader of "
            "the counters, for each component that both read."
        ),
    ] = 0.01
    conservation: Annotated[
        Positive,
        Meta(
            description="Tasks and gaps, measured by a tracker of their own, against the whole "
            "window. Stated and not judged where energy is modelled: a model of the load does not "
            "conserve energy over milliseconds."
        ),
    ] = 0.01
    prompt_cache_ratio: Annotated[
        float,
        Meta(
            ge=1,
            description="How much faster than the fastest prompt before the tasks a prompt may be "
            "read. A prefix that was computed before is not read, and shows as many times faster.",
        ),
    ] = 3.0
    token_mismatch: Annotated[
        Share,
        Meta(
            description="Share of answers whose token count differs by more than three when their "
            "text is read again."
        ),
    ] = 0.05
    gap_time: Annotated[
        Share,
        Meta(
            description="With `energy: wall`, the share of the tasks window's time that may go to "
            "the gaps between tasks, which the meter at the wall cannot tell apart. What is above "
            "is flagged."
        ),
    ] = 0.05
    largest_power_w: Annotated[
        Positive,
        Meta(
            description="Between two readings a counter that steps back further than this power "
            "allows was reset and did not wrap; one that steps forward further is implausible. "
            "Neither step is energy."
        ),
    ] = 5000.0
