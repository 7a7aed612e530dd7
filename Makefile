# For people who like make; each line works by itself too.

.PHONY: build run test ci

build:
	go build -o bin/raft3d ./cmd/raft3d

run: build
	GOREMAN_RPC_ADDR=127.0.0.1 go tool goreman start

test:
	go test ./...

ci:
	.ci/run
