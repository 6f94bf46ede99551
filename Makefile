# Aliases for npm start and npm test; with a container engine `up` and `down` use compose.yml.
.DEFAULT_GOAL := help
.PHONY: help up down test observe

engine = docker info > /dev/null 2>&1 && docker compose version > /dev/null 2>&1

help:
	@echo 'make up    the whole saga: docker compose if a container engine runs, else npm start (until Ctrl-C)'
	@echo 'make down  stops what make up started'
	@echo 'make observe  make up in containers, with Prometheus, Grafana (localhost:3000) and traces (localhost:3001)'
	@echo 'make test  all tests'
	@echo
	@echo 'npm start            the saga on this machine, until Ctrl-C'
	@echo 'npm run dev          the services, restarted when a file of src/ changes'
	@echo 'npm test             the suite'
	@echo 'npm run nodes        the program under Node 22, 24 and 26'
	@echo 'npm run prove        the proofs: crash points, faults, bad input, models'
	@echo 'npm run chaos        random faults under load: -- --minutes 3 --seed 7'
	@echo 'npm run bench        the benchmark: -- --help'
	@echo 'npm run check        types and Effect diagnostics'
	@echo 'npm run lint         lint and format; npm run lint:fix corrects what it can'
	@echo 'npm run containers   the image and compose.yml, one order played through, where a container engine answers'
	@echo 'npm run sbom         the bill of materials of what is shipped (CycloneDX)'
	@echo '.ci/run              every gate, the suite and all but the long proofs'
	@echo './payments --help    the command line'

up:
	@if $(engine); then docker compose up --build --detach --wait; else npm start; fi

observe:
	OTEL_EXPORTER_OTLP_ENDPOINT=http://telemetry:4318 docker compose --profile observability up --build --detach --wait

down:
	@if $(engine); then docker compose --profile observability down; else node dist/bin/payments.js local down; fi

test:
	@npm test
