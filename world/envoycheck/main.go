// Command envoycheck checks a configuration of Envoy with Envoy's own schema: every field must be known, and obey the
// rules that Envoy declares for it. It runs no Envoy. It is a separate module, since the schema is large.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"
)

func main() {
	if err := check(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var tree any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		return err
	}
	object, err := json.Marshal(tree)
	if err != nil {
		return err
	}
	var bootstrap bootstrapv3.Bootstrap
	if err := protojson.Unmarshal(object, &bootstrap); err != nil {
		return err
	}
	checked := 0
	if err := validate(&bootstrap, &checked); err != nil {
		return err
	}
	fmt.Println(checked, "messages with rules of their own were checked")
	return nil
}

// validate checks a message and the messages in its Any fields.
func validate(m proto.Message, checked *int) error {
	if rules, ok := m.(interface{ ValidateAll() error }); ok {
		if err := rules.ValidateAll(); err != nil {
			return err
		}
		*checked++
	}
	return protorange.Range(m.ProtoReflect(), func(values protopath.Values) error {
		last := values.Index(-1)
		// Range enters an Any itself, with a step of that kind.
		if last.Step.Kind() != protopath.AnyExpandStep {
			return nil
		}
		inner, ok := last.Value.Message().Interface().(interface{ ValidateAll() error })
		if !ok {
			return nil
		}
		*checked++
		return inner.ValidateAll()
	})
}
