// Go's own resolver as a client, without the C library.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	resolver := net.Resolver{PreferGo: true}
	for _, name := range os.Args[1:] {
		addresses, err := resolver.LookupHost(context.Background(), name)
		var failed *net.DNSError
		switch {
		case err == nil:
			fmt.Println(name, strings.Join(addresses, " "))
		case errors.As(err, &failed) && failed.IsNotFound:
			fmt.Println(name, "NONAME")
		default:
			fmt.Println(name, "AGAIN", err)
		}
	}
}
