package server

import (
	"context"
	"slices"
	"testing"
)

// TestOrderOfMiddleware checks that a server whose middleware is in another order, or incomplete, does not start.
func TestOrderOfMiddleware(t *testing.T) {
	t.Parallel()
	s := &Server{}
	chain := s.chain()
	if err := checkChain(chain); err != nil {
		t.Fatal(err)
	}
	for i := range chain {
		if err := checkChain(slices.Delete(slices.Clone(chain), i, i+1)); err == nil {
			t.Errorf("without %q", chain[i].stage)
		}
		if err := checkChain(append(slices.Clone(chain), chain[i])); err == nil {
			t.Errorf("twice %q", chain[i].stage)
		}
		if i == 0 || chain[i].stage == stageMetrics {
			continue // neither the log nor the metrics need the other
		}
		swapped := slices.Clone(chain)
		swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
		if err := checkChain(swapped); err == nil {
			t.Errorf("%q outside %q", chain[i].stage, chain[i-1].stage)
		}
	}
}

// TestChainRunsInOrder checks that each step is around the next one, and all are around the handler.
func TestChainRunsInOrder(t *testing.T) {
	t.Parallel()
	var got []string
	step := func(name string) middleware {
		return middleware{run: func(ctx context.Context, c *rpc) error {
			got = append(got, name)
			defer func() { got = append(got, "/"+name) }()
			return c.next(ctx)
		}}
	}
	c := &rpc{rest: []middleware{step("a"), step("b")}, unaryHandler: func(context.Context, any) (any, error) {
		got = append(got, "handler")
		return "answer", nil
	}}
	if err := c.next(t.Context()); err != nil || c.response != "answer" {
		t.Fatal(c.response, err)
	}
	if want := []string{"a", "b", "handler", "/b", "/a"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
