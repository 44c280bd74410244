"""The GPU's counter and CodeCarbon's GPU part, on a scripted NVML: no GPU is at hand."""

import os
import sys
from types import SimpleNamespace
from unittest import mock

import pytest
from powercap_tree import codecarbon_reads, make_tree

from joules.core.inference import Settings
from joules.core.machine_facts import Gpu
from joules.machine import machine_state
from joules.measure import instrument, run_entries
from joules.meters import nvml, powercap, reader
from joules.runtimes import llama_cpp, ollama


class NvmlError(Exception):
    """What NVML raises for what a GPU does not have."""


class Nvml:
    """A scripted NVML of one GPU, which counts `millijoules`; without a counter where None."""

    NVML_TEMPERATURE_GPU = 0
    NVML_PERF_POLICY_THERMAL = 1
    NVMLError = NVMLError_NotSupported = NvmlError

    def __init__(self, millijoules=5000):
        self.millijoules, self.reasons = millijoules, 0x04

    def nvmlInit(self):
        pass

    def nvmlDeviceGetCount(self):
        return 1

    def nvmlDeviceGetHandleByIndex(self, index):
        return index

    def nvmlDeviceGetTotalEnergyConsumption(self, gpu):
        if self.millijoules is None:
            raise NvmlError("not supported")
        return self.millijoules

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
        return "GPU-0"

    def nvmlDeviceGetPowerUsage(self, gpu):
        return 100_000

    def nvmlDeviceGetUtilizationRates(self, gpu):
        return SimpleNamespace(gpu=50)

    def nvmlDeviceGetTemperature(self, gpu, sensor):
        raise NvmlError("not supported")


@pytest.fixture
def gpu_card(monkeypatch):
    """A scripted GPU that both CodeCarbon and the own reader see."""
    import codecarbon.core.gpu as gpu
    import codecarbon.core.gpu_nvidia as gpu_nvidia

    scripted = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", scripted)
    with (
        mock.patch.object(gpu_nvidia, "pynvml", scripted),
        mock.patch.object(gpu, "PYNVML_AVAILABLE", True),
        mock.patch.object(gpu, "is_nvidia_system", lambda: True),
    ):
        yield scripted


def test_a_gpu_is_counted_by_its_own_counter_and_described(gpu_card):
    with reader.CounterMeter(nvml.nvml_counters(), 60) as meter:
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
    read = powercap.powercap_counters(root) + nvml.nvml_counters()
    with codecarbon_reads(root), reader.CounterMeter(read, 60) as meter:
        measured = instrument.Instrument("NLD", tmp_path, meter)
        assert measured.tier == "measured"
        assert measured.components["gpu"].source == "nvml_energy_counter"

        def work():
            package.add(10)
            gpu_card.millijoules += 30_000

        with measured.tasks() as measure_task, measured.window("tasks") as window:
            _, _, energy = measure_task("t", work)
        assert energy.gpu == pytest.approx(30, rel=2e-6)
        assert window.energy_j.gpu == pytest.approx(30, rel=2e-6)
        assert window.energy_own_j.gpu == pytest.approx(30)
        assert window.energy_j.headline_j() == pytest.approx(40, rel=2e-6)
        differences = run_entries.differences(window)
        assert differences == {"cpu": pytest.approx(0, abs=1e-5), "gpu": pytest.approx(0, abs=1e-5)}


def test_a_gpu_without_a_counter_is_sampled_and_has_no_second_reader(gpu_card, tmp_path):
    gpu_card.millijoules = None
    root, _, _ = make_tree(tmp_path / "powercap")
    read = powercap.powercap_counters(root) + nvml.nvml_counters()
    assert [each for each in read if each.component == "gpu"] == []
    with codecarbon_reads(root), reader.CounterMeter(read, 60) as meter:
        measured = instrument.Instrument("NLD", tmp_path, meter)
        assert measured.tier == "sampled"
        assert measured.components["gpu"].source == "power_samples"


def test_a_gpu_counter_that_goes_backwards_was_reset(gpu_card):
    with reader.CounterMeter(nvml.nvml_counters(), 60) as meter:
        gpu_card.millijoules = 10
        assert meter.total_j()["gpu"] == 0
        assert meter.resets == 1


def test_a_machine_without_a_gpu_has_no_gpu_counter():
    if os.path.exists("/dev/nvidiactl"):
        pytest.skip("this machine has a GPU")
    assert nvml.nvml_counters() == []
    assert machine_state.observe().gpus == []


def test_each_bundled_runtime_is_told_how_many_layers_the_gpu_computes(monkeypatch, tmp_path):
    settings = Settings(2048, 1, 512, 512, False, 99, 1, 256)
    served = ollama.Runtime({"provided": {}}, tmp_path)
    served._settings = settings
    assert served._options(256)["num_gpu"] == 99
    told: dict[str, int] = {}
    library = SimpleNamespace(
        Llama=lambda model, **arguments: told.update(arguments) or SimpleNamespace(model=None),
        GGML_TYPE_F16=1,
        llama_model_get_vocab=lambda model: None,
    )
    monkeypatch.setitem(sys.modules, "llama_cpp", library)
    llama_cpp.Worker("m.gguf", settings)
    assert told["n_gpu_layers"] == 99
