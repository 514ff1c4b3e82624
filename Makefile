# make help says what there is. Needed: Go, and a PostgreSQL or a way to one, which scripts/provide-postgres finds.

SHELL := /bin/sh

# The go command keeps what it downloads and builds in the home directory, and refuses to work without one.
ifeq ($(strip $(HOME)),)
export HOME := $(shell eval echo "~$$(id -un)")
endif

# Binaries that are run and thrown away need no stamp, which a checkout of another user cannot have.
GO_RUN := go run -buildvcs=false
LINT   := go tool -modfile=$(CURDIR)/tools/go.mod golangci-lint
# The race detector wants a C compiler; without one the tests run, and say that they do so without it.
RACE    = $(shell command -v "$$(go env CC)" >/dev/null && echo -race || echo 'No C compiler: the tests run without the race detector.' >&2)

# The examples that bring dependencies of their own are modules of their own.
MODULES = . $(dir $(wildcard examples/*/go.mod))

# with-postgres runs a command with what it must know of the server.
with-postgres = server=$$(scripts/provide-postgres) && eval "$$server" &&

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show this help
	@echo 'soultribe: make <target>'
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo 'The tests and the quickstart find a PostgreSQL by themselves: SOULTRIBE_TEST_DATABASE_URL, else a container,'
	@echo 'else the one that is installed. make test ARGS="-run Match -v" passes flags to go test.'

.PHONY: quickstart
quickstart: ## Run the story of two people who meet (on DATABASE_URL, when set)
	@if [ -z "$$DATABASE_URL" ]; then $(with-postgres) :; fi && $(GO_RUN) ./examples/quickstart

.PHONY: test
test: ## Run all tests, with the race detector
	@server=$$(scripts/provide-postgres pgbouncer) && eval "$$server" && for module in $(MODULES); do (cd "$$module" && go test $(RACE) -timeout 30m $(ARGS) ./...) || exit; done

.PHONY: test-container
test-container: export SOULTRIBE_TEST_SERVER := container
test-container: test ## Run all tests on a container, or fail

.PHONY: test-local
test-local: export SOULTRIBE_TEST_SERVER := local
test-local: test ## Run all tests on the PostgreSQL that is installed, or fail

.PHONY: attack
attack: ## Attack the rules that the database keeps, and print what came of it
	@$(with-postgres) SOULTRIBE_ATTACK_SECONDS=$${SOULTRIBE_ATTACK_SECONDS:-8} go test -run '^TestAttack' -v -count=1 -parallel 1 -timeout 1h $(ARGS) .

# Servers that are to be killed are processes of ours.
.PHONY: faults
faults: export SOULTRIBE_TEST_SERVER := local
faults: ## Kill servers, clients and connections while clients write, and print what came of it (minutes)
	@$(with-postgres) SOULTRIBE_FAULT_ROUNDS=$${SOULTRIBE_FAULT_ROUNDS:-20} go test $(RACE) -run '^(TestFaults|TestBlackHole|TestLostAnswers)$$' -v -count=1 -timeout 1h $(ARGS) .

.PHONY: audit
audit: ## Search the rows of the database at DATABASE_URL for those that break a rule
	@$(GO_RUN) ./cmd/soultribe audit $(ARGS)

.PHONY: model
model: ## Run the model of the state machines for minutes
	@$(with-postgres) SOULTRIBE_MODEL_CHECKS=$${SOULTRIBE_MODEL_CHECKS:-5000} go test -run '^TestModel$$' -count=1 -timeout 1h -v $(ARGS) .

# lib/pq refuses the password of the tests' container, which is hashed for speed.
.PHONY: bench
bench: export SOULTRIBE_TEST_SERVER := local
bench: ## Compare with hand-written pgx, GORM, ent, bun, sqlx and sqlc, and write bench/RESULTS.md (minutes)
	@$(with-postgres) cd bench && $(GO_RUN) . $(ARGS)

.PHONY: bench-test
bench-test: export SOULTRIBE_TEST_SERVER := local
bench-test: ## See that all that is compared returns and stores the same
	@$(with-postgres) cd bench && go vet ./... && go test $(ARGS) ./...

.PHONY: bench-scale
bench-scale: ## Measure with up to a million people, and write bench/SCALE.md (minutes)
	@$(with-postgres) cd bench && $(GO_RUN) ./scale $(ARGS)

.PHONY: examples
examples: ## Run every example program
	@$(with-postgres) for example in examples/*/; do echo "== $$example" && (cd "$$example" && $(GO_RUN) .) || exit; done

.PHONY: cover
cover: ## Run all tests and print how much of the library they cover
	@$(with-postgres) go test $(ARGS) -coverprofile=coverage.out \
		-coverpkg="$$(go list ./... | grep -Ev '/(internal|examples)(/|$$)' | paste -sd, -)" ./...
	@go tool cover -func=coverage.out | tail -n 1

.PHONY: format
format: ## Format the Go code
	@gofmt -w $$(git ls-files --cached --others --exclude-standard '*.go')

.PHONY: lint
lint: ## Check format, go vet and the linters of .golangci.yaml
	@scripts/check-format
	@for module in $(MODULES) bench; do (cd "$$module" && go vet ./... && $(LINT) run) || exit; done
