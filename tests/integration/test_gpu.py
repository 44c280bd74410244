"""The GPU's counter and CodeCarbon's GPU part, on a scripted NVML: no GPU is at hand."""

import os
import sys
import threading
import time
from types import SimpleNamespace
from unittest import mock

import msgspec
import pytest
from powercap_tree import codecarbon_reads, counters, make_tree
from scripted import LOOSE, Scripted, run

from joules.commands import machine_findings
from joules.core.errors import UserError
from joules.core.inference import Settings
from joules.core.machine_facts import Gpu
from joules.core.reading import load_study
from joules.inputs import llama_cpp_bindings
from joules.machine import machine_state
from joules.measure import instrument, run_entries, tiers, validity
from joules.meters import nvml, reader
from joules.meters.counter import SHORTEST_SAMPLED_S
from joules.runtimes import llama_cpp
from joules.runtimes.shared import ollama_server


class NvmlError(Exception):
    """What NVML raises for what a GPU does not have."""


class Nvml:
    """A scripted NVML: each card counts its `millijoules`; without a counter where None.

    `lost` are cards of which the driver gives no handle, `failing` those whose counter cannot be
    read now.
    """

    NVML_TEMPERATURE_GPU = 0
    NVML_PERF_POLICY_THERMAL = 1
    NVMLError = NVMLError_NotSupported = NvmlError

    def __init__(self, *millijoules):
        self.counted, self.reasons = list(millijoules or [5000]), 0x04
        self.lost, self.failing, self.power_mw = set(), set(), 100_000

    @property
    def millijoules(self):
        return self.counted[0]

    @millijoules.setter
    def millijoules(self, value):
        self.counted[0] = value

    def nvmlInit(self):
        pass

    def nvmlDeviceGetCount(self):
        return len(self.counted)

    def nvmlDeviceGetHandleByIndex(self, index):
        if index in self.lost:
            raise NvmlError("GPU is lost")
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu):
        if self.counted[gpu] is None or gpu in self.failing:
            raise NvmlError("not supported")
        return self.counted[gpu]

    def nvmlSystemGetDriverVersion(self):
        return "999.1"

    def nvmlDeviceGetMemoryInfo(self, gpu):
        return SimpleNamespace(total=80 * 2**30, free=79 * 2**30, used=2**30)

    def nvmlDeviceGetEnforcedPowerLimit(self, gpu):
        return 350_000

    def nvmlDeviceGetCurrentClocksEventReasons(self, gpu):
        return self.reasons

    def nvmlDeviceGetViolationStatus(self, gpu, policy):
        return SimpleNamespace(referenceTime=9, violationTime=7)

    def nvmlDeviceGetName(self, gpu):
        return "Scripted GPU"

    def nvmlDeviceGetUUID(self, gpu):
        return f"GPU-{gpu}"

    def nvmlDeviceGetPowerUsage(self, gpu):
        return self.power_mw

    def nvmlDeviceGetUtilizationRates(self, gpu):
        return SimpleNamespace(gpu=50)

    def nvmlDeviceGetTemperature(self, gpu, sensor):
        raise NvmlError("not supported")


@pytest.fixture
def cards(monkeypatch):
    """Return a function that puts scripted GPUs in, which both CodeCarbon and our reader see."""
    import codecarbon.core.gpu as gpu
    import codecarbon.core.gpu_nvidia as gpu_nvidia
    from codecarbon.core import hardware_cache

    def put_in(*millijoules):
        scripted = Nvml(*millijoules)
        hardware_cache.clear_cache()
        monkeypatch.setitem(sys.modules, "pynvml", scripted)
        monkeypatch.setattr(gpu_nvidia, "pynvml", scripted)
        return scripted

    with (
        mock.patch.object(gpu, "PYNVML_AVAILABLE", True),
        mock.patch.object(gpu, "is_nvidia_system", lambda: True),
    ):
        yield put_in
    hardware_cache.clear_cache()


@pytest.fixture
def gpu_card(cards):
    """One scripted GPU."""
    return cards(5000)


def let_count(card, watts):
    """Let a card's counter grow with time, whoever reads it and whenever, from now on."""
    began_s, before_mj = time.monotonic(), card.millijoules
    card.nvmlDeviceGetTotalEnergyConsumption = lambda gpu: (
        before_mj + watts * (time.monotonic() - began_s) * 1e3
    )


def test_a_gpu_is_counted_by_its_own_counter_and_described(gpu_card):
    with reader.OwnReader([nvml.Meter()], 60, 1e6) as meter:
        gpu_card.millijoules += 123_000
        assert meter.total_j()["gpu"] == pytest.approx(123)
    assert machine_state.observe().gpus == [
        Gpu(
            name="Scripted GPU",
            driver="999.1",
            memory_bytes=80 * 2**30,
            power_limit_w=350.0,
            temperature_c=None,
            clocks_held_by=["software power cap"],
            held_by_heat_ns=7,
        )
    ]


def test_both_readers_count_the_gpu_and_it_is_part_of_the_headline(gpu_card, tmp_path):
    root, package, _ = make_tree(tmp_path / "powercap")
    read = [*counters(root), nvml.Meter()]
    with codecarbon_reads(root), reader.OwnReader(read, 60, 1e6) as meter:
        measured = instrument.Instrument("NLD", tmp_path, meter)
        assert measured.tier == "measured"
        assert measured.tier_reason == "CPU and GPU energy come from counters."
        assert measured.components["gpu"].source == "nvml_energy_counter"
        with measured.window("tasks") as window:
            package.add(10)
            gpu_card.millijoules += 30_000
        assert window.energy_j.gpu == pytest.approx(30, rel=2e-6)
        assert window.energy_own_j.gpu == pytest.approx(30)
        assert measured.headline_j(window.energy_j) == pytest.approx(40, rel=2e-6)
        differences = run_entries.differences(window)
        assert differences == {"cpu": pytest.approx(0, abs=1e-5), "gpu": pytest.approx(0, abs=1e-5)}


def test_where_only_the_gpu_is_counted_its_energy_alone_may_be_the_headline(gpu_card, tmp_path):
    with reader.OwnReader([nvml.Meter()], 60, 1e6) as meter:
        whole = instrument.Instrument("NLD", tmp_path, meter)
        alone = instrument.Instrument("NLD", tmp_path, meter, "gpu")
        with alone.window("tasks") as window:
            gpu_card.millijoules += 30_000
    assert (whole.tier, alone.tier) == ("estimated", "measured")
    assert whole.components["gpu"].tier == "measured", "each component has its own"
    assert alone.tier_reason == (
        "GPU energy comes from counters. The processor's energy is modelled (cpu_load), and is no "
        "part of it."
    )
    assert alone.headline_j(window.energy_j) == pytest.approx(30, rel=2e-6)
    assert window.energy_j.cpu > 0, "it is stated all the same"
    assert alone.facts().headline == "gpu"


def test_a_headline_is_refused_where_codecarbon_reads_no_processor(gpu_card, tmp_path, monkeypatch):
    real = instrument.make_tracker

    def without_processor(*arguments):
        tracker = real(*arguments)
        tracker._hardware = [each for each in tracker._hardware if type(each).__name__ == "GPU"]
        return tracker

    monkeypatch.setattr(instrument, "make_tracker", without_processor)
    with reader.OwnReader([nvml.Meter()], 60, 1e6) as meter:
        with pytest.raises(UserError, match=r"no energy of the processor here.*`energy: gpu`"):
            instrument.Instrument("NLD", tmp_path, meter)
        alone = instrument.Instrument("NLD", tmp_path, meter, "gpu")
        with alone.window("tasks") as window, alone.tasks() as lap:
            gpu_card.millijoules += 30_000
            task = lap()
    assert window.energy_j.cpu is None and task.energy_j.cpu is None, "absent, and not 0 J"
    assert alone.headline_j(window.energy_j) == pytest.approx(30, rel=2e-6)


def test_both_readers_have_the_same_ends_of_a_window_however_long_its_tracker_takes(
    gpu_card, tmp_path, monkeypatch
):
    """What passes while a tracker starts its threads is in both, what its ends take in neither."""
    real = instrument.make_tracker

    def slow(*arguments):
        tracker = real(*arguments)
        begin = tracker._scheduler.start

        def start():
            gpu_card.millijoules += 7_000
            begin()

        tracker._scheduler.start = start
        return tracker

    def at_ends():
        gpu_card.millijoules += 500

    with reader.OwnReader([nvml.Meter()], 60, 1e6) as meter:
        measured = instrument.Instrument("NLD", tmp_path, meter, "gpu")
        monkeypatch.setattr(instrument, "make_tracker", slow)
        with measured.window("tasks", at_ends) as window:
            gpu_card.millijoules += 10_000
    assert window.energy_j.gpu == pytest.approx(17, rel=2e-6)
    assert window.energy_own_j.gpu == pytest.approx(17)
    assert run_entries.differences(window)["gpu"] == pytest.approx(0, abs=1e-5)


def test_gpu_energy_as_the_headline_is_refused_without_a_gpu(tmp_path):
    if nvml.Meter().cards:
        pytest.skip("this machine has a GPU")
    with (
        reader.OwnReader([nvml.Meter()]) as meter,
        pytest.raises(UserError, match=r"`energy: gpu`.*no GPU is seen"),
    ):
        instrument.Instrument("NLD", tmp_path, meter, "gpu")


def test_a_gpu_without_a_counter_is_sampled_and_has_no_second_reader(gpu_card, tmp_path):
    gpu_card.millijoules = None
    root, _, _ = make_tree(tmp_path / "powercap")
    assert nvml.Meter().channels == []
    with codecarbon_reads(root), reader.OwnReader([*counters(root), nvml.Meter()], 60) as meter:
        measured = instrument.Instrument("NLD", tmp_path, meter)
        assert measured.tier == "sampled"
        assert measured.components["gpu"].source == "power_samples"


def test_one_of_two_cards_without_a_counter_lowers_the_tier(cards, tmp_path):
    cards(5000, None)
    root, _, _ = make_tree(tmp_path / "powercap")
    with codecarbon_reads(root), reader.OwnReader([*counters(root), nvml.Meter()], 60) as meter:
        assert instrument.Instrument("NLD", tmp_path, meter).tier == "sampled"


def test_a_gpu_counter_that_goes_backwards_was_reset(gpu_card):
    with reader.OwnReader([nvml.Meter()], 60) as meter:
        gpu_card.millijoules = 10
        assert meter.total_j()["gpu"] == 0
        assert meter.resets == 1


@pytest.mark.parametrize("variable", ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"])
def test_both_readers_see_every_card_whatever_is_visible(cards, variable, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, "0")
    both = cards(1000, 1000)
    with reader.OwnReader([nvml.Meter()], 60, 1e6) as meter:
        measured = instrument.Instrument("NLD", tmp_path, meter, "gpu")
        assert measured.components["gpu"].devices == 2
        with measured.window("tasks") as window:
            both.counted = [11_000, 21_000]
    assert window.energy_j.gpu == pytest.approx(30, rel=2e-6)
    assert window.energy_own_j.gpu == pytest.approx(30)
    said = [finding.text for finding in machine_findings.gpu(1)]
    assert any(variable in text and "all 2" in text for text in said)


def test_a_card_that_cannot_be_read_for_a_while_makes_the_run_invalid_and_ends_nothing(
    gpu_card, tmp_path
):
    class Failing(Scripted):
        def complete(self, prompt, max_tokens=None):
            gpu_card.failing = {0} if prompt.text == "def f1" else set()
            time.sleep(0.05)
            gpu_card.millijoules += 500
            return super().complete(prompt, max_tokens)

    meter = reader.OwnReader([nvml.Meter()], 0.01, 1e6)
    parts, _ = run(Failing(), parameters=LOOSE, tmp=tmp_path, meter=meter)
    assert len(parts.tasks) == 3
    assert "counter_unreadable" in {rule.code for rule in parts.validity.codes}
    assert not parts.validity.valid


def test_the_reading_thread_lives_through_errors_of_any_kind(gpu_card):
    with reader.OwnReader([nvml.Meter()], 0.01, 1e6) as meter:
        gpu_card.nvmlDeviceGetTotalEnergyConsumption = lambda gpu: 1 / 0
        while meter.unreadable < 3:
            time.sleep(0.01)
        del gpu_card.nvmlDeviceGetTotalEnergyConsumption
        gpu_card.millijoules += 2000
        assert meter.total_j()["gpu"] == pytest.approx(2), "it was caught up with"
        assert any(each.name == "meter-NVML" for each in threading.enumerate())


def test_a_card_that_is_lost_in_a_run_does_not_end_it(gpu_card, tmp_path):
    class Losing(Scripted):
        def complete(self, prompt, max_tokens=None):
            if prompt.text == "def f1":
                gpu_card.lost = gpu_card.failing = {0}
            return super().complete(prompt, max_tokens)

    meter = reader.OwnReader([nvml.Meter()], 60, 1e6)
    parts, _ = run(Losing(), parameters=LOOSE, tmp=tmp_path, meter=meter)
    codes = {rule.code: rule.seen for rule in parts.validity.codes}
    assert parts.windows[-1].name == "idle_after"
    assert codes["counter_unreadable"] > 0
    assert "gpus" in codes["machine_settings_changed"]


def test_a_card_without_a_handle_from_the_start_is_named_and_nothing_is_measured(
    gpu_card, tmp_path
):
    gpu_card.lost = {0}
    root, _, _ = make_tree(tmp_path / "powercap")
    with codecarbon_reads(root), reader.OwnReader([*counters(root), nvml.Meter()], 60) as meter:
        measured = instrument.Instrument("NLD", tmp_path, meter)
    assert measured.tier == "estimated"
    assert "NVML device 0 gives no handle (GPU is lost)" in measured.tier_reason


@pytest.mark.parametrize(
    ("counted_w", "sampled_w", "words"),
    [
        (600, 100, ["600 W counted, limit 350 W", "100 W sampled"]),
        (250, 100, ["100 W sampled"]),
        (100, 300, ["300 W sampled"]),
        (120, 100, []),
    ],
)
def test_the_counter_is_held_against_sampled_power_and_the_card_s_limit(
    cards, counted_w, sampled_w, words, tmp_path
):
    card = cards(5000)
    card.power_mw = sampled_w * 1000
    let_count(card, counted_w)
    with reader.OwnReader([nvml.Meter()], 0.1) as meter:
        measured = instrument.Instrument("NLD", tmp_path, meter, "gpu")
        moments_s = meter._counters[0].moments_s
        with measured.window("tasks") as window:
            first = len(moments_s) + 1  # the one that is being taken may have begun before
            while len(moments_s) <= first or moments_s[-1] - moments_s[first] < SHORTEST_SAMPLED_S:
                time.sleep(0.05)
    check = validity.implausible(measured.seen_of_counters(window))
    assert check.not_checked is None
    assert check.broken == bool(words)
    assert all(any(word in seen for seen in check.seen) for word in (w[4:] for w in words)), check


def test_layers_on_a_gpu_that_no_meter_sees_are_refused_and_block_the_doctor():
    if nvml.Meter().cards:
        pytest.skip("this machine has a GPU")
    tiers.require_gpu_meter(0)
    with pytest.raises(UserError, match=r"`settings.gpu_layers` is 99.*no GPU is seen here"):
        tiers.require_gpu_meter(99)
    (finding,) = machine_findings.gpu(99)
    assert finding.mark == "blocks"
    assert list(machine_findings.gpu(0)) == []


def test_a_gpu_that_a_runtime_may_choose_and_no_meter_sees_is_refused(monkeypatch):
    if nvml.Meter().has_meter():
        pytest.skip("this machine has a GPU with a meter")
    monkeypatch.setattr(tiers.gpus, "devices", lambda: [])
    tiers.require_gpu_meter(None)
    monkeypatch.setattr(tiers.gpus, "devices", lambda: ["/dev/kfd"])
    tiers.require_gpu_meter(0)
    with pytest.raises(UserError, match=r"as installed may compute on a GPU.*/dev/kfd.*energy"):
        tiers.require_gpu_meter(None)


def test_gpu_energy_as_the_headline_is_refused_where_no_gpu_is_to_compute():
    with pytest.raises(ValueError, match="`settings.gpu_layers` is 0: no GPU would compute"):
        msgspec.structs.replace(load_study().study, energy="gpu")


def test_layers_on_a_gpu_that_is_seen_are_fine(gpu_card):
    tiers.require_gpu_meter(99)
    tiers.require_gpu_meter(None)
    assert [each.mark for each in machine_findings.gpu(99)] == ["ok"]


def test_the_doctor_says_which_energy_the_tier_is_of(gpu_card):
    own = load_study().study
    study = msgspec.structs.replace(
        own,
        require_tier="measured",
        energy="gpu",
        settings=msgspec.structs.replace(own.settings, gpu_layers=99),
    )
    first = next(machine_findings.energy(study))
    assert first.mark == "ok"
    assert first.text.startswith("measured. GPU energy comes from counters.")


def test_a_machine_without_a_gpu_has_no_gpu_counter():
    if os.path.exists("/dev/nvidiactl"):
        pytest.skip("this machine has a GPU")
    assert nvml.Meter().channels == []
    assert machine_state.observe().gpus == []


def test_each_bundled_runtime_is_told_how_many_layers_the_gpu_computes(monkeypatch):
    settings = Settings(2048, 1, 512, 512, False, 99, 1, 256)
    assert ollama_server.sampling(settings, 256)["num_gpu"] == 99
    told: dict[str, int] = {}
    library = SimpleNamespace(
        Llama=lambda model, **arguments: told.update(arguments) or SimpleNamespace(model=None),
        GGML_TYPE_F16=1,
        llama_model_get_vocab=lambda model: None,
    )
    monkeypatch.setattr(llama_cpp_bindings, "load", lambda: library)
    llama_cpp.Worker("m.gguf", settings)
    assert told["n_gpu_layers"] == 99
