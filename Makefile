# The commands of this checkout. make, make help: what there is.
PYTHON ?= python3
hash := \#
quoted = '$(subst ','\'',$(1))'
# Where this file lies: the longest end of the list that exists, as make's own functions split a path at its blanks.
ROOT := $(shell list=$(call quoted,$(MAKEFILE_LIST)); \
	until [ -e "$$list" ] || [ "$$list" = "$${list$(hash)* }" ]; do list="$${list$(hash)* }"; done; \
	CDPATH= cd -- "$$(dirname -- "$$list")" && pwd)/
IN := cd $(call quoted,$(ROOT)) &&
RUN := .local/venv/bin/python
# Every task is a process of its own: compiled modules are kept, beside everything else that is set up.
export PYTHONPYCACHEPREFIX := $(ROOT).local/bytecode
unexport PYTHONDONTWRITEBYTECODE

help:  ## show this
	@$(IN) grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

install:  ## set the checkout up (the other commands do it by themselves)
	@$(IN) $(PYTHON) demo/install.py demo

install-tests:
	@$(IN) $(PYTHON) demo/install.py tests

demo: install  ## run the platform and Airflow; ONESHOT=1: one operating day, then stop; SCALE=10: more data
	@$(IN) $(if $(SCALE),SCALE=$(SCALE)) exec $(RUN) -m demo $(if $(ONESHOT),--oneshot)

test: install-tests  ## run every check and test; ARGS="-k name" narrows it down
	@$(IN) exec $(RUN) -m tests $(ARGS)

test-versions: install-tests  ## run the tests that depend on PostgreSQL's version on 13, 14, 16 and 17; ONLY=14 on one
	@$(IN) $(RUN) -m tests.postgres_versions $(ONLY)

test-kills: install-tests  ## kill pruning and log rotation 200 times each at random moments and look for a lost row or line
	@$(IN) PRUNE_KILLS=200 LOG_ROTATION_KILLS=200 exec $(RUN) -m tests -n0 -o timeout=3600 -k kill tests/include/maintenance/pruning tests/include/maintenance/logs

check-platform: install  ## compare a platform's database with the source contract
	@$(IN) $(RUN) -m include.platform check

docs: install-tests  ## write the generated documentation again
	@$(IN) $(RUN) -m tests.docs

bench: install-tests  ## measure against peers; ONLY=name runs one
	@$(IN) $(RUN) -m benchmarks $(ONLY)

lock:  ## write constraints.txt again after a change of a requirements.txt
	@$(IN) if [ ! -x $(RUN) ]; then $(PYTHON) demo/install.py tests; fi && $(RUN) -m tests.lock

format: install-tests  ## format and fix the code
	@$(IN) $(RUN) -m ruff format . && $(RUN) -m ruff check --fix .

.PHONY: help install install-tests demo test test-versions test-kills check-platform docs bench lock format
