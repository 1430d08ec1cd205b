// Package migrations carries the goose migrations in the binary.
package migrations

import "embed"

// FS holds the migrations, NNNNN_name.sql at its root.
//
//go:embed *.sql
var FS embed.FS
