"""A meter's own logger: its growing file, its clock, its headings, and what is no reading."""

import os

import pytest
from meters.load import Load, SimulatedClock

from joules import meters
from joules.core.errors import UserError
from joules.meters.counter import Counter
from joules.meters.meter import BadAnswer, Unreachable

EPOCH_S = 1_795_000_000.0
ASKED = r"(?s)[Ee]xpected.*\. [A-Z]"


def csv_of(file, clock, value="joule", **options):
    return meters.load("csv")(
        {"path": str(file), "value": value, **options},
        monotonic=clock,
        epoch=lambda: EPOCH_S + clock(),
    )


class Logger:
    """Writes a line for each step of the clock, as a logger of its own does."""

    def __init__(self, file, clock, value, load, ahead_s=0.0, heading="time;value\n"):
        self.file, self.clock, self.value, self.load = file, clock, value, load
        self.ahead_s, self.begun_s = ahead_s, clock()
        file.write_text(heading)

    def write(self, delimiter=","):
        passed_s = self.clock() - self.begun_s
        shown = self.load.energy_j(passed_s) if self.value == "joule" else 0.0
        shown = shown if self.value == "joule" else self.load.power_w(passed_s)
        with self.file.open("a") as stream:
            time_s = EPOCH_S + self.clock() + self.ahead_s
            stream.write(f"{time_s:.6f}{delimiter}{shown:.6f}\n")


@pytest.mark.parametrize("value", ["joule", "watt"])
@pytest.mark.parametrize("ahead_s", [0.0, 3600.25])
def test_a_logged_window_of_a_minute_has_the_energy_of_the_load(tmp_path, value, ahead_s):
    clock, step_s = SimulatedClock(), 0.05
    logger = Logger(tmp_path / "log.csv", clock, value, Load(), ahead_s)
    logger.write()
    with csv_of(logger.file, clock, value, clock_offset_s=ahead_s) as meter:
        counter = Counter(meter.channels[0], 5000.0)
        for step in range(2000):
            clock.sleep(step_s)
            logger.write()
            if step % 20 == 7:
                counter.take(meter.read()[0])
    assert meter.channels[0].counts is (value == "joule")
    for offset_s in (2.2, 13.0, 30.7):
        start_s = logger.begun_s + offset_s
        truth_j = Load().energy_j(offset_s + 60) - Load().energy_j(offset_s)
        seen_j = counter.at_j(start_s + 60) - counter.at_j(start_s)
        assert abs(seen_j - truth_j) <= 2 * Load().most_w * step_s + 0.1 * 60
    assert meter.facts()["seconds_between_lines"] == pytest.approx(step_s, rel=1e-3)


def logged(tmp_path, text, clock=None):
    file, clock = tmp_path / "log.csv", clock or SimulatedClock(0.0)
    file.write_text(text)
    return file, clock


def test_the_part_of_a_line_that_is_not_written_yet_waits(tmp_path):
    file, clock = logged(tmp_path, f"t,j\n{EPOCH_S},5\n{EPOCH_S + 1},60")
    with csv_of(file, clock) as meter:
        assert meter.read()[0].energy_j == 5
        clock.sleep(2.0)
        with file.open("a") as stream:
            stream.write("0\n")
        (reading,) = meter.read()
        assert (reading.energy_j, reading.age_s) == (600, 1.0)
        assert reading.moment_s == clock() - 1.0
        clock.sleep(1.0)
        assert meter.read()[0].moment_s == reading.moment_s, "the same line, the same moment"


def test_a_file_that_stops_growing_is_unreachable_and_answers_when_it_grows_again(tmp_path):
    file, clock = logged(tmp_path, f"{EPOCH_S},5\n")
    with csv_of(file, clock, silent_s=4) as meter:
        clock.sleep(3.9)
        assert meter.read()[0].energy_j == 5
        clock.sleep(0.2)
        with pytest.raises(Unreachable, match="did not grow for 4 s"):
            meter.read()
        with file.open("a") as stream:
            stream.write(f"{EPOCH_S + clock()},9\n")
        assert meter.read()[0].energy_j == 9


def test_a_file_that_the_logger_begins_anew_is_read_from_its_start(tmp_path):
    file, clock = logged(tmp_path, f"{EPOCH_S},5\n{EPOCH_S},6\n")
    with csv_of(file, clock) as meter:
        clock.sleep(1.0)
        file.write_text(f"{EPOCH_S + 1},1\n")
        assert meter.read()[0].energy_j == 1
        clock.sleep(1.0)
        (tmp_path / "new.csv").write_text(f"{EPOCH_S + 2},3\n{EPOCH_S + 2},4\n")
        os.replace(tmp_path / "new.csv", file)
        assert meter.read()[0].energy_j == 4


@pytest.mark.parametrize(
    "added,fault,said",
    [
        ("x,y\n", BadAnswer, "has the line 'x,y'"),
        (f"{EPOCH_S - 5},7\n", BadAnswer, "goes back in time by 5 s"),
        (f"{EPOCH_S + 9},7\n", BadAnswer, "is 9.0 s in the future"),
        (f"{EPOCH_S + 0.1},nan\n", BadAnswer, "two numbers"),
    ],
)
def test_lines_that_are_no_reading_are_told(tmp_path, added, fault, said):
    file, clock = logged(tmp_path, f"# a remark\n{EPOCH_S},5\n")
    with csv_of(file, clock) as meter:
        with file.open("a") as stream:
            stream.write("# another\n\n" + added)
        with pytest.raises(fault, match=said) as told:
            meter.read()
        assert told.match(ASKED)


@pytest.mark.parametrize("content", [None, "", "time,joule\n"])
def test_a_file_without_a_line_of_numbers_is_unreachable(tmp_path, content):
    file, clock = tmp_path / "log.csv", SimulatedClock()
    if content is not None:
        file.write_text(content)
    with pytest.raises(Unreachable, match=ASKED), csv_of(file, clock):
        pytest.fail("it opened")


@pytest.mark.parametrize(
    "options",
    [
        {"value": "joule"},
        {"path": "x"},
        {"path": "x", "value": "kilowatt"},
        {"path": "x", "value": "joule", "columns": [0]},
        {"path": "x", "value": "joule", "component": "plug"},
        {"path": "x", "value": "joule", "clock_offset_s": "1 s"},
    ],
)
def test_what_the_file_holds_must_be_said(options):
    with pytest.raises(UserError, match="The meter csv has .*expected"):
        meters.load("csv")(options)


def test_other_columns_and_delimiters_are_read(tmp_path):
    file, clock = logged(tmp_path, f"a;b;c\n7;{EPOCH_S};12.5\n")
    with csv_of(file, clock, "watt", delimiter=";", columns=[1, 2], component="gpu") as meter:
        assert meter.read()[0].power_w == 12.5
        assert meter.channels[0].component == "gpu"
