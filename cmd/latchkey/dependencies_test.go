package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestDependencies: packages that cost much and are of no use to a running service stay out of the shipped binary.
func TestDependencies(t *testing.T) {
	t.Parallel()
	forbidden := map[string]string{
		"golang.org/x/net/trace":      "the tag grpcnotrace leaves it out",
		"google.golang.org/grpc/xds":  "an Envoy client that nobody configures",
		"github.com/onsi":             "for tests",
		"github.com/stretchr/testify": "for tests",
		"pgregory.net/rapid":          "for tests",
		"testing":                     "for tests",
		"net/http/httptest":           "for tests",
		"go/parser":                   "for programs that read Go",
		"github.com/latchkey-auth/latchkey/internal/testenv": "for tests",
	}
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", "grpcnotrace", ".")
	text, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(text))
	if !slices.Contains(packages, "google.golang.org/grpc") {
		t.Fatalf("the list lacks what is there for sure: %q", packages)
	}
	for _, name := range packages {
		for path, why := range forbidden {
			if name == path || strings.HasPrefix(name, path+"/") {
				t.Errorf("cmd/latchkey imports %s: %s", name, why)
			}
		}
	}
}
