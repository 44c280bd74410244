"""What this machine can do, and what is in the way of the configured study. Writes nothing.

Every finding has a mark: `ok`, `note` (worth knowing; the study can start), `blocks`. With one that
blocks, the exit status is 1.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

from rich.text import Text

from joules.commands import command_line, machine_findings, study_findings
from joules.commands.cost import most_gpu_layers
from joules.commands.findings import Finding, attempt
from joules.commands.needs import makings
from joules.commands.screen import Screen
from joules.core.reading import LoadedStudy, load_study
from joules.core.sense import check_sense
from joules.core.wording import number_of
from joules.machine import machine_state, surroundings

STYLES = {"ok": "green", "note": "yellow", "blocks": "bold red"}


def examine(loaded: LoadedStudy) -> Iterator[Finding]:
    """Yield every finding about this machine and the study, in the order of the report."""
    study = loaded.study
    yield attempt("study", lambda: check_sense(study, loaded.catalogue, loaded.root))
    arms = study.compared.values()
    asked = [arm.asked(study.settings) for arm in arms if not arm.as_installed]
    yield from machine_findings.processor(*asked)
    models = [study_findings.model(loaded, name) for name in study.models]
    states = [state for _, state in models if state is not None]
    yield machine_findings.memory(states)
    yield from machine_findings.disks(loaded, states)
    yield from machine_findings.clocks(machine_state.observe())
    yield machine_findings.virtual(machine_state.virtualisation())
    yield attempt("surroundings", lambda: in_surroundings(loaded))
    yield machine_findings.background(study.limits)
    own_settings = attempt("CodeCarbon", machine_findings.hidden_settings)
    yield own_settings
    if own_settings.mark == "ok":
        yield from machine_findings.energy(study)
    own_choice = any(arm.as_installed for arm in arms)
    yield from machine_findings.gpu(most_gpu_layers(study), own_choice)
    yield attempt("sandbox", machine_findings.tight)
    for made in makings(study):
        yield from study_findings.runtime(loaded, made)
    yield from (finding for finding, _ in models)


def in_surroundings(loaded: LoadedStudy) -> str:
    """Return that neither variables nor paths are in the way, or raise UserError."""
    surroundings.refuse()
    surroundings.check_paths(loaded.root)
    return "no variable and no path is in the way"


def conclusion(name: str, findings: Sequence[Finding]) -> str:
    """Return in a sentence whether the study of that name can start."""
    blocking = list(dict.fromkeys(f.what for f in findings if f.mark == "blocks"))
    if blocking:
        return f"The study `{name}` cannot start here: {', '.join(blocking)}."
    notes = sum(finding.mark == "note" for finding in findings)
    return f"The study `{name}` can start here ({number_of(notes, 'note')})."


def act(options: argparse.Namespace) -> int:
    """Print the report; return 0 when the study could start, 1 when not."""
    loaded = load_study(options.config or None)
    study, screen = loaded.study, Screen()
    named = [f"model {name}" for name in study.models]
    named += [study_findings.subject(study, made) for made in makings(study)]
    width = max(16, *map(len, named))
    findings = []
    for finding in examine(loaded):
        findings.append(finding)
        mark = Text(f"{finding.mark:<7}", style=STYLES[finding.mark])
        screen.print(mark + Text(f"{finding.what:<{width}}  {finding.text}"))
    screen.print(Text(conclusion(study.study, findings), style="bold"))
    blocked = any(finding.mark == "blocks" for finding in findings)
    return command_line.NOT_SO if blocked else command_line.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Examine the machine for a study; see `command_line` for the exit status."""
    command = command_line.Command("doctor", __doc__, "make doctor [CONFIG=FILE]")
    command.add_study()
    return command_line.run(command, arguments, act)


if __name__ == "__main__":
    sys.exit(main())
