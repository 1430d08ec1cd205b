// Package migrations has the goose migrations inside the binary.
package migrations

import "embed"

// FS holds the migrations, NNNNN_name.sql at its root.
//
//go:embed *.sql
var FS embed.FS
