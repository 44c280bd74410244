"""A scripted meter, and readings of a device whose power is known: 80 W, counted in steps."""

import math

from joules.meters.meter import Channel, Reading
from joules.meters.polled import Entry, Polled

WATTS = 80.0
COUNTING = Channel("wall", "plug", "switch 0", None, resolution_j=3.6, update_interval_s=1.0)
POWER_ALONE = Channel("wall", "plug", "switch 0", None, counts=False)


class Device:
    """A meter that shows what it is told to, and counts how it is used."""

    LABEL, DESCRIPTION, COMPONENTS = "scripted", "It is scripted.", ("wall",)
    ALWAYS_READ = ANSWERS_AT_ONCE = False

    def __init__(self, channel=COUNTING, open_fault=None, answers=None):
        self.channels = [channel]
        self.open_fault, self.answers = open_fault, answers
        self.opened = self.asked = self.closed = 0

    def facts(self):
        return {"model": "scripted", "emulated": True}

    def __enter__(self):
        self.opened += 1
        if self.open_fault:
            raise self.open_fault
        return self

    def __exit__(self, *exception):
        self.closed += 1

    def read(self):
        self.asked += 1
        return self.answers()


def counted(moment_s, watts=WATTS, step_j=3.6):
    """Return what a counter shows that steps when a step is full."""
    return Reading(moment_s, math.floor(watts * moment_s / step_j + 1e-9) * step_j)


def polled(readings, channel=COUNTING, every_s=1.0):
    """Return a meter that was read: it is not started, so that the clock is ours."""
    meter = Polled(Entry("wall", "scripted", every_s), Device(channel))
    meter._settle()
    for reading in readings:
        meter._take([reading])
    return meter
