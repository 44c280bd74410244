"""What the article says of each arm: what was asked of it, what it shows, what it cannot hold."""

import dataclasses
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import UNSET

from joules.core.arms import AS_INSTALLED
from joules.core.inference import OWN_CHOICE, Scalar, Settings
from joules.core.record import Record
from joules.write.arm_words import OWN_CHOICE_HIDDEN, OWN_CHOICE_SHOWN, value_words
from joules.write.claims_file import HeldSetting, StudiedArm, StudiedRuntime

EACH_ITS_OWN = "each arm its own"  # asked where no arm has the study's value


def arms_are_named(records: Iterable[Record]) -> bool:
    """Return whether any record is of an arm that is more than its runtime by its own name."""
    return any(
        record.arm is not None
        and (record.arm.name != record.runtime.name or record.arm.settings or record.arm.options)
        for record in records
    )


def stated_settings(records: Sequence[Record]) -> list[str]:
    """Return the names of the settings that any record asks for or shows, in alphabetical order.

    One that was no setting yet when the records were made is none of them.
    """
    names = (field.name for field in dataclasses.fields(Settings))
    return sorted(name for name in names if any(_is_stated(name, record) for record in records))


def _is_stated(setting: str, record: Record) -> bool:
    asked = getattr(record.settings, setting)
    return asked is not None or record.settings_in_force.get(setting) is not None


def _of_its_own(setting: str, record: Record) -> bool:
    """Return whether the arm of a record has another value of a setting than the study."""
    if record.arm is None:
        return False
    if record.arm.settings == AS_INSTALLED:
        return setting in OWN_CHOICE
    return setting in record.arm.settings


def _value_of(values: Iterable[Scalar]) -> Scalar:
    """Return the one value; where models differ, the values in words."""
    different = list(dict.fromkeys(values))
    return different[0] if len(different) == 1 else " or ".join(map(str, different))


def asked_of(setting: str, records: Sequence[Record]) -> Scalar:
    """Return the study's value of a setting; where models differ, the values in words.

    Arms that choose it themselves, or state another one, say nothing of it.
    """
    holding = [record for record in records if not _of_its_own(setting, record)]
    if not holding:
        return EACH_ITS_OWN
    return _value_of(getattr(record.settings, setting) for record in holding)


def _shown(setting: str, record: Record) -> Scalar:
    value = record.settings_in_force.get(setting)
    return value_words(value) if isinstance(value, list) else value


def _how_held(setting: str, record: Record) -> str:
    own = _of_its_own(setting, record)
    if own and getattr(record.settings, setting) is None:
        shown = _shown(setting, record)
        return OWN_CHOICE_HIDDEN if shown is None else f"{value_words(shown)}, {OWN_CHOICE_SHOWN}"
    if setting in record.runtime.cannot_hold:
        return "cannot hold"
    how = "observed" if setting in record.settings_in_force else "unobservable"
    return f"{value_words(getattr(record.settings, setting))}, {how}" if own else how


def settings_held(records: Sequence[Record]) -> list[HeldSetting]:
    """Return one entry per setting: what was asked, and how each arm held it.

    `observed`: the runtime shows the value that was asked for; `cannot hold`: it has no such
    setting, or another fixed value; `unobservable`: it was told, and shows nothing. A value before
    the word is one that the arm alone was asked for; of what a runtime chose itself, the value that
    it shows is given.
    """
    return [
        HeldSetting(
            setting=setting,
            asked=asked_of(setting, records),
            runtimes={record.arm_name: _how_held(setting, record) for record in records},
        )
        for setting in stated_settings(records)
    ]


def _studied_arm(own: Sequence[Record], settings: Sequence[str]) -> StudiedArm:
    record = own[-1]
    arm = record.arm
    chosen = arm is not None and arm.settings == AS_INSTALLED
    stated = {} if arm is None or isinstance(arm.settings, str) else arm.settings
    shown = [name for name in settings if _shown(name, record) is not None]
    return StudiedArm(
        runtime=record.runtime.name,
        runtime_label=record.runtime.label,
        as_installed=chosen,
        stated=dict(stated),
        options={} if arm is None else arm.options,
        asked={name: _value_of(getattr(each.settings, name) for each in own) for name in settings},
        in_force={name: _value_of(_shown(name, each) for each in own) for name in shown},
    )


def studied_runtimes(records: Sequence[Record]) -> dict[str, StudiedRuntime]:
    """Return what is compared, by its name; `records` are one of each model and arm."""
    settings, named = stated_settings(records), arms_are_named(records)
    found = {}
    for record in records:
        own = [each for each in records if each.arm_name == record.arm_name]
        facts = msgspec.structs.asdict(record.runtime)
        found[record.arm_name] = StudiedRuntime(
            **facts | {"name": record.arm_name, "label": record.arm_label},
            version=str(record.runtime.facts.get("version", "")),
            unobservable=sorted(set(settings) - set(record.settings_in_force)),
            arm=_studied_arm(own, settings) if named else UNSET,
        )
    return found
