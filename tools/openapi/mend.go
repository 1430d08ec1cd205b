package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// object is an object of JSON.
type object = map[string]any

const about = "Latchkey's calls as plain JSON over HTTP: POST the request to the path of the method. " +
	"Decide by `reason` in the details of an error, and not by its text. docs/http.md says more."

// security returns the schemes by class of callers.
func security() map[string]string {
	return map[string]string{
		"AUTH_CLASS_PUBLIC": "", "AUTH_CLASS_SESSION": "session", "AUTH_CLASS_ADMIN": "operatorKey", "AUTH_CLASS_SERVICE": "serviceKey",
	}
}

// mend changes the description to what the service does.
func mend(document object, files *protoregistry.Files) error {
	document["info"] = object{"title": "Latchkey", "version": "v1", "description": about}
	document["servers"] = []any{object{"url": "/"}}
	bearer := func(description string) object {
		return object{"type": "http", "scheme": "bearer", "description": description}
	}
	components, _ := document["components"].(object)
	schemas, _ := components["schemas"].(object)
	paths, _ := document["paths"].(object)
	if len(schemas) == 0 || len(paths) == 0 {
		return fmt.Errorf("%d schemas and %d paths", len(schemas), len(paths))
	}
	components["securitySchemes"] = object{
		"session":     bearer("An access token, or the account token if there is one."),
		"operatorKey": bearer("A key of an operator (LATCHKEY_ADMIN_KEY_SHA256)."),
		"serviceKey":  bearer("A key of a service (LATCHKEY_SERVICE_KEY_SHA256)."),
	}
	for path, item := range paths {
		operation, ok := item.(object)["post"].(object)
		if !ok {
			return fmt.Errorf("%s has no post", path)
		}
		name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(path, "/"), "/", "."))
		found, err := files.FindDescriptorByName(name)
		if err != nil {
			return err
		}
		// Connect over HTTP/1.1 has no streams of the client, so ImportUsers is on the gRPC port alone.
		if method, ok := found.(protoreflect.MethodDescriptor); !ok || method.IsStreamingClient() {
			delete(paths, path)
			continue
		}
		if err := mendOperation(operation, name, files); err != nil {
			return err
		}
	}
	// A decoded detail is also "any object", the first choice, so that it matches two.
	detail, _ := schemas["connect.error_details.Any"].(object)
	properties, _ := detail["properties"].(object)
	debug, ok := properties["debug"].(object)
	if !ok || debug["oneOf"] == nil {
		return errors.New("the details of errors are described in another way")
	}
	debug["anyOf"] = debug["oneOf"]
	delete(debug, "oneOf")
	sortTags(document)
	mendTexts(document)
	for _, schema := range schemas {
		openUp(schema)
	}
	return nil
}

// sortTags puts the services in one order: that of the generator changes from run to run.
func sortTags(document object) {
	tags, _ := document["tags"].([]any)
	name := func(tag any) string {
		named, _ := tag.(object)
		text, _ := named["name"].(string)
		return text
	}
	slices.SortFunc(tags, func(a, b any) int { return strings.Compare(name(a), name(b)) })
}

func mendOperation(operation object, method protoreflect.FullName, files *protoregistry.Files) error {
	class, err := authClass(files, method)
	if err != nil {
		return err
	}
	scheme, known := security()[class]
	if !known {
		return fmt.Errorf("%s: nobody said how callers of %s prove who they are", method, class)
	}
	if scheme != "" {
		operation["security"] = []any{object{scheme: []any{}}}
	}
	// The service takes plain JSON without it.
	parameters, _ := operation["parameters"].([]any)
	for _, parameter := range parameters {
		if parameter, ok := parameter.(object); ok && parameter["name"] == "Connect-Protocol-Version" {
			delete(parameter, "required")
		}
	}
	return nil
}

// openUp takes additionalProperties away: the service ignores fields of requests that it does not know, answers may get
// new ones, and beside allOf it refuses every message with a oneof.
func openUp(node any) {
	switch node := node.(type) {
	case object:
		if node["additionalProperties"] == false {
			delete(node, "additionalProperties")
		}
		for _, child := range node {
			openUp(child)
		}
	case []any:
		for _, child := range node {
			openUp(child)
		}
	}
}

// rule is a line that the generator adds to a description for a rule in CEL.
var rule = regexp.MustCompile(`(?m)^[\w.]+ = true // (.*)$`)

// mendTexts joins the lines of comments and shows rules as a list.
func mendTexts(node any) {
	switch node := node.(type) {
	case object:
		for key, child := range node {
			if text, ok := child.(string); ok && (key == "description" || key == "summary") {
				text = strings.ReplaceAll(text, "\n ", "\n")
				node[key] = strings.TrimSpace(rule.ReplaceAllString(text, "- $1"))
				continue
			}
			mendTexts(child)
		}
	case []any:
		for _, child := range node {
			mendTexts(child)
		}
	}
}
