# The front door. HYPERKUBE_DATA=<dir> names the node's data directory (default .hyperkube).
DATA = $(or $(HYPERKUBE_DATA),$(CURDIR)/.hyperkube)
SEEDS ?= 10000
FUZZ_SECONDS ?= 300
VM ?=
.DEFAULT_GOAL := help
.PHONY: help run stop clean-node test check unit machine vm bench world fuzz attack

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' Makefile | expand -t 20

run: ## set up what is missing, build, run a node (API server and kubelet) with an example pod (Ctrl-C stops it)
	@scripts/run.sh

stop: ## stop the node and its containerd; the pods keep running
	@scripts/stop.sh

clean-node: ## end the node with its pods and remove every trace of it
	@scripts/containerd.sh clean "$(DATA)"

test: ## set up what is missing, then everything CI runs
	@scripts/test.sh

check: ## formatting, lints, tidy
	@scripts/test.sh check

unit: ## unit and simulation tests
	@scripts/test.sh unit

machine: ## tests on a private containerd
	@scripts/test.sh machine

vm: ## experiment: machine tests in an emulated machine with cgroup v2 (slow; no test of CI)
	@scripts/vm.sh $(VM)

bench: ## figures of this machine: the kubelet alone and in a cluster beside the runtime's floor (BENCH=--quick: a short look)
	@scripts/setup.sh
	@cargo build --release --locked -p hyperkube
	@cargo build --release --locked -p bench -p testkit
	@$(or $(CARGO_TARGET_DIR),target)/release/bench $(BENCH)

attack: ## attacks on the release binary, each with its bound (half an hour; ATTACK=--quick: minutes; ATTACK="--only kills")
	@scripts/setup.sh
	@[ -n "$(HYPERKUBE_BIN)" ] || cargo build --release --locked -p hyperkube
	@cargo build --release --locked -p attack
	@$(or $(CARGO_TARGET_DIR),target)/release/attack $(ATTACK)

world: ## the seeded simulation: make world SEEDS=100000
	@cargo run --locked -p world -- --seeds $(SEEDS)

fuzz: ## changed inputs to every reader of what comes from outside: make fuzz FUZZ_SECONDS=300 (for each)
	@cargo run --profile fuzz --locked -p fuzz -- all --seconds $(FUZZ_SECONDS)
