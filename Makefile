# Aliases. `npm start` and `npm test` are the commands; with a container engine `up` and `down` use compose.yml.
.DEFAULT_GOAL := help
.PHONY: help up down test

engine = docker info > /dev/null 2>&1 && docker compose version > /dev/null 2>&1

help:
	@echo 'make up    the whole saga: docker compose where an engine answers, else npm start (until Ctrl-C)'
	@echo 'make down  ends what make up began'
	@echo 'make test  all tests'

up:
	@if $(engine); then docker compose up --build --detach --wait; else npm start; fi

down:
	@if $(engine); then docker compose down; else node dist/bin/payments.js local down; fi

test:
	@npm test
