# Aliases. `npm start` and `npm test` are the commands; with a container engine `up` and `down` use compose.yml.
.DEFAULT_GOAL := help
.PHONY: help up down test

engine = docker info > /dev/null 2>&1 && docker compose version > /dev/null 2>&1

help:
	@echo 'make up    the whole saga: docker compose where an engine answers, else npm start (until Ctrl-C)'
	@echo 'make down  ends what make up began'
	@echo 'make test  all tests'
	@echo
	@echo 'npm start            the saga on this machine, until Ctrl-C'
	@echo 'npm run dev          the services, started again when a file of src/ changes'
	@echo 'npm test             the suite'
	@echo 'npm run prove        the proofs: crash points, faults, bad input, models'
	@echo 'npm run chaos        faults at random under load: -- --minutes 3 --seed 7'
	@echo 'npm run bench        the benchmark: -- --help'
	@echo 'npm run check        types'
	@echo 'npm run lint         lint and format; npm run lint:fix mends what it can'
	@echo '.ci/run              every gate, the suite and the proofs'
	@echo './payments --help    the command line'

up:
	@if $(engine); then docker compose up --build --detach --wait; else npm start; fi

down:
	@if $(engine); then docker compose down; else node dist/bin/payments.js local down; fi

test:
	@npm test
