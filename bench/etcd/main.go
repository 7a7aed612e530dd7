// Command etcd is etcd as its module has it, to be measured beside raft3d.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
