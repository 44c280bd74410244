"""What every rule script shares."""

import pytest

from joules.core.errors import UserError
from joules.core.reporting import reporting


def test_lines_go_to_the_log_and_to_standard_error(tmp_path, capsys):
    with reporting(tmp_path / "logs" / "a.log") as report:
        report("one")
        report("two")
    assert (tmp_path / "logs" / "a.log").read_text() == "one\ntwo\n"
    assert capsys.readouterr() == ("", "one\ntwo\n")


def test_without_a_log_lines_go_to_standard_error(capsys):
    with reporting(None) as report:
        report("one")
    assert capsys.readouterr().err == "one\n"


def test_an_error_of_the_user_is_one_line_and_exit_status_1(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught, reporting(tmp_path / "a.log"):
        raise UserError("x was given; expected y; do z")
    assert caught.value.code == 1
    assert (tmp_path / "a.log").read_text() == "error: x was given; expected y; do z\n"
    assert "Traceback" not in capsys.readouterr().err


def test_any_other_error_leaves_its_traceback_in_the_log(tmp_path):
    with pytest.raises(ZeroDivisionError), reporting(tmp_path / "a.log"):
        print(1 / 0)
    log = (tmp_path / "a.log").read_text()
    assert log.startswith("Traceback")
    assert "ZeroDivisionError" in log
