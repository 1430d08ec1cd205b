package config

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/caarlos0/env/v11"
)

// Print writes every setting in force, one a line: its value, its source (environment or default) and its
// meaning. Of secrets it only writes whether they are set.
func (c *Config) Print(w io.Writer, environ []string) error {
	values := env.ToMap(environ)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range fields() {
		name, from := f.variable(), "default"
		if values[name] != "" || values[name+"_FILE"] != "" {
			from = "environment"
		}
		value := f.printable(reflect.ValueOf(c).Elem().FieldByIndex(f.Index))
		if from == "default" && value != "(unset)" && standardName(name, values) {
			from = "environment"
		}
		if _, err := fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", name, value, from, f.tag("doc")); err != nil {
			return err
		}
	}
	return table.Flush()
}

// standardName reports whether the setting came from DATABASE_URL or REDIS_URL.
func standardName(name string, values map[string]string) bool {
	short, _ := strings.CutPrefix(name, "LATCHKEY_")
	return (short == "DATABASE_URL" || short == "REDIS_URL") && values[short] != ""
}

func (f field) printable(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case SecretKey:
		if len(value) == 0 {
			return "(unset)"
		}
		return "(set)"
	case Peppers:
		if len(value) == 0 {
			return "(unset)"
		}
		return fmt.Sprintf("(%d set)", len(value))
	case OldSecret:
		if len(value) == 0 {
			return "(unset)"
		}
		return "(set)"
	case Key:
		if value == "" {
			return "(unset)"
		}
		return "(set)"
	case time.Time:
		if value.IsZero() {
			return "(unset)"
		}
		return value.Format(time.RFC3339)
	case URL:
		if value != "" {
			return value.Redacted()
		}
	case RedisURL:
		if !value.IsZero() {
			return value.Redacted()
		}
	default:
		if text := fmt.Sprint(value); text != "" {
			return text
		}
	}
	return "(unset)"
}

// Unknown lists variables that begin with LATCHKEY_ and are not settings: most likely they are misspelt.
// Those that Kubernetes sets for a service named latchkey are left out.
func Unknown(environ []string) []string {
	known := make(map[string]bool)
	for _, f := range fields() {
		known[f.variable()] = true
		known[f.variable()+"_FILE"] = f.tag("secret") != ""
	}
	var unknown []string
	for name := range env.ToMap(environ) {
		ours := strings.HasPrefix(name, "LATCHKEY_")
		kubernetes := strings.HasPrefix(name, "LATCHKEY_PORT") || strings.HasPrefix(name, "LATCHKEY_SERVICE_PORT") || name == "LATCHKEY_SERVICE_HOST"
		if ours && !kubernetes && !known[name] {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}
